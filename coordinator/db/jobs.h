// The tables of jobs and of their files.
#ifndef NSIC_COORDINATOR_DB_JOBS_H_
#define NSIC_COORDINATOR_DB_JOBS_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coordinator/db/database.h"

namespace nsic {

struct JobRow {
  std::string id;
  std::string spec_hash;
  std::string spec;  // nsic.v1.JobSpec as it was submitted
  std::string model_id;
  std::string manifest_sha256;
  int32_t priority = 0;
  std::string state = "running";  // "running", "succeeded", "failed", "cancelled"
  bool paused = false;
  int64_t created_ms = 0;
  int64_t ended_ms = 0;
  // Kept by triggers; not written by InsertJob.
  int64_t waiting = 0;
  int64_t queued = 0;
  int64_t leased = 0;
  int64_t done = 0;
  int64_t failed = 0;
  int64_t cancelled = 0;
  int64_t pixels_total = 0;
  int64_t pixels_done = 0;
  double scored = 0;        // files, parts of them as such
  double score_before = 0;  // sums over these
  double score_after = 0;

  bool running() const { return state == "running"; }
};

std::optional<JobRow> FindJob(Transaction& transaction, const std::string& id);
std::vector<JobRow> ListJobs(Transaction& transaction, int limit);  // newest first
// Running, not paused, with something queued: by priority, then the one with the fewest leased tasks, then the oldest.
std::vector<JobRow> JobsToLeaseFrom(Transaction& transaction);

void InsertJob(Transaction& transaction, const JobRow& job);
// Packs besides job.model_id that the job needs while it runs. They must be there.
void InsertJobModels(Transaction& transaction, const std::string& job_id, const std::set<std::string>& model_ids);
// `index_sha256`: of a video's index, which is kept as long as the job; must be stored.
void InsertJobFile(Transaction& transaction, const std::string& job_id, int index, std::string_view source, int parts,
                   const std::optional<std::string>& index_sha256);
std::string FindJobFileSource(Transaction& transaction, const std::string& job_id, int index);

// Ends a running job none of whose tasks is left. Call after each change that may have ended the last.
void EndJobIfDone(Transaction& transaction, const std::string& id, int64_t now_ms);
void CancelJobRow(Transaction& transaction, const std::string& id, int64_t now_ms);  // its tasks must have ended
void ReopenJob(Transaction& transaction, const std::string& id);                     // failed to running
void SetJobPaused(Transaction& transaction, const std::string& id, bool paused);
void SetJobPriority(Transaction& transaction, const std::string& id, int32_t priority);
// With its files, tasks and attempts; gives their blobs up.
void DeleteJobRow(Transaction& transaction, const JobRow& job);

// (state, jobs), every state.
std::vector<std::pair<std::string, int64_t>> CountJobs(Transaction& transaction);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_DB_JOBS_H_
