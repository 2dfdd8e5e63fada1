// An attempt ends without a result: what becomes of its task, and what is held against its worker.
#ifndef NSIC_COORDINATOR_END_LEASE_H_
#define NSIC_COORDINATOR_END_LEASE_H_

#include <string>

#include "coordinator/db/attempts.h"
#include "coordinator/db/database.h"
#include "coordinator/db/tasks.h"
#include "coordinator/farm.h"
#include "core/base/status.h"

namespace nsic {

enum class LeaseEnd {
  kBadInput,     // the file itself: the task fails at once
  kWorkerFault,  // counts against worker and task
  kTransient,    // again later; bounded, unless the coordinator's own storage is full
  kReleased,     // given back: counts for nothing
  kExpired,      // the worker fell silent: counts like a fault, and the task runs alone from now on
};

std::string_view Name(LeaseEnd end);  // as in metrics: "bad_input", ...

// Ends an active attempt. `charge_worker`: adds to the worker's failures in a row on the model (one silence counts once, however many
// leases it held). `message`: one sentence for a person.
Status EndLease(const Farm& farm, Transaction& transaction, AttemptRow* attempt, LeaseEnd end, const std::string& message,
                bool charge_worker);

// Fails a task that has not ended for its file, ending its active attempts.
Status FailForBadInput(const Farm& farm, Transaction& transaction, TaskRow* task, const std::string& message, const std::string& worker);

// Ends all active attempts at a task that has ended by other means.
Status SupersedeAttempts(const Farm& farm, Transaction& transaction, int64_t task_id);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_END_LEASE_H_
