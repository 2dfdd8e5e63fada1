#include "coordinator/sweep_leases.h"

#include <cstdint>
#include <set>
#include <tuple>
#include <utility>

#include "coordinator/db/tasks.h"
#include "coordinator/db/workers.h"
#include "coordinator/end_lease.h"
#include "coordinator/metrics.h"

namespace nsic {
namespace {

constexpr int kPerSweep = 1000;

}  // namespace

Status ExpireAttempts(const Farm& farm, Transaction& transaction, std::vector<AttemptRow> attempts, const std::string& reason) {
  std::set<std::pair<int64_t, std::string>> charged;
  for (AttemptRow& attempt : attempts) {
    const std::optional<TaskRow> task = FindTask(transaction, attempt.task_id);
    const std::optional<WorkerRow> worker = FindWorker(transaction, attempt.worker_id);
    if (!task || !worker) return InternalError("an attempt without a task or a worker");
    const bool charge = charged.emplace(worker->id, task->model_id).second;
    NSIC_RETURN_IF_ERROR(EndLease(farm, transaction, &attempt, LeaseEnd::kExpired, "worker " + worker->name + " " + reason, charge));
  }
  return OkStatus();
}

Status SweepLeases(const Farm& farm) {
  // Most sweeps find nothing: look without a write.
  size_t due = 0;
  NSIC_RETURN_IF_ERROR(farm.database->Read([&](Transaction& transaction) {
    due = ExpiredAttempts(transaction, farm.steady_ms(), 1).size();
    return OkStatus();
  }));
  if (due == 0) return OkStatus();

  std::vector<std::tuple<std::string, std::string>> expired;  // worker, model
  NSIC_RETURN_IF_ERROR(farm.database->Write([&](Transaction& transaction) {
    std::vector<AttemptRow> attempts = ExpiredAttempts(transaction, farm.steady_ms(), kPerSweep);
    for (const AttemptRow& attempt : attempts) {
      const std::optional<TaskRow> task = FindTask(transaction, attempt.task_id);
      const std::optional<WorkerRow> worker = FindWorker(transaction, attempt.worker_id);
      if (task && worker) expired.emplace_back(worker->name, task->model_id);
    }
    return ExpireAttempts(farm, transaction, std::move(attempts),
                          "was not heard of for " + std::to_string(farm.options.lease_ttl_ms / 1000) + " seconds");
  }));
  for (const auto& [worker, model] : expired) farm.metrics->CountFailure(worker, model, Name(LeaseEnd::kExpired));
  farm.metrics->CountExpirations(static_cast<int64_t>(expired.size()));
  return OkStatus();
}

Status ExtendLeasesAfterStart(const Farm& farm) {
  return farm.database->Write([&](Transaction& transaction) {
    ExtendAllAttempts(transaction, farm.steady_ms() + farm.options.lease_ttl_ms);
    return OkStatus();
  });
}

}  // namespace nsic
