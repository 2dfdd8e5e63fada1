// The worker: takes tasks from the coordinator and passes them through its stages, each on a thread of its own.
//
//   take (lease) -> prepare (fetch, load, decode) -> compute -> finish (encode) -> score -> deliver (upload, complete)
//
// The queues between them are short, so at any time about one task computes, one is ready and one is being made ready; the rest of a
// batch waits in `take`, from where it can be given back. A lease keeper renews everything held.
#ifndef NSIC_WORKER_WORK_LOOP_H_
#define NSIC_WORKER_WORK_LOOP_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "core/base/bounded_queue.h"
#include "core/base/cancel.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/rpc/blob_transfer.h"
#include "worker/blob_cache.h"
#include "worker/deliver_result.h"
#include "worker/fetch_source.h"
#include "worker/hold_session.h"
#include "worker/judge_pictures.h"
#include "worker/keep_leases.h"
#include "worker/measure_speed.h"
#include "worker/memory_budget.h"
#include "worker/model_shelf.h"
#include "worker/range_source.h"
#include "worker/task.h"
#include "worker/worker_metrics.h"

namespace nsic {

struct WorkerOptions {
  std::string coordinator;  // "host:port"
  std::string token;        // empty: none
  std::string name;
  std::string version;         // of the software
  std::string device = "cpu";  // resolved
  std::string device_name;
  int cores = 1;
  int threads = 1;                                 // that the engine has, on the CPU
  int64_t memory_bytes = 0;                        // of the machine, for display
  int64_t max_memory = 0;                          // bytes that this process should keep to
  std::string cache;                               // folder
  std::map<std::string, std::string> media_roots;  // id to folder
  int lease_wait_ms = 20'000;                      // how long the coordinator holds a call that finds no work
  // After Drain(), how long to go on trying to reach a coordinator that is away, or to wait for one that has no room.
  std::chrono::milliseconds drain_patience{30'000};
};

// How `max_memory` is divided. What is left after the program itself goes to the engine and to pictures.
struct MemoryShares {
  int64_t engine = 0;    // EngineOptions::memory_budget
  int64_t pictures = 0;  // decoded pictures and results
  int64_t weights = 0;   // of loaded models
};
inline constexpr int64_t kLeastMaxMemory = int64_t{768} << 20;
MemoryShares ShareMemory(int64_t max_memory);  // at least kLeastMaxMemory

class WorkLoop {
 public:
  // Opens the cache and the media roots; nothing is sent yet. `clock` and `metrics` must outlive the loop.
  static Result<std::unique_ptr<WorkLoop>> Make(WorkerOptions options, ModelLoaders loaders, const Clock* clock, WorkerMetrics* metrics);
  ~WorkLoop();

  // Works until drained: OK. Or until the coordinator refuses this worker: that status. Call once.
  Status Run();

  // Gives back what has not begun, finishes and delivers the rest; then Run() returns. Idempotent; from any thread.
  void Drain();

 private:
  // A task on its way, and what ends it.
  struct Held {
    std::unique_ptr<Task> task;
    int64_t leased_us = 0;  // when it came
    bool begun = false;     // guarded by WorkLoop::mutex_, as below: computing or later; then it is not given back
    bool given_back = false;
    std::optional<TaskFailure> failure;  // of the stage that has it
  };
  using HeldPtr = std::shared_ptr<Held>;

  WorkLoop(WorkerOptions options, ModelLoaders loaders, const Clock* clock, WorkerMetrics* metrics);

  void TakeTasks();
  void PrepareTasks();
  void ComputeTasks();
  void FinishTasks();
  void ScoreTasks();
  void DeliverTasks();
  void LeaveStage();  // each stage but the last, at its end: all of them put tasks into `ended_`

  Result<v1::LeaseResponse> Lease(const std::string& request_id, int wait_ms, const RetryPolicy& policy, const CancelToken& cancel);
  HeldPtr Hold(v1::LeasedTask lease);
  bool Begin(const HeldPtr& held);
  void Measure(const v1::Measure& measure);
  void Deliver(const HeldPtr& held);
  void Abandon();
  bool draining() const { return draining_.cancelled(); }

  const WorkerOptions options_;
  const Clock* const clock_;
  WorkerMetrics* const metrics_;
  const ModelLoaders loaders_;

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<BlobTransfer> transfer_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<BlobCache> cache_;
  std::unique_ptr<SourceFetcher> sources_;
  std::unique_ptr<RangeReader> ranges_;
  std::unique_ptr<ModelShelf> models_;
  std::unique_ptr<MemoryBudget> memory_;
  SpeedBook speeds_;
  PictureJudge judge_;
  TaskTools tools_;
  std::unique_ptr<Deliverer> deliverer_;
  std::unique_ptr<LeaseKeeper> keeper_;

  CancelToken draining_;
  CancelToken abandoned_;  // nothing more is delivered
  std::atomic<bool> coordinator_drains_{false};

  BoundedQueue<HeldPtr> waiting_{1};
  BoundedQueue<HeldPtr> prepared_{1};
  BoundedQueue<HeldPtr> computed_{1};
  BoundedQueue<HeldPtr> finished_{1};
  BoundedQueue<HeldPtr> ended_{64};  // results are files by then: many can wait while the coordinator is away
  std::atomic<int> stages_before_delivery_{5};

  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<HeldPtr> held_;  // guarded by mutex_
  bool delivered_all_ = false;
};

}  // namespace nsic

#endif  // NSIC_WORKER_WORK_LOOP_H_
