#include "coordinator/commit_result.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "coordinator/db/attempts.h"
#include "coordinator/db/blobs.h"
#include "coordinator/db/jobs.h"
#include "coordinator/db/tasks.h"
#include "coordinator/end_lease.h"
#include "core/base/digest.h"

namespace nsic {
namespace {

constexpr size_t kMaxMessage = 2000;
constexpr size_t kMaxLabel = 200;

void Answer(v1::ItemStatus* status, const Status& answer) {
  status->set_code(static_cast<int>(answer.code()));
  status->set_message(answer.message());
}

// The attempt and its task, if this worker may speak of them; else the answer is given.
struct Lease {
  AttemptRow attempt;
  TaskRow task;
};
std::optional<Lease> FindLease(Transaction& transaction, const WorkerRow& worker, const std::string& token, v1::ItemStatus* status) {
  std::optional<AttemptRow> attempt = FindAttempt(transaction, token);
  std::optional<TaskRow> task = attempt ? FindTask(transaction, attempt->task_id) : std::nullopt;
  if (!attempt || !task) {
    Answer(status, NotFoundError("no such lease; its job has been deleted"));
    return std::nullopt;
  }
  if (attempt->worker_id != worker.id) {
    Answer(status, PermissionDeniedError("this lease belongs to another worker"));
    return std::nullopt;
  }
  return Lease{*std::move(attempt), *std::move(task)};
}

Status CheckSegmentResult(FrameSpan frames, const v1::TaskResult& result) {
  if (result.frames() != frames.count) {
    return InvalidArgumentError("the result has " + std::to_string(result.frames()) + " frames; the segment has " +
                                std::to_string(frames.count));
  }
  if (result.frames_repeated() < 0 || result.frames_repeated() > frames.count || result.tiles_repeated() < 0) {
    return InvalidArgumentError("the result repeats more than it has");
  }
  int64_t before = int64_t{frames.first} - 1;
  for (const int32_t frame : result.frames_concealed()) {
    if (frame <= before || frame >= frames.end()) return InvalidArgumentError("the result conceals frames that are not the segment's");
    before = frame;
  }
  return OkStatus();
}

// Whether the result was made with the model that it had to be.
Status CheckModel(Transaction& transaction, const TaskRow& task, const v1::TaskResult& result) {
  const std::optional<JobRow> job = FindJob(transaction, task.job_id);
  v1::JobSpec spec;
  if (!job || !spec.ParseFromString(job->spec)) return InternalError("job " + task.job_id + " has no readable spec");
  std::string wanted = task.model_id;
  if (spec.options().auto_model() && task.step != TaskStep::kEncode) {
    if (result.recommendation().label().empty()) return InvalidArgumentError("the result does not say what was recommended");
    wanted.clear();
    for (const v1::Candidate& candidate : spec.options().candidates()) {
      if (candidate.label() == result.recommendation().label()) wanted = candidate.pack().model_id();
    }
  }
  if (result.model_id() == wanted) return OkStatus();
  return InvalidArgumentError("the result was made with another model than " + (wanted.empty() ? "none" : wanted));
}

Status CheckJudging(const TaskRow& task, const v1::TaskResult& result) {
  const auto is_score = [](double value) { return value >= 0 && value <= 100; };  // false for NaN
  const v1::Scores& scores = result.scores();
  if (!is_score(scores.before()) || !is_score(scores.after())) return InvalidArgumentError("the result's scores are not from 0 to 100");
  int64_t before = task.frames ? int64_t{task.frames->first} - 1 : 0;
  for (const v1::FrameScore& frame : scores.frames()) {
    if (!task.frames || frame.frame() <= before || frame.frame() >= task.frames->end()) {
      return InvalidArgumentError("the result scores frames that are not the segment's");
    }
    if (!is_score(frame.before()) || !is_score(frame.after())) return InvalidArgumentError("a frame's scores are not from 0 to 100");
    before = frame.frame();
  }
  const v1::Recommendation& recommendation = result.recommendation();
  if (!(recommendation.probability() >= 0 && recommendation.probability() <= 1) || recommendation.label().size() > kMaxLabel ||
      recommendation.model().size() > kMaxLabel || result.judging_error().size() > kMaxMessage) {
    return InvalidArgumentError("the result's recommendation is none");
  }
  return OkStatus();
}

Status CheckResult(Transaction& transaction, const TaskRow& task, const v1::TaskResult& result) {
  const auto is_amount = [](double value) { return std::isfinite(value) && value >= 0; };
  if (!IsSha256Hex(result.output().sha256())) return InvalidArgumentError("the result names no output blob");
  if (result.width() < 1 || result.height() < 1) return InvalidArgumentError("the result says no size of the output in pixels");
  NSIC_RETURN_IF_ERROR(CheckModel(transaction, task, result));
  NSIC_RETURN_IF_ERROR(CheckJudging(task, result));
  if (task.frames) NSIC_RETURN_IF_ERROR(CheckSegmentResult(*task.frames, result));
  if (!is_amount(result.seconds()) || !is_amount(result.compute_seconds())) return InvalidArgumentError("the result's times are no times");
  if (!IsStored(transaction, result.output().sha256())) {
    return FailedPreconditionError("output blob " + result.output().sha256() + " is not stored; upload it first");
  }
  return OkStatus();
}

// What the client is told of a segment that was restored in chunks: what was done to its frames, and how long all of it took.
Status AddChunks(const std::vector<Need>& chunks, v1::TaskResult* result) {
  result->set_frames_repeated(0);
  result->set_tiles_repeated(0);
  result->set_tiles_redone(0);
  result->clear_frames_concealed();
  result->clear_scores();
  result->clear_recommendation();
  result->clear_judging_error();
  std::set<std::string> precisions;
  for (const Need& need : chunks) {
    v1::TaskResult chunk;
    if (!chunk.ParseFromString(need.result)) return InternalError("a chunk has no readable result");
    result->set_seconds(result->seconds() + chunk.seconds());
    result->set_compute_seconds(result->compute_seconds() + chunk.compute_seconds());
    result->set_frames_repeated(result->frames_repeated() + chunk.frames_repeated());
    result->set_tiles_repeated(result->tiles_repeated() + chunk.tiles_repeated());
    result->set_tiles_redone(result->tiles_redone() + chunk.tiles_redone());
    result->mutable_frames_concealed()->MergeFrom(chunk.frames_concealed());
    precisions.insert(chunk.precision());
    result->set_model_id(chunk.model_id());
    result->mutable_scores()->mutable_frames()->MergeFrom(chunk.scores().frames());
    if (chunk.has_recommendation()) *result->mutable_recommendation() = chunk.recommendation();
    if (result->judging_error().empty()) result->set_judging_error(chunk.judging_error());
  }
  result->clear_precision();
  for (const std::string& precision : precisions) {
    result->set_precision(result->precision() + (result->precision().empty() ? "" : ", ") + precision);
  }
  if (result->scores().frames().empty()) {
    result->clear_scores();
    return OkStatus();
  }
  v1::Scores& scores = *result->mutable_scores();
  for (const v1::FrameScore& frame : scores.frames()) {
    scores.set_before(scores.before() + frame.before() / scores.frames_size());
    scores.set_after(scores.after() + frame.after() / scores.frames_size());
  }
  return OkStatus();
}

// The answer to a result that comes when the task has ended.
Status TooLate(const TaskRow& task) {
  switch (task.state) {
    case TaskState::kDone: return OkStatus();
    case TaskState::kCancelled: return CancelledError("the job was cancelled");
    default: return AbortedError("the task does not want this result any more");
  }
}

std::string Shortened(const std::string& message) {
  return message.size() <= kMaxMessage ? message : message.substr(0, kMaxMessage) + "...";
}

}  // namespace

Status CommitResult(const Farm& farm, Transaction& transaction, const WorkerRow& worker, const v1::CompletedItem& item,
                    v1::ItemStatus* status, bool* changed) {
  *changed = false;
  std::optional<Lease> lease = FindLease(transaction, worker, item.token(), status);
  if (!lease) return OkStatus();
  AttemptRow& attempt = lease->attempt;
  TaskRow& task = lease->task;
  const bool open = attempt.state == AttemptState::kActive || attempt.state == AttemptState::kExpired;
  if (!open || HasEnded(task.state)) {
    Answer(status, TooLate(task));
    status->set_stored_sha256(task.output_sha256);
    return OkStatus();
  }
  if (Status valid = CheckResult(transaction, task, item.result()); !valid.ok()) {
    Answer(status, valid);
    return OkStatus();
  }

  v1::TaskResult told = item.result();
  if (task.step == TaskStep::kEncode) NSIC_RETURN_IF_ERROR(AddChunks(ListNeeds(transaction, task.id), &told));
  TaskOutput output{item.result().output().sha256(), told.SerializeAsString(), std::nullopt, worker.name};
  // Rounding must not lead out of what the table takes.
  if (told.has_scores()) output.scores = ScorePair{std::min(told.scores().before(), 100.0), std::min(told.scores().after(), 100.0)};
  NSIC_RETURN_IF_ERROR(EndAttempt(transaction, &attempt, AttemptState::kSucceeded, false, "", farm.now_ms()));
  NSIC_RETURN_IF_ERROR(SupersedeAttempts(farm, transaction, task.id));
  NSIC_RETURN_IF_ERROR(MarkDone(transaction, &task, output, farm.now_ms()));
  for (TaskRow& twin : OpenTwins(transaction, task.result_key)) {
    NSIC_RETURN_IF_ERROR(MarkDone(transaction, &twin, output, farm.now_ms()));
  }
  CountTaskDone(transaction, worker.id);
  WorkerModelRow record = FindWorkerModel(transaction, worker.id, task.model_id);
  if (record.failures_in_row > 0 || record.blocked_until_ms > 0) {
    record.failures_in_row = 0;
    record.blocked_until_ms = 0;
    PutFailures(transaction, worker.id, record);
  }
  Answer(status, OkStatus());
  status->set_stored_sha256(output.sha256);
  *changed = true;
  return OkStatus();
}

Status TakeFailure(const Farm& farm, Transaction& transaction, const WorkerRow& worker, const v1::FailedItem& item, v1::ItemStatus* status,
                   bool* changed) {
  *changed = false;
  LeaseEnd end = LeaseEnd::kWorkerFault;
  switch (item.failure_class()) {
    case v1::FAILURE_CLASS_BAD_INPUT: end = LeaseEnd::kBadInput; break;
    case v1::FAILURE_CLASS_WORKER_FAULT: end = LeaseEnd::kWorkerFault; break;
    case v1::FAILURE_CLASS_TRANSIENT: end = LeaseEnd::kTransient; break;
    default: Answer(status, InvalidArgumentError("a failure needs a class")); return OkStatus();
  }
  std::optional<Lease> lease = FindLease(transaction, worker, item.token(), status);
  if (!lease) return OkStatus();
  Answer(status, OkStatus());
  const std::string message = item.message().empty() ? "worker " + worker.name + " gave no reason" : Shortened(item.message());
  if (lease->attempt.state == AttemptState::kActive) {
    *changed = true;
    return EndLease(farm, transaction, &lease->attempt, end, message, true);
  }
  // Late: the lease has been counted as expired already, but that the file is bad is news.
  const bool open = lease->task.state == TaskState::kQueued || lease->task.state == TaskState::kLeased;
  if (lease->attempt.state == AttemptState::kExpired && end == LeaseEnd::kBadInput && open) {
    *changed = true;
    return FailForBadInput(farm, transaction, &lease->task, message, worker.name);
  }
  return OkStatus();
}

Status TakeRelease(const Farm& farm, Transaction& transaction, const WorkerRow& worker, const std::string& token, v1::ItemStatus* status) {
  std::optional<Lease> lease = FindLease(transaction, worker, token, status);
  if (!lease) return OkStatus();
  Answer(status, OkStatus());
  if (lease->attempt.state != AttemptState::kActive) return OkStatus();
  return EndLease(farm, transaction, &lease->attempt, LeaseEnd::kReleased, "", false);
}

}  // namespace nsic
