// Brings one finished picture home: whole, or put together from the pieces of its tile tasks. It appears by rename, complete or not at
// all.
#ifndef NSIC_CLIENT_FETCH_OUTPUT_H_
#define NSIC_CLIENT_FETCH_OUTPUT_H_

#include <string>
#include <vector>

#include "client/farm_connection.h"
#include "client/job_record.h"
#include "core/base/cancel.h"
#include "core/base/status.h"
#include "core/media/picture.h"

namespace nsic {

struct FetchPlan {
  const PlannedFile* file = nullptr;
  std::vector<v1::TaskOutcome> tasks;  // all of the file's, all done
  WrittenOutput written;               // what the record will say; hash, bytes and size are filled in by the fetch
  FinishOptions options;               // of the job, for pieces
  int network_scale = 1;
};

// Fetches, notes the output in `record`, renames it into place and returns what was noted. A file that is there already with the right
// content is left alone. Not OK: nothing of it is left behind, and the coordinator still has the output. UNAVAILABLE never: a
// coordinator that goes away is waited for.
Result<WrittenOutput> FetchOutput(FarmConnection* farm, JobRecord* record, const FetchPlan& plan, const CancelToken& cancel);

// Removes the temporary files of this submit: after a run, and what a killed one left before the next.
void RemoveLeftovers(const std::vector<PlannedFile>& files, const JobRecord& record);

}  // namespace nsic

#endif  // NSIC_CLIENT_FETCH_OUTPUT_H_
