#include "worker/worker_metrics.h"

#include <httplib.h>
#include <prometheus/text_serializer.h>

#include <charconv>
#include <chrono>
#include <system_error>
#include <thread>

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
                         .Help("Seconds spent in each stage (fetch, decode, compute, finish, score, upload); stages overlap")
                         .Register(*registry_)),
      busy_(prometheus::BuildGauge().Name("nsic_worker_busy").Help("1 while the engine computes, else 0").Register(*registry_).Add({})),
      device_seconds_(prometheus::BuildCounter()
                          .Name("nsic_worker_device_seconds_total")
                          .Help("Seconds for which the compute device worked (busy), or did not though a task was there (idle)")
                          .Register(*registry_)),
      device_busy_(device_seconds_.Add({{"state", "busy"}})),
      device_idle_(device_seconds_.Add({{"state", "idle"}})),
      errors_(prometheus::BuildCounter()
                  .Name("nsic_worker_errors_total")
                  .Help("Tasks that failed here, by model and class (bad_input, worker_fault, transient)")
                  .Register(*registry_)),
      tiles_redone_(prometheus::BuildCounter()
                        .Name("nsic_worker_tiles_redone_total")
                        .Help("Tiles computed again in fp32 because of NaN, Inf or flat output")
                        .Register(*registry_)),
      frames_(prometheus::BuildCounter().Name("nsic_worker_frames_total").Help("Frames of videos done").Register(*registry_)),
      frames_repeated_(prometheus::BuildCounter()
                           .Name("nsic_worker_frames_repeated_total")
                           .Help("Frames of those that were equal to the one before and took its result")
                           .Register(*registry_)),
      tiles_repeated_(prometheus::BuildCounter()
                          .Name("nsic_worker_tiles_repeated_total")
                          .Help("Tiles of the other frames that were not computed because their input had not changed")
                          .Register(*registry_)) {
  // All stages from the start: a rate() over a series that has just begun would miss its first value.
  for (const char* stage : {"fetch", "decode", "compute", "finish", "score", "upload"}) stage_seconds_.Add({{"stage", stage}});
}

// prometheus-cpp brings a server of its own, whose threads have stacks of 100 KiB. LibTorch and OpenBLAS claim so much thread-local
// storage, which lies on the stack, that no such thread can be made in this process.
class WorkerMetrics::Server {
 public:
  explicit Server(std::shared_ptr<prometheus::Registry> registry) {
    http_.new_task_queue = [] { return new httplib::ThreadPool(2); };
    http_.Get("/metrics", [registry = std::move(registry)](const httplib::Request&, httplib::Response& response) {
      response.set_content(prometheus::TextSerializer().Serialize(registry->Collect()), "text/plain; version=0.0.4");
    });
  }
  ~Server() {
    http_.stop();
    if (thread_.joinable()) thread_.join();
  }
  // The port; 0 when the address cannot be had.
  int Start(const std::string& host, int port) {
    const int bound = port == 0 ? http_.bind_to_any_port(host) : http_.bind_to_port(host, port) ? port : 0;
    if (bound <= 0) return 0;
    thread_ = std::thread([this] { http_.listen_after_bind(); });
    while (!http_.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // stop() before that does nothing
    return bound;
  }

 private:
  httplib::Server http_;
  std::thread thread_;
};

WorkerMetrics::~WorkerMetrics() = default;

Result<int> WorkerMetrics::Serve(const std::string& address) {
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon != std::string::npos) {
    const char* end = address.data() + address.size();
    const auto [rest, error] = std::from_chars(address.data() + colon + 1, end, port);
    if (error != std::errc() || rest != end) port = -1;
  }
  if (port < 0 || port > 65535) return InvalidArgumentError("--metrics wants HOST:PORT, not '" + address + "'");
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  server_ = std::make_unique<Server>(registry_);
  const int bound = server_->Start(host, port);
  if (bound == 0)
    return UnavailableError("cannot serve metrics on " + address + "; choose a free HOST:PORT of this machine with --metrics");
  return bound;
}

void WorkerMetrics::CountTask(const std::string& model, const std::string& result) {
  tasks_.Add({{"model", model}, {"result", result}}).Increment();
}

void WorkerMetrics::AddDone(const std::string& model, double megapixels, double seconds, int64_t tiles_redone) {
  megapixels_.Add({{"model", model}}).Increment(megapixels);
  task_seconds_.Add({{"model", model}}, TaskSecondsBuckets()).Observe(seconds);
  tiles_redone_.Add({{"model", model}}).Increment(static_cast<double>(tiles_redone));
}

void WorkerMetrics::AddFrames(const std::string& model, int frames, int frames_repeated, int64_t tiles_repeated) {
  frames_.Add({{"model", model}}).Increment(frames);
  frames_repeated_.Add({{"model", model}}).Increment(frames_repeated);
  tiles_repeated_.Add({{"model", model}}).Increment(static_cast<double>(tiles_repeated));
}

void WorkerMetrics::CountError(const std::string& model, const std::string& error_class) {
  errors_.Add({{"model", model}, {"class", error_class}}).Increment();
}

void WorkerMetrics::AddStageSeconds(const std::string& stage, double seconds) { stage_seconds_.Add({{"stage", stage}}).Increment(seconds); }

void WorkerMetrics::SetBusy(bool busy) { busy_.Set(busy ? 1 : 0); }

void WorkerMetrics::AddDeviceSeconds(double busy, double idle) {
  device_busy_.Increment(busy);
  device_idle_.Increment(idle);
}

}  // namespace nsic
