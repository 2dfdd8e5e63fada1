// Chooses tasks for a worker and leases them to it.
#ifndef NSIC_COORDINATOR_LEASE_TASK_H_
#define NSIC_COORDINATOR_LEASE_TASK_H_

#include "coordinator/db/database.h"
#include "coordinator/db/workers.h"
#include "coordinator/farm.h"
#include "core/base/status.h"
#include "nsic/v1/work.pb.h"

namespace nsic {

// A batch is about so much work for the worker, as fast as it has measured itself to be.
inline constexpr double kBatchSeconds = 60;
inline constexpr int kMaxBatch = 64;

// Fills `response`; empty when there is nothing for this worker now.
// - The same request_id again: the leases that it got and still holds.
// - Neighbouring tasks of one job: of the highest priority, then of the job with the fewest leased tasks. About a minute of the worker's
//   measured speed, one task if it is unknown, and never more than its share of what is queued, so that the end of a job is spread.
// - A task that a worker fell silent over runs alone: only on an idle worker, and nothing is leased beside it. If it kills the worker
// again, only
//   that task is to blame.
// - When nothing is queued, an idle worker is lent a straggler's task that it would probably finish first.
// - An encode task is a batch of its own.
// - While the blob store has no room for results, only encode tasks: they make room.
Status LeaseTasks(const Farm& farm, Transaction& transaction, const WorkerRow& worker, const v1::LeaseRequest& request,
                  v1::LeaseResponse* response);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_LEASE_TASK_H_
