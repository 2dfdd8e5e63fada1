// Ends leases whose workers fell silent.
#ifndef NSIC_COORDINATOR_SWEEP_LEASES_H_
#define NSIC_COORDINATOR_SWEEP_LEASES_H_

#include <string>
#include <vector>

#include "coordinator/db/attempts.h"
#include "coordinator/db/database.h"
#include "coordinator/farm.h"
#include "core/base/status.h"

namespace nsic {

// Expires what is out of time. Call about once a second.
Status SweepLeases(const Farm& farm);

// Gives every open lease its full time again: while the coordinator was down, nobody could renew. Call at the start, before sweeping.
Status ExtendLeasesAfterStart(const Farm& farm);

// Expires these, of one or more workers; a worker is charged once a model.
Status ExpireAttempts(const Farm& farm, Transaction& transaction, std::vector<AttemptRow> attempts, const std::string& reason);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_SWEEP_LEASES_H_
