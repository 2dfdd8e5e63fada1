// Tells clients how a job stands.
#ifndef NSIC_COORDINATOR_REPORT_JOB_H_
#define NSIC_COORDINATOR_REPORT_JOB_H_

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/db/database.h"
#include "coordinator/db/jobs.h"
#include "coordinator/farm.h"
#include "core/base/status.h"
#include "nsic/v1/jobs.pb.h"

namespace nsic {

Result<v1::Job> DescribeJob(const Farm& farm, Transaction& transaction, const JobRow& row);
// NOT_FOUND.
Result<v1::Job> DescribeJob(const Farm& farm, Transaction& transaction, const std::string& job_id);

// The first outcomes after `after`, at most `limit` and what fits a message; none: there are no more.
Result<std::vector<v1::TaskOutcome>> DescribeOutcomes(Transaction& transaction, const std::string& job_id, int64_t after, int limit);

// One short sentence for a person; empty when the job moves or has ended.
std::string WaitingReason(const Farm& farm, Transaction& transaction, const JobRow& row);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_REPORT_JOB_H_
