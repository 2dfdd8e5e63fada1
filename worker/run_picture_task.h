// One task's way through the worker: fetch, load, decode | compute | finish. Each step runs on the thread of its stage.
#ifndef NSIC_WORKER_RUN_PICTURE_TASK_H_
#define NSIC_WORKER_RUN_PICTURE_TASK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/base/cancel.h"
#include "core/base/clock.h"
#include "core/base/geometry.h"
#include "core/base/status.h"
#include "core/infer/engine.h"
#include "core/media/picture.h"
#include "nsic/v1/work.pb.h"
#include "worker/fetch_source.h"
#include "worker/measure_speed.h"
#include "worker/memory_budget.h"
#include "worker/model_shelf.h"
#include "worker/worker_metrics.h"

namespace nsic {

// What all tasks use. Everything outlives them; all of it is thread-safe.
struct TaskTools {
  SourceFetcher* sources = nullptr;
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

std::string_view FailureClassName(v1::FailureClass failure_class);  // "bad_input", "worker_fault", "transient"

// Whether a decoder can go through this file row by row. False for progressive JPEG, interlaced PNG and the formats that are always decoded
// whole; also when the file cannot be read or makes no sense, which decoding will tell.
bool DecodesByRows(const std::string& path);

// Bytes that a task holds at its peak, the engine's own apart: the decoded window, the 16-bit result, and what a decoder that cannot go row
// by row keeps of the whole picture.
int64_t TaskMemoryBytes(const v1::PictureInfo& picture, bool by_rows, const Rect& window, const Rect& region, int network_scale);

// Not thread-safe: the stages hand it on. Each step returns why it failed, or nothing when it went well; after a failure the task has let
// go of everything. When cancel() is set a step may fail with any class: who cancelled knows what that means.
class PictureTask {
 public:
  PictureTask(v1::LeasedTask lease, const TaskTools* tools);
  ~PictureTask();  // removes the finished file
  PictureTask(const PictureTask&) = delete;
  PictureTask& operator=(const PictureTask&) = delete;

  const v1::LeasedTask& lease() const { return lease_; }
  const std::shared_ptr<CancelToken>& cancel() const { return cancel_; }
  // For messages and metrics.
  const std::string& model_name() const { return lease_.options().model_name(); }
  std::string what() const;  // "holiday/a.jpg" or "holiday/a.jpg (512x512 at 0,0)"

  std::optional<TaskFailure> Prepare();
  std::optional<TaskFailure> Compute();
  std::optional<TaskFailure> Finish();

  // After Finish(): where the output lies, and all of the result but the output's hash and size.
  const std::string& output_path() const { return output_path_; }
  const v1::TaskResult& result() const { return result_; }

 private:
  std::optional<TaskFailure> Step(const std::function<std::optional<TaskFailure>()>& step);
  std::optional<TaskFailure> FetchSource();
  std::optional<TaskFailure> LoadModel();
  std::optional<TaskFailure> Decode();
  void LetGo();
  TaskFailure Failure(v1::FailureClass failure_class, const Status& status) const;

  const v1::LeasedTask lease_;
  const TaskTools* const tools_;
  const std::shared_ptr<CancelToken> cancel_;
  const bool whole_;
  Rect region_;  // in source pixels

  std::unique_ptr<SourceHandle> source_;
  std::shared_ptr<Enhancer> enhancer_;
  std::unique_ptr<MemoryBudget::Reservation> memory_;
  std::unique_ptr<PictureReader> reader_;
  std::unique_ptr<WorkingPicture> working_;
  std::string output_path_;
  v1::TaskResult result_;
  double prepare_seconds_ = 0;
  double finish_seconds_ = 0;
};

}  // namespace nsic

#endif  // NSIC_WORKER_RUN_PICTURE_TASK_H_
