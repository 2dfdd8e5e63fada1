// What a user may do to a job that is there. All idempotent; NOT_FOUND for an unknown job unless said otherwise.
#ifndef NSIC_COORDINATOR_CONTROL_JOB_H_
#define NSIC_COORDINATOR_CONTROL_JOB_H_

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/farm.h"
#include "core/base/status.h"
#include "nsic/v1/jobs.pb.h"

namespace nsic {

Result<v1::Job> CancelJob(const Farm& farm, const std::string& job_id);
Result<v1::Job> PauseJob(const Farm& farm, const std::string& job_id, bool paused);
Result<v1::Job> RetryJob(const Farm& farm, const std::string& job_id);
Result<v1::Job> PrioritizeJob(const Farm& farm, const std::string& job_id, int32_t priority);
Status MarkJobFetched(const Farm& farm, const std::string& job_id, const std::vector<int64_t>& task_ids);
// OK for an unknown job; FAILED_PRECONDITION while it runs.
Status DeleteJob(const Farm& farm, const std::string& job_id);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_CONTROL_JOB_H_
