// Where the jobs of this user were submitted and where their records lie, so that `fetch JOB` needs nothing but the id.
// $XDG_STATE_HOME/nsic/jobs/JOB.json
#ifndef NSIC_CLIENT_JOB_INDEX_H_
#define NSIC_CLIENT_JOB_INDEX_H_

#include <string>

#include "core/base/status.h"

namespace nsic {

inline constexpr const char* kLocalCoordinator = "local";

struct JobPlace {
  std::string coordinator;  // "HOST:PORT", or kLocalCoordinator
  std::string token_file;   // absolute; empty if none was given
  std::string report_folder;
  std::string record_key;
};

// 32 lower-case hexadecimal digits: job ids from the command line name files.
bool IsJobId(const std::string& text);

Status SaveJobPlace(const std::string& state_folder, const std::string& job_id, const JobPlace& place);
// NOT_FOUND for a job that was not submitted here.
Result<JobPlace> FindJobPlace(const std::string& state_folder, const std::string& job_id);

}  // namespace nsic

#endif  // NSIC_CLIENT_JOB_INDEX_H_
