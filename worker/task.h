// What the worker does with a lease: three steps, each on the thread of its stage. And what all kinds of tasks have in common.
#ifndef NSIC_WORKER_TASK_H_
#define NSIC_WORKER_TASK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/cancel.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/infer/engine.h"
#include "nsic/v1/work.pb.h"
#include "worker/fetch_source.h"
#include "worker/measure_speed.h"
#include "worker/memory_budget.h"
#include "worker/model_shelf.h"
#include "worker/range_source.h"
#include "worker/stopwatch.h"
#include "worker/worker_metrics.h"

namespace nsic {

// What all tasks use. Everything outlives them; all of it is thread-safe.
struct TaskTools {
  SourceFetcher* sources = nullptr;
  RangeReader* ranges = nullptr;
  ModelShelf* models = nullptr;
  MemoryBudget* memory = nullptr;
  SpeedBook* speeds = nullptr;
  WorkerMetrics* metrics = nullptr;
  const Clock* clock = nullptr;
  std::string outbox;  // folder for finished files
  std::string device;  // "cpu", "cuda:0"
};

struct TaskFailure {
  v1::FailureClass failure_class = v1::FAILURE_CLASS_UNSPECIFIED;
  std::string message;
};
using MaybeFailure = std::optional<TaskFailure>;  // of a step: why it failed, or nothing when it went well

std::string_view FailureClassName(v1::FailureClass failure_class);  // "bad_input", "worker_fault", "transient"

v1::FailureClass ClassOfInPlaceError(const Status& status);
v1::FailureClass ClassOfDownloadError(const Status& status);
v1::FailureClass ClassOfOutputError(const Status& status);  // of finishing and encoding

// Not thread-safe: the stages hand it on. After a failure the task has let go of everything. When cancel() is set a step may fail with
// any class: who cancelled knows what that means.
class Task {
 public:
  virtual ~Task();  // removes the finished file
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;

  const v1::LeasedTask& lease() const { return lease_; }
  const std::shared_ptr<CancelToken>& cancel() const { return cancel_; }
  // For messages and metrics.
  const std::string& model_name() const { return lease_.options().model_name(); }
  virtual std::string what() const = 0;  // "holiday/a.jpg", "holiday/a.jpg (512x512 at 0,0)", "b.mkv (frames 1 to 250)"

  MaybeFailure Prepare();
  MaybeFailure Compute();
  MaybeFailure Finish();

  // After Finish(): where the output lies, and all of the result but the output's hash and size.
  const std::string& output_path() const { return output_path_; }
  const v1::TaskResult& result() const { return result_; }

 protected:
  Task(v1::LeasedTask lease, const TaskTools* tools);

  virtual MaybeFailure DoPrepare() = 0;
  virtual MaybeFailure DoCompute() = 0;
  virtual MaybeFailure DoFinish() = 0;
  // Drops what the task holds, without its enhancer, memory and output.
  virtual void Drop() = 0;

  // Parts of steps.
  MaybeFailure LoadModel();             // enhancer_
  MaybeFailure Reserve(int64_t bytes);  // memory_
  MaybeFailure MeasureSpeed();          // where nothing is known of this model's yet
  void DescribeResult();                // model, precision, device
  void NameOutput();                    // output_path_
  // The seconds of the three steps, of which stages of neighbouring tasks overlap.
  void RecordDone(double megapixels, double prepare_seconds, double compute_seconds, double finish_seconds);

  const v1::LeasedTask lease_;
  const TaskTools* const tools_;
  const std::shared_ptr<CancelToken> cancel_;
  std::shared_ptr<Enhancer> enhancer_;
  std::unique_ptr<MemoryBudget::Reservation> memory_;
  std::string output_path_;
  v1::TaskResult result_;

 private:
  MaybeFailure Step(const std::function<MaybeFailure()>& step);
  void LetGo();
};

}  // namespace nsic

#endif  // NSIC_WORKER_TASK_H_
