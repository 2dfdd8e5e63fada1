#include "coordinator/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <map>
#include <utility>
#include <vector>

#include "coordinator/db/attempts.h"
#include "coordinator/db/database.h"
#include "coordinator/db/jobs.h"
#include "coordinator/db/models.h"
#include "coordinator/db/tasks.h"
#include "coordinator/db/workers.h"
#include "coordinator/farm.h"
#include "core/farm/blob_store.h"

namespace nsic {
namespace {

const prometheus::Histogram::BucketBoundaries kRpcBuckets = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                                             0.25,   0.5,   1,      2.5,   5,    10,    30,   60};
const prometheus::Histogram::BucketBoundaries kTaskBuckets = {0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600};

prometheus::MetricFamily Gauge(const std::string& name, const std::string& help) {
  prometheus::MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = prometheus::MetricType::Gauge;
  return family;
}

void AddValue(prometheus::MetricFamily* family, int64_t value, const std::string& label = "", const std::string& label_value = "") {
  prometheus::ClientMetric metric;
  metric.gauge.value = static_cast<double>(value);
  if (!label.empty()) metric.label.push_back({label, label_value});
  family->metric.push_back(std::move(metric));
}

// Reads the farm's state when Prometheus asks.
class FarmState : public prometheus::Collectable {
 public:
  explicit FarmState(const Farm* farm) : farm_(farm) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    auto tasks = Gauge("nsic_tasks", "Tasks by state.");
    auto jobs = Gauge("nsic_jobs", "Jobs by state.");
    auto leases = Gauge("nsic_leases_active", "Leases that workers hold.");
    auto workers = Gauge("nsic_workers_connected", "Workers that were heard of within a lease's time.");
    auto bytes = Gauge("nsic_blob_bytes", "Bytes of stored blobs and of uploads in flight.");
    auto quota = Gauge("nsic_blob_quota_bytes", "Bytes that blobs may take; 0: what the disk holds.");
    const Status status = farm_->database->Read([&](Transaction& transaction) {
      for (const TaskCount& count : CountTasks(transaction)) AddValue(&tasks, count.count, "state", std::string(Name(count.state)));
      for (const auto& [state, count] : CountJobs(transaction)) AddValue(&jobs, count, "state", state);
      AddValue(&leases, CountActiveAttempts(transaction));
      int64_t connected = 0;
      for (const WorkerRow& worker : ListWorkers(transaction)) connected += worker.last_seen_ms >= farm_->seen_since_ms() ? 1 : 0;
      AddValue(&workers, connected);
      return OkStatus();
    });
    if (!status.ok()) {
      spdlog::error("metrics: {}", status.ToString());
      return {};
    }
    const BlobStore::Usage usage = farm_->blobs->usage();
    AddValue(&bytes, usage.used());
    AddValue(&quota, usage.quota);
    return {tasks, jobs, leases, workers, bytes, quota};
  }

 private:
  const Farm* const farm_;
};

}  // namespace

struct Metrics::Impl {
  std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
  prometheus::Family<prometheus::Counter>& rpcs =
      prometheus::BuildCounter().Name("nsic_rpc_requests_total").Help("Calls by method and status code.").Register(*registry);
  prometheus::Family<prometheus::Histogram>& latency =
      prometheus::BuildHistogram().Name("nsic_rpc_latency_seconds").Help("Time from call to reply.").Register(*registry);
  prometheus::Family<prometheus::Histogram>& durations =
      prometheus::BuildHistogram().Name("nsic_task_duration_seconds").Help("Time of finished tasks on their workers.").Register(*registry);
  prometheus::Family<prometheus::Counter>& megapixels =
      prometheus::BuildCounter().Name("nsic_megapixels_total").Help("Source megapixels of finished tasks.").Register(*registry);
  prometheus::Family<prometheus::Counter>& failures =
      prometheus::BuildCounter().Name("nsic_task_failures_total").Help("Failed attempts by class.").Register(*registry);
  prometheus::Counter& expirations =
      prometheus::BuildCounter().Name("nsic_lease_expirations_total").Help("Leases whose workers fell silent.").Register(*registry).Add({});
  // Destroyed before what it shows.
  std::shared_ptr<FarmState> state;
  std::unique_ptr<prometheus::Exposer> exposer;
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::CountRpc(std::string_view method, std::string_view code, double seconds) {
  impl_->rpcs.Add({{"method", std::string(method)}, {"code", std::string(code)}}).Increment();
  impl_->latency.Add({{"method", std::string(method)}}, kRpcBuckets).Observe(seconds);
}

void Metrics::CountDone(const std::string& worker, const std::string& model, double seconds, double megapixels) {
  impl_->durations.Add({{"model", model}}, kTaskBuckets).Observe(seconds);
  impl_->megapixels.Add({{"worker", worker}, {"model", model}}).Increment(megapixels);
}

void Metrics::CountFailure(const std::string& worker, const std::string& model, std::string_view failure_class) {
  impl_->failures.Add({{"worker", worker}, {"model", model}, {"class", std::string(failure_class)}}).Increment();
}

void Metrics::CountExpirations(int64_t count) { impl_->expirations.Increment(static_cast<double>(count)); }

Result<int> Metrics::Serve(const std::string& address, const Farm* farm) {
  try {
    impl_->exposer = std::make_unique<prometheus::Exposer>(address);
    impl_->state = std::make_shared<FarmState>(farm);
    impl_->exposer->RegisterCollectable(impl_->registry);
    impl_->exposer->RegisterCollectable(impl_->state);
    return impl_->exposer->GetListeningPorts().front();
  } catch (const std::exception& error) {
    return UnavailableError("cannot serve metrics at " + address + ": " + error.what() + "; is the port taken?");
  }
}

}  // namespace nsic
