#include "worker/worker_metrics.h"

#include <prometheus/exposer.h>

#include <exception>

namespace nsic {
namespace {

const prometheus::Histogram::BucketBoundaries& TaskSecondsBuckets() {
  static const prometheus::Histogram::BucketBoundaries kBuckets = {0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500};
  return kBuckets;
}

}  // namespace

WorkerMetrics::WorkerMetrics()
    : registry_(std::make_shared<prometheus::Registry>()),
      tasks_(prometheus::BuildCounter()
                 .Name("nsic_worker_tasks_total")
                 .Help("Tasks that ended here, by model and result (done, failed, stopped, released)")
                 .Register(*registry_)),
      megapixels_(
          prometheus::BuildCounter().Name("nsic_worker_megapixels_total").Help("Source megapixels of the tasks done").Register(*registry_)),
      task_seconds_(prometheus::BuildHistogram()
                        .Name("nsic_worker_task_seconds")
                        .Help("Seconds of work on a task: fetch, decode, compute and finish, without waiting between them")
                        .Register(*registry_)),
      stage_seconds_(prometheus::BuildCounter()
                         .Name("nsic_worker_stage_seconds_total")
                         .Help("Seconds spent in each stage (fetch, decode, compute, finish, upload); stages overlap")
                         .Register(*registry_)),
      busy_(prometheus::BuildGauge().Name("nsic_worker_busy").Help("1 while the engine computes, else 0").Register(*registry_).Add({})),
      errors_(prometheus::BuildCounter()
                  .Name("nsic_worker_errors_total")
                  .Help("Tasks that failed here, by model and class (bad_input, worker_fault, transient)")
                  .Register(*registry_)),
      tiles_redone_(prometheus::BuildCounter()
                        .Name("nsic_worker_tiles_redone_total")
                        .Help("Tiles computed again in fp32 because of NaN, Inf or flat output")
                        .Register(*registry_)) {
  // All stages from the start: a rate() over a series that has just begun would miss its first value.
  for (const char* stage : {"fetch", "decode", "compute", "finish", "upload"}) stage_seconds_.Add({{"stage", stage}});
}

WorkerMetrics::~WorkerMetrics() = default;

Result<int> WorkerMetrics::Serve(const std::string& address) {
  try {
    exposer_ = std::make_unique<prometheus::Exposer>(address, 1);
  } catch (const std::exception& error) {
    return UnavailableError("cannot serve metrics on " + address + " (" + error.what() + "); choose a free HOST:PORT with --metrics");
  }
  exposer_->RegisterCollectable(registry_);
  const auto ports = exposer_->GetListeningPorts();
  return ports.empty() ? 0 : ports.front();
}

void WorkerMetrics::CountTask(const std::string& model, const std::string& result) {
  tasks_.Add({{"model", model}, {"result", result}}).Increment();
}

void WorkerMetrics::AddDone(const std::string& model, double megapixels, double seconds, int64_t tiles_redone) {
  megapixels_.Add({{"model", model}}).Increment(megapixels);
  task_seconds_.Add({{"model", model}}, TaskSecondsBuckets()).Observe(seconds);
  tiles_redone_.Add({{"model", model}}).Increment(static_cast<double>(tiles_redone));
}

void WorkerMetrics::CountError(const std::string& model, const std::string& error_class) {
  errors_.Add({{"model", model}, {"class", error_class}}).Increment();
}

void WorkerMetrics::AddStageSeconds(const std::string& stage, double seconds) { stage_seconds_.Add({{"stage", stage}}).Increment(seconds); }

void WorkerMetrics::SetBusy(bool busy) { busy_.Set(busy ? 1 : 0); }

}  // namespace nsic
