// Follows a job until it has ended, through restarts of the coordinator.
#ifndef NSIC_CLIENT_WATCH_JOB_H_
#define NSIC_CLIENT_WATCH_JOB_H_

#include <cstdint>
#include <functional>
#include <string>

#include "client/farm_connection.h"
#include "core/base/cancel.h"
#include "core/base/status.h"

namespace nsic {

struct WatchHooks {
  std::function<void(const v1::JobEvent& event)> event;
  // Not OK: the connection was lost for this reason and is tried again. OK: it is back.
  std::function<void(const Status& why)> connection;
};

// Calls the hooks on this thread. OK once the job has ended and all its outcomes after `after` were given. CANCELLED, NOT_FOUND (the
// coordinator does not know the job), UNAUTHENTICATED...
Status WatchJob(FarmConnection* farm, const std::string& job_id, int64_t after, const WatchHooks& hooks, const CancelToken& cancel);

}  // namespace nsic

#endif  // NSIC_CLIENT_WATCH_JOB_H_
