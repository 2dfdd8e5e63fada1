// What the worker does with a lease: four steps, each on the thread of its stage. And what all kinds of tasks have in common.
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
#include "worker/judge_pictures.h"
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
  PictureJudge* judge = nullptr;
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
  // For metrics: of the model that the job names until one is chosen, "none" where none has to run.
  const std::string& model_name() const { return model_name_; }
  virtual std::string what() const = 0;  // "holiday/a.jpg", "holiday/a.jpg (512x512 at 0,0)", "b.mkv (frames 1 to 250)"

  MaybeFailure Prepare();
  MaybeFailure Compute();
  MaybeFailure Finish();
  void Score();  // cannot fail: what cannot be scored is restored all the same, and the result says why

  // After Finish(): where the output lies, and all of the result but the output's hash and size, and until
  // Score() the scores.
  const std::string& output_path() const { return output_path_; }
  const v1::TaskResult& result() const { return result_; }

 protected:
  Task(v1::LeasedTask lease, const TaskTools* tools);

  virtual MaybeFailure DoPrepare() = 0;
  virtual MaybeFailure DoCompute() = 0;
  virtual MaybeFailure DoFinish() = 0;
  virtual void DoScore() = 0;  // notes what goes wrong: NoteJudgingError
  // Drops what the task holds, without its enhancer, memory and output.
  virtual void Drop() = 0;

  // Parts of steps.
  MaybeFailure LoadModel();             // enhancer_; null where nothing is to repair
  MaybeFailure Reserve(int64_t bytes);  // memory_
  MaybeFailure MeasureSpeed();          // where nothing is known of this model's yet
  void DescribeResult();                // model, precision, device
  void NameOutput();                    // output_path_
  // Judging. The job's recommender chooses the model: then it must look before LoadModel.
  bool chooses_model() const { return lease_.options().auto_model(); }
  bool recommends() const { return lease_.options().has_recommender(); }
  bool scores() const { return lease_.options().has_scorer(); }
  // Puts down what the recommender says of the source, and takes the model for it if it is to choose one. `look` is called unless a task of
  // the same file was here lately.
  struct Verdict {
    Classes classes;
    MaybeFailure failure;  // of loading the recommender; or of looking: `look_failed`
    Status look_failed;
  };
  Verdict Recommend(const std::function<Result<Classes>(Classifier*)>& look);
  Result<double> ScoreOf(Size picture, const ReadPixels& read);
  void NoteJudgingError(const Status& status);  // OK is none; the first stays

  const v1::LeasedTask lease_;
  const TaskTools* const tools_;
  const std::shared_ptr<CancelToken> cancel_;
  v1::PackRef model_;  // that runs; without an identity: none
  std::shared_ptr<Enhancer> enhancer_;
  std::unique_ptr<MemoryBudget::Reservation> memory_;
  std::string output_path_;
  v1::TaskResult result_;
  // What the task was, for the books; 0 of one that says nothing of the model's speed.
  double megapixels_ = 0;
  // Of the steps, of which those of neighbouring tasks overlap.
  struct StepSeconds {
    double prepare = 0;
    double compute = 0;
    double finish = 0;
    double score = 0;
  };
  StepSeconds seconds_;

 private:
  std::string model_name_;
  void RecordDone();
  MaybeFailure Step(const std::function<MaybeFailure()>& step);
  TaskFailure OutOfMemory();
  void LetGo();
};

}  // namespace nsic

#endif  // NSIC_WORKER_TASK_H_
