// Which workers could do a task: shared by leasing, by the verdict over failing tasks, and by what a person is told.
#ifndef NSIC_COORDINATOR_FIND_WORKERS_H_
#define NSIC_COORDINATOR_FIND_WORKERS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/db/database.h"
#include "coordinator/db/tasks.h"
#include "coordinator/farm.h"

namespace nsic {

// Answers within one transaction, remembering what it has looked up.
class WorkerFinder {
 public:
  WorkerFinder(const Farm& farm, Transaction& transaction);

  // Connected workers that may be given this model's tasks: those that are not blocked for their failures, or all, when every one is: a
  // block must not stop a farm of one.
  const std::vector<int64_t>& Eligible(const std::string& model_id, const std::optional<std::string>& root_id);

  // Eligible, and has not failed on the task, unless every eligible worker has.
  bool MayTake(int64_t worker_id, const TaskRow& task);

 private:
  Transaction& transaction_;
  const int64_t now_ms_;
  const int64_t seen_since_ms_;
  std::map<std::pair<std::string, std::optional<std::string>>, std::vector<int64_t>> found_;
};

}  // namespace nsic

#endif  // NSIC_COORDINATOR_FIND_WORKERS_H_
