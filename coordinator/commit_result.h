// Takes in what workers say of their leases: results, failures, what they give back.
//
// Computing is at least once, the effect exactly once: the first valid result wins in one transaction; replays and losers are told
// which output counts; late results of expired leases are accepted while the task is open; nothing replaces a result.
#ifndef NSIC_COORDINATOR_COMMIT_RESULT_H_
#define NSIC_COORDINATOR_COMMIT_RESULT_H_

#include "coordinator/db/database.h"
#include "coordinator/db/workers.h"
#include "coordinator/farm.h"
#include "core/base/status.h"
#include "nsic/v1/work.pb.h"

namespace nsic {

// Each call answers its own item by `status`; its own result is an error only when the whole transaction must be undone. `changed` says
// that this call, not an earlier one, ended the attempt.
Status CommitResult(const Farm& farm, Transaction& transaction, const WorkerRow& worker, const v1::CompletedItem& item,
                    v1::ItemStatus* status, bool* changed);
Status TakeFailure(const Farm& farm, Transaction& transaction, const WorkerRow& worker, const v1::FailedItem& item, v1::ItemStatus* status,
                   bool* changed);
Status TakeRelease(const Farm& farm, Transaction& transaction, const WorkerRow& worker, const std::string& token, v1::ItemStatus* status);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_COMMIT_RESULT_H_
