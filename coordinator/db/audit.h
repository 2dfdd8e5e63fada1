// Looks for what no constraint can forbid. Run at the coordinator's start and after every test of the store.
#ifndef NSIC_COORDINATOR_DB_AUDIT_H_
#define NSIC_COORDINATOR_DB_AUDIT_H_

#include "coordinator/db/database.h"
#include "core/base/status.h"

namespace nsic {

// INTERNAL names the first rows that break an invariant: leased if and only if one or two active attempts; a job's counts are those of its
// tasks; what is done has its blob's row; an ended job has no task left; encode tasks wait for their chunks; foreign keys hold.
Status Audit(Transaction& transaction);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_DB_AUDIT_H_
