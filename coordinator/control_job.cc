#include "coordinator/control_job.h"

#include <functional>
#include <optional>

#include "coordinator/db/attempts.h"
#include "coordinator/db/database.h"
#include "coordinator/db/jobs.h"
#include "coordinator/db/tasks.h"
#include "coordinator/end_lease.h"
#include "coordinator/report_job.h"

namespace nsic {
namespace {

// Changes a job in one transaction and tells how it stands then.
Result<v1::Job> ChangeJob(const Farm& farm, const std::string& job_id, const std::function<Status(Transaction&, const JobRow&)>& change) {
  v1::Job job;
  NSIC_RETURN_IF_ERROR(farm.database->Write([&](Transaction& transaction) -> Status {
    if (const std::optional<JobRow> row = FindJob(transaction, job_id)) NSIC_RETURN_IF_ERROR(change(transaction, *row));
    NSIC_ASSIGN_OR_RETURN(job, DescribeJob(farm, transaction, job_id));
    return OkStatus();
  }));
  return job;
}

}  // namespace

Result<v1::Job> CancelJob(const Farm& farm, const std::string& job_id) {
  return ChangeJob(farm, job_id, [&](Transaction& transaction, const JobRow& row) -> Status {
    if (!row.running()) return OkStatus();
    for (const TaskState state : {TaskState::kWaiting, TaskState::kQueued, TaskState::kLeased}) {
      for (TaskRow& task : TasksInState(transaction, row.id, state)) {
        if (state == TaskState::kLeased) NSIC_RETURN_IF_ERROR(SupersedeAttempts(farm, transaction, task.id));
        NSIC_RETURN_IF_ERROR(MarkCancelled(transaction, &task, farm.now_ms()));
      }
    }
    CancelJobRow(transaction, row.id, farm.now_ms());
    return OkStatus();
  });
}

Result<v1::Job> PauseJob(const Farm& farm, const std::string& job_id, bool paused) {
  return ChangeJob(farm, job_id, [&](Transaction& transaction, const JobRow& row) {
    if (row.running() && row.paused != paused) SetJobPaused(transaction, row.id, paused);
    return OkStatus();
  });
}

Result<v1::Job> RetryJob(const Farm& farm, const std::string& job_id) {
  return ChangeJob(farm, job_id, [&](Transaction& transaction, const JobRow& row) -> Status {
    std::vector<TaskRow> failed;
    if (row.state == "running" || row.state == "failed") failed = TasksInState(transaction, row.id, TaskState::kFailed);
    if (failed.empty()) return OkStatus();
    if (!row.running()) ReopenJob(transaction, row.id);
    for (TaskRow& task : failed) NSIC_RETURN_IF_ERROR(MarkRetried(transaction, &task));
    return OkStatus();
  });
}

Result<v1::Job> PrioritizeJob(const Farm& farm, const std::string& job_id, int32_t priority) {
  return ChangeJob(farm, job_id, [&](Transaction& transaction, const JobRow& row) {
    if (row.priority != priority) SetJobPriority(transaction, row.id, priority);
    return OkStatus();
  });
}

Status MarkJobFetched(const Farm& farm, const std::string& job_id, const std::vector<int64_t>& task_ids) {
  return farm.database->Write([&](Transaction& transaction) -> Status {
    if (!FindJob(transaction, job_id)) return NotFoundError("no job " + job_id);
    for (const int64_t id : task_ids) MarkFetched(transaction, job_id, id);
    return OkStatus();
  });
}

Status DeleteJob(const Farm& farm, const std::string& job_id) {
  return farm.database->Write([&](Transaction& transaction) -> Status {
    const std::optional<JobRow> row = FindJob(transaction, job_id);
    if (!row) return OkStatus();
    if (row->running()) return FailedPreconditionError("job " + job_id + " is running; cancel it first");
    DeleteJobRow(transaction, *row);
    return OkStatus();
  });
}

}  // namespace nsic
