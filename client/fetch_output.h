// Brings one finished file home: a picture, whole or put together from the pieces of its tile tasks, or a video, put together from its
// segments. It appears by rename, complete or not at all.
#ifndef NSIC_CLIENT_FETCH_OUTPUT_H_
#define NSIC_CLIENT_FETCH_OUTPUT_H_

#include <functional>
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
  bool tolerate = false;                       // of the job, for videos
  std::function<void(double share)> progress;  // of putting a video together
};

// Fetches, notes the output in `record`, renames it into place and returns what was noted. A file that is there already with the right
// content is left alone. Not OK: nothing of it is left behind but a video's segments, which FetchSegment must have fetched, and the
// coordinator still has a picture's output. UNAVAILABLE never: a coordinator that goes away is waited for.
Result<WrittenOutput> FetchOutput(FarmConnection* farm, JobRecord* record, const FetchPlan& plan, const CancelToken& cancel);

}  // namespace nsic

#endif  // NSIC_CLIENT_FETCH_OUTPUT_H_
