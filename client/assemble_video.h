// Brings a video's segments home one by one, and puts them together with the rest of its source when all are there.
#ifndef NSIC_CLIENT_ASSEMBLE_VIDEO_H_
#define NSIC_CLIENT_ASSEMBLE_VIDEO_H_

#include "client/farm_connection.h"
#include "client/fetch_output.h"
#include "client/job_record.h"
#include "core/base/cancel.h"
#include "core/base/status.h"

namespace nsic {

// FAILED_PRECONDITION, for a video whose source this client does not know: it can do nothing with the segments.
Status CheckSourceIsKnown(const PlannedFile& file);

// Stores the segment that `task` made among the submit's temporary files, where it stays until its video is finished: a killed client
// goes on with it. What is there already, with the right bytes, is not fetched again.
Status FetchSegment(FarmConnection* farm, const JobRecord& record, const PlannedFile& file, const v1::TaskOutcome& task,
                    const CancelToken& cancel);

// Joins the segments of plan.tasks, notes the output and renames it into place; then the segments go. DATA_LOSS when the source, which has
// all that is not restored, has changed, or a segment is missing.
Result<WrittenOutput> AssembleVideo(FarmConnection* farm, JobRecord* record, const FetchPlan& plan, const CancelToken& cancel);

}  // namespace nsic

#endif  // NSIC_CLIENT_ASSEMBLE_VIDEO_H_
