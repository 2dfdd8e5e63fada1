#include "coordinator/report_job.h"

#include <algorithm>
#include <optional>

#include "coordinator/db/models.h"
#include "coordinator/db/tasks.h"
#include "coordinator/db/workers.h"
#include "core/farm/blob_store.h"

namespace nsic {
namespace {

// Well below a message's limit: the job is in the same message.
constexpr size_t kMaxOutcomeBytes = 4 << 20;

v1::JobState StateOf(const JobRow& row) {
  if (row.state == "running") return v1::JOB_STATE_RUNNING;
  if (row.state == "succeeded") return v1::JOB_STATE_SUCCEEDED;
  if (row.state == "failed") return v1::JOB_STATE_FAILED;
  return v1::JOB_STATE_CANCELLED;
}

v1::TaskEnd EndOf(TaskState state) {
  switch (state) {
    case TaskState::kDone: return v1::TASK_END_DONE;
    case TaskState::kFailed: return v1::TASK_END_FAILED;
    case TaskState::kCancelled: return v1::TASK_END_CANCELLED;
    default: return v1::TASK_END_UNSPECIFIED;
  }
}

}  // namespace

std::string WaitingReason(const Farm& farm, Transaction& transaction, const JobRow& row) {
  if (!row.running() || row.leased > 0) return "";
  if (row.paused) return "paused";
  std::vector<WorkerRow> connected = ListWorkers(transaction);
  connected.erase(std::remove_if(connected.begin(), connected.end(),
                                 [&](const WorkerRow& worker) { return worker.last_seen_ms < farm.seen_since_ms(); }),
                  connected.end());
  if (connected.empty()) return "no worker is connected";
  if (std::all_of(connected.begin(), connected.end(), [](const WorkerRow& worker) { return worker.draining; })) {
    return "every worker is draining";
  }
  if (row.queued == 0) return "waiting for uploads";

  const QueueSummary queue = SummarizeQueue(transaction, row.id, farm.now_ms());
  if (queue.ready == 0) {
    const int64_t seconds = (queue.next_ready_ms - farm.now_ms() + 999) / 1000;
    return "trying again in " + std::to_string(seconds) + " s after: " + queue.last_error;
  }
  if (!farm.blobs->HasRoom()) return "the coordinator's storage is full: fetch finished outputs, delete old jobs or raise --quota";
  std::optional<std::string> unread;
  for (const std::optional<std::string>& root : queue.roots) {
    const std::vector<CapableWorker> capable = CapableWorkers(transaction, row.model_id, root, farm.seen_since_ms(), farm.now_ms());
    if (!capable.empty()) return "other jobs go first";
    if (root) unread = root;
  }
  if (unread && CapableWorkers(transaction, row.model_id, std::nullopt, farm.seen_since_ms(), farm.now_ms()).size() > 0) {
    return "no worker can read the media root " + *unread;
  }
  const std::optional<ModelRow> model = FindModel(transaction, row.model_id);
  return "every worker is blocked from the model " + (model && !model->name.empty() ? model->name : row.model_id);
}

Result<v1::Job> DescribeJob(const Farm& farm, Transaction& transaction, const JobRow& row) {
  v1::Job job;
  job.set_job_id(row.id);
  if (!job.mutable_spec()->ParseFromString(row.spec)) return InternalError("job " + row.id + " has no readable spec");
  job.mutable_spec()->set_priority(row.priority);  // as it is now
  job.set_state(StateOf(row));
  job.set_paused(row.paused);
  job.set_created_ms(row.created_ms);
  job.set_ended_ms(row.ended_ms);
  job.set_tasks_waiting(row.waiting);
  job.set_tasks_queued(row.queued);
  job.set_tasks_leased(row.leased);
  job.set_tasks_done(row.done);
  job.set_tasks_failed(row.failed);
  job.set_tasks_cancelled(row.cancelled);
  job.set_pixels_total(row.pixels_total);
  job.set_pixels_done(row.pixels_done);
  if (row.scored > 0) {
    job.mutable_scores()->set_files(row.scored);
    job.mutable_scores()->set_before(row.score_before / row.scored);
    job.mutable_scores()->set_after(row.score_after / row.scored);
  }
  job.set_waiting_reason(WaitingReason(farm, transaction, row));
  return job;
}

Result<v1::Job> DescribeJob(const Farm& farm, Transaction& transaction, const std::string& job_id) {
  const std::optional<JobRow> row = FindJob(transaction, job_id);
  if (!row) return NotFoundError("no job " + job_id + "; 'nsic-client jobs' lists those there are");
  return DescribeJob(farm, transaction, *row);
}

Result<std::vector<v1::TaskOutcome>> DescribeOutcomes(Transaction& transaction, const std::string& job_id, int64_t after, int limit) {
  std::vector<v1::TaskOutcome> outcomes;
  size_t bytes = 0;
  for (const OutcomeRow& row : ListOutcomes(transaction, job_id, after, limit)) {
    v1::TaskOutcome outcome;
    outcome.set_sequence(row.sequence);
    outcome.set_task_id(row.task_id);
    outcome.set_file_index(row.file_index);
    if (row.region) {
      outcome.mutable_region()->set_x(row.region->x);
      outcome.mutable_region()->set_y(row.region->y);
      outcome.mutable_region()->set_width(row.region->width);
      outcome.mutable_region()->set_height(row.region->height);
    }
    if (row.frames) {
      outcome.mutable_frames()->set_first(row.frames->first);
      outcome.mutable_frames()->set_count(row.frames->count);
    }
    outcome.set_parts(row.parts);
    outcome.set_end(EndOf(row.state));
    if (row.state == TaskState::kDone && !outcome.mutable_result()->ParseFromString(row.result)) {
      return InternalError("task " + std::to_string(row.task_id) + " has no readable result");
    }
    outcome.set_error(row.error);
    outcome.set_worker(row.worker);
    outcome.set_fetched(row.fetched);
    bytes += outcome.ByteSizeLong();
    if (!outcomes.empty() && bytes > kMaxOutcomeBytes) break;
    outcomes.push_back(std::move(outcome));
  }
  return outcomes;
}

}  // namespace nsic
