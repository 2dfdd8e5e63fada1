// What the worker tells Prometheus.
#ifndef NSIC_WORKER_WORKER_METRICS_H_
#define NSIC_WORKER_WORKER_METRICS_H_

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/status.h"

namespace nsic {

// Thread-safe.
class WorkerMetrics {
 public:
  WorkerMetrics();
  ~WorkerMetrics();

  // Serves them over HTTP on "host:port" until destroyed; returns the port, which the system chooses for port 0. Call at most once.
  Result<int> Serve(const std::string& address);

  // `result`: "done", "failed", "stopped" (no longer wanted) or "released".
  void CountTask(const std::string& model, const std::string& result);
  void AddDone(const std::string& model, double megapixels, double seconds, int64_t tiles_redone);
  // Of a segment done: its frames, how many of them repeated the one before, and the tiles that did so in the others.
  void AddFrames(const std::string& model, int frames, int frames_repeated, int64_t tiles_repeated);
  // `error_class`: "bad_input", "worker_fault" or "transient".
  void CountError(const std::string& model, const std::string& error_class);
  // `stage`: "fetch", "decode", "compute", "finish", "score" or "upload".
  void AddStageSeconds(const std::string& stage, double seconds);
  void SetBusy(bool busy);
  // How long the compute device worked, and how long it did not though a task was there: not decoded yet, or not encoded yet.
  void AddDeviceSeconds(double busy, double idle);

 private:
  const std::shared_ptr<prometheus::Registry> registry_;
  prometheus::Family<prometheus::Counter>& tasks_;
  prometheus::Family<prometheus::Counter>& megapixels_;
  prometheus::Family<prometheus::Histogram>& task_seconds_;
  prometheus::Family<prometheus::Counter>& stage_seconds_;
  prometheus::Gauge& busy_;
  prometheus::Family<prometheus::Counter>& device_seconds_;
  prometheus::Counter& device_busy_;
  prometheus::Counter& device_idle_;
  prometheus::Family<prometheus::Counter>& errors_;
  prometheus::Family<prometheus::Counter>& tiles_redone_;
  prometheus::Family<prometheus::Counter>& frames_;
  prometheus::Family<prometheus::Counter>& frames_repeated_;
  prometheus::Family<prometheus::Counter>& tiles_repeated_;
  class Server;
  std::unique_ptr<Server> server_;  // null: not served
};

}  // namespace nsic

#endif  // NSIC_WORKER_WORKER_METRICS_H_
