#include "coordinator/end_lease.h"

#include <optional>

#include "coordinator/db/workers.h"
#include "coordinator/find_workers.h"
#include "coordinator/judge_failure.h"
#include "core/farm/blob_store.h"

namespace nsic {
namespace {

AttemptState StateAfter(LeaseEnd end) {
  switch (end) {
    case LeaseEnd::kBadInput:
    case LeaseEnd::kWorkerFault:
    case LeaseEnd::kTransient: return AttemptState::kFailed;
    case LeaseEnd::kReleased: return AttemptState::kReleased;
    case LeaseEnd::kExpired: return AttemptState::kExpired;
  }
  return AttemptState::kFailed;
}

void ChargeWorker(const Farm& farm, Transaction& transaction, int64_t worker_id, const std::string& model_id) {
  WorkerModelRow row = FindWorkerModel(transaction, worker_id, model_id);
  ++row.failures_in_row;
  if (row.failures_in_row >= kBlockFailures) row.blocked_until_ms = farm.now_ms() + kBlockMs;
  PutFailures(transaction, worker_id, row);
}

std::string Times(int count) { return count == 1 ? "once" : std::to_string(count) + " times"; }

}  // namespace

std::string_view Name(LeaseEnd end) {
  switch (end) {
    case LeaseEnd::kBadInput: return "bad_input";
    case LeaseEnd::kWorkerFault: return "worker_fault";
    case LeaseEnd::kTransient: return "transient";
    case LeaseEnd::kReleased: return "released";
    case LeaseEnd::kExpired: return "expired";
  }
  return "";
}

Status SupersedeAttempts(const Farm& farm, Transaction& transaction, int64_t task_id) {
  for (AttemptRow& other : ActiveAttempts(transaction, task_id)) {
    NSIC_RETURN_IF_ERROR(EndAttempt(transaction, &other, AttemptState::kSuperseded, false, "", farm.now_ms()));
  }
  return OkStatus();
}

Status FailForBadInput(const Farm& farm, Transaction& transaction, TaskRow* task, const std::string& message, const std::string& worker) {
  NSIC_RETURN_IF_ERROR(SupersedeAttempts(farm, transaction, task->id));
  return MarkFailed(transaction, task, message, worker, farm.now_ms());
}

Status EndLease(const Farm& farm, Transaction& transaction, AttemptRow* attempt, LeaseEnd end, const std::string& message,
                bool charge_worker) {
  const bool counted = end == LeaseEnd::kWorkerFault || end == LeaseEnd::kExpired;
  NSIC_RETURN_IF_ERROR(EndAttempt(transaction, attempt, StateAfter(end), counted, message, farm.now_ms()));
  std::optional<TaskRow> task = FindTask(transaction, attempt->task_id);
  if (!task || task->state != TaskState::kLeased) return InternalError("an active attempt at a task that is not leased");
  const std::optional<WorkerRow> worker = FindWorker(transaction, attempt->worker_id);
  const std::string worker_name = worker ? worker->name : "";

  if (counted || end == LeaseEnd::kBadInput) CountTaskFailed(transaction, attempt->worker_id);
  if (counted && charge_worker) ChargeWorker(farm, transaction, attempt->worker_id, task->model_id);
  if (end == LeaseEnd::kBadInput) return FailForBadInput(farm, transaction, &*task, message, worker_name);

  if (counted) ++task->failures;
  if (end == LeaseEnd::kExpired) task->suspect = true;
  // A full store says nothing about the task: it waits for as long as that takes.
  if (end == LeaseEnd::kTransient && farm.blobs->HasRoom()) ++task->transients;
  if (end != LeaseEnd::kReleased) {
    task->error = message;
    task->worker = worker_name;
  }
  if (!ActiveAttempts(transaction, task->id).empty()) {
    UpdateRecord(transaction, *task);
    return OkStatus();
  }

  FailureRecord record;
  record.failures = task->failures;
  record.transients = task->transients;
  if (task->failures > 0) {
    record.failed_workers = CountFailedWorkers(transaction, task->id, task->record_from);
    WorkerFinder finder(farm, transaction);
    record.eligible_workers = static_cast<int>(finder.Eligible(task->model_id, task->root_id).size());
  }
  if (end != LeaseEnd::kReleased && IsPoison(record)) {
    const int failures = task->failures + task->transients;
    return MarkFailed(transaction, &*task, "given up after failing " + Times(failures) + "; the last time: " + message, worker_name,
                      farm.now_ms());
  }
  int64_t not_before_ms = 0;
  if (end == LeaseEnd::kTransient && task->transients == 0) {
    not_before_ms = farm.now_ms() + BackoffMs({0, 0, 0, 1});
  } else if (end != LeaseEnd::kReleased) {
    not_before_ms = farm.now_ms() + BackoffMs(record);
  }
  return MarkQueued(transaction, &*task, not_before_ms);
}

}  // namespace nsic
