// Sees a submitted job through: sends sources, watches, and fetches outputs as they come, all at the same time, so that a library larger
// than the coordinator's store flows through.
#ifndef NSIC_CLIENT_RUN_JOB_H_
#define NSIC_CLIENT_RUN_JOB_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "client/farm_connection.h"
#include "client/job_record.h"
#include "client/progress.h"
#include "core/base/cancel.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/report/report.h"

namespace nsic {

struct RunContext {
  FarmConnection* farm = nullptr;
  JobRecord* record = nullptr;
  Progress* progress = nullptr;
  const Clock* clock = nullptr;
  std::function<Status()> health;         // of the local farm: not OK ends the run
  int64_t room_patience_us = 30'000'000;  // how long to wait for room at a coordinator while nothing of this job moves
};

// What became of the job's files: in the order of job.files, without thumbnails.
struct JobEnd {
  v1::JobState state = v1::JOB_STATE_UNSPECIFIED;
  std::vector<ReportFile> files;
  int64_t unfetched = 0;  // files that are done at the coordinator but could not be stored here: another fetch may succeed
};

// How a job's spec is carried out on the client.
struct JobOptions {
  v1::RestoreOptions restore;
  bool upload = true;  // false: sources are read in place, or are not on this machine
  bool wait = true;    // false: fetch what has ended, do not wait for the rest
};

// Returns when the job has ended and everything was fetched (without `wait`: what there is). A file that cannot be fetched, or whose
// source cannot be sent, fails alone. CANCELLED when cancelled; NOT_FOUND when the coordinator does not know the job; health()'s status.
Result<JobEnd> RunJob(const RunContext& context, const RecordedJob& job, const JobOptions& options, const CancelToken& cancel);

// Sends the sources and returns: for --no-wait. The number of files whose sources found no room; files that could not be read are
// named by notices.
Result<int64_t> SendSources(const RunContext& context, const RecordedJob& job, const CancelToken& cancel);

}  // namespace nsic

#endif  // NSIC_CLIENT_RUN_JOB_H_
