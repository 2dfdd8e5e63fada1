// Who may ask for work: registration, and the check of every later call's session.
#ifndef NSIC_COORDINATOR_ADMIT_WORKER_H_
#define NSIC_COORDINATOR_ADMIT_WORKER_H_

#include <string>

#include "coordinator/db/database.h"
#include "coordinator/db/workers.h"
#include "coordinator/farm.h"
#include "core/base/status.h"
#include "nsic/v1/work.pb.h"

namespace nsic {

// See work.proto.
Result<v1::RegisterResponse> AdmitWorker(const Farm& farm, const v1::RegisterRequest& request);

// The worker of a session, marked as seen now. ABORTED if the session is not known.
Result<WorkerRow> CheckSession(const Farm& farm, Transaction& transaction, const std::string& session);

// Versions fit when they differ in nothing but the last number: "0.1.0" and "0.1.7".
bool VersionsFit(const std::string& a, const std::string& b);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_ADMIT_WORKER_H_
