#include "coordinator/find_workers.h"

#include <algorithm>

#include "coordinator/db/attempts.h"
#include "coordinator/db/workers.h"

namespace nsic {

WorkerFinder::WorkerFinder(const Farm& farm, Transaction& transaction)
    : transaction_(transaction), now_ms_(farm.now_ms()), seen_since_ms_(farm.seen_since_ms()) {}

const std::vector<int64_t>& WorkerFinder::Eligible(const std::string& model_id, const std::optional<std::string>& root_id) {
  const auto [it, inserted] = found_.try_emplace({model_id, root_id});
  if (!inserted) return it->second;
  const std::vector<CapableWorker> capable = CapableWorkers(transaction_, model_id, root_id, seen_since_ms_, now_ms_);
  const bool all_blocked = std::all_of(capable.begin(), capable.end(), [](const CapableWorker& worker) { return worker.blocked; });
  for (const CapableWorker& worker : capable) {
    if (all_blocked || !worker.blocked) it->second.push_back(worker.id);
  }
  return it->second;
}

bool WorkerFinder::MayTake(int64_t worker_id, const TaskRow& task) {
  const std::vector<int64_t>& eligible = Eligible(task.model_id, task.root_id);
  if (std::find(eligible.begin(), eligible.end(), worker_id) == eligible.end()) return false;
  if (task.failures == 0 || !HasFailedOn(transaction_, task.id, task.record_from, worker_id)) return true;
  return std::all_of(eligible.begin(), eligible.end(),
                     [&](int64_t other) { return HasFailedOn(transaction_, task.id, task.record_from, other); });
}

}  // namespace nsic
