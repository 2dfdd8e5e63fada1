#include "coordinator/db/jobs.h"

#include "coordinator/db/blobs.h"
#include "coordinator/db/connection.h"

#define NSIC_SELECT_JOB                                                                                                        \
  "SELECT id, spec_hash, spec, model_id, manifest_sha256, priority, state, paused, created_ms, ended_ms, n_waiting, n_queued," \
  " n_leased, n_done, n_failed, n_cancelled, pixels_total, pixels_done, scored, score_before, score_after FROM job "

namespace nsic {
namespace {

JobRow ReadJobRow(Query& query) {
  JobRow job;
  job.id = query.Text(0);
  job.spec_hash = query.Text(1);
  job.spec = query.Text(2);
  job.model_id = query.Text(3);
  job.manifest_sha256 = query.Text(4);
  job.priority = static_cast<int32_t>(query.Int(5));
  job.state = query.Text(6);
  job.paused = query.Bool(7);
  job.created_ms = query.Int(8);
  job.ended_ms = query.Int(9);
  job.waiting = query.Int(10);
  job.queued = query.Int(11);
  job.leased = query.Int(12);
  job.done = query.Int(13);
  job.failed = query.Int(14);
  job.cancelled = query.Int(15);
  job.pixels_total = query.Int(16);
  job.pixels_done = query.Int(17);
  job.scored = query.Real(18);
  job.score_before = query.Real(19);
  job.score_after = query.Real(20);
  return job;
}

}  // namespace

std::optional<JobRow> FindJob(Transaction& transaction, const std::string& id) {
  Query query(transaction, NSIC_SELECT_JOB "WHERE id = ?1", id);
  if (!query.Step()) return std::nullopt;
  return ReadJobRow(query);
}

std::vector<JobRow> ListJobs(Transaction& transaction, int limit) {
  std::vector<JobRow> jobs;
  Query query(transaction, NSIC_SELECT_JOB "ORDER BY created_ms DESC, rowid DESC LIMIT ?1", limit);
  while (query.Step()) jobs.push_back(ReadJobRow(query));
  return jobs;
}

std::vector<JobRow> JobsToLeaseFrom(Transaction& transaction) {
  std::vector<JobRow> jobs;
  Query query(transaction, NSIC_SELECT_JOB
              "WHERE state = 'running' AND paused = 0 AND n_queued > 0 ORDER BY priority DESC, n_leased, created_ms, rowid");
  while (query.Step()) jobs.push_back(ReadJobRow(query));
  return jobs;
}

void InsertJob(Transaction& transaction, const JobRow& job) {
  Query(transaction,
        "INSERT INTO job(id, spec_hash, spec, model_id, manifest_sha256, priority, state, created_ms)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'running', ?7)",
        job.id, job.spec_hash, AsBlob{job.spec}, job.model_id, job.manifest_sha256, job.priority, job.created_ms)
      .Run();
  transaction.changes().jobs.insert(job.id);
  transaction.changes().work = true;
}

void InsertJobModels(Transaction& transaction, const std::string& job_id, const std::set<std::string>& model_ids) {
  for (const std::string& id : model_ids) {
    Query(transaction, "INSERT INTO job_model(job_id, model_id) VALUES (?1, ?2)", job_id, id).Run();
  }
}

void InsertJobFile(Transaction& transaction, const std::string& job_id, int index, std::string_view source, int parts,
                   const std::optional<std::string>& index_sha256) {
  Query(transaction, "INSERT INTO job_file(job_id, idx, source, parts, index_sha256) VALUES (?1, ?2, ?3, ?4, ?5)", job_id, index,
        AsBlob{source}, parts, index_sha256)
      .Run();
}

std::string FindJobFileSource(Transaction& transaction, const std::string& job_id, int index) {
  Query query(transaction, "SELECT source FROM job_file WHERE job_id = ?1 AND idx = ?2", job_id, index);
  return query.Step() ? query.Text(0) : std::string();
}

void EndJobIfDone(Transaction& transaction, const std::string& id, int64_t now_ms) {
  Query(transaction,
        "UPDATE job SET state = iif(n_failed > 0, 'failed', 'succeeded'), ended_ms = ?2"
        " WHERE id = ?1 AND state = 'running' AND n_waiting + n_queued + n_leased = 0",
        id, now_ms)
      .Run();
}

void CancelJobRow(Transaction& transaction, const std::string& id, int64_t now_ms) {
  // Nobody will make segments of its chunks.
  Query(transaction,
        "UPDATE blob SET touched_ms = 0 WHERE stored = 1 AND sha256 IN ("
        "SELECT output_sha256 FROM task WHERE job_id = ?1 AND step = 'chunk' AND fetched = 0)",
        id)
      .Run();
  Query(transaction, "UPDATE task SET fetched = 1 WHERE job_id = ?1 AND step = 'chunk' AND state = 'done'", id).Run();
  transaction.changes().garbage = true;
  Query(transaction, "UPDATE job SET state = 'cancelled', ended_ms = ?2 WHERE id = ?1", id, now_ms).Run();
  transaction.changes().jobs.insert(id);
}

void ReopenJob(Transaction& transaction, const std::string& id) {
  Query(transaction, "UPDATE job SET state = 'running', ended_ms = 0 WHERE id = ?1", id).Run();
  transaction.changes().jobs.insert(id);
  transaction.changes().work = true;
}

void SetJobPaused(Transaction& transaction, const std::string& id, bool paused) {
  Query(transaction, "UPDATE job SET paused = ?2 WHERE id = ?1", id, paused).Run();
  transaction.changes().jobs.insert(id);
  transaction.changes().work = true;
}

void SetJobPriority(Transaction& transaction, const std::string& id, int32_t priority) {
  Query(transaction, "UPDATE job SET priority = ?2 WHERE id = ?1", id, priority).Run();
  transaction.changes().jobs.insert(id);
}

void DeleteJobRow(Transaction& transaction, const JobRow& job) {
  Query(transaction,
        "UPDATE blob SET touched_ms = 0 WHERE stored = 1 AND sha256 IN (SELECT output_sha256 FROM task WHERE job_id = ?1 UNION"
        " SELECT source_sha256 FROM task WHERE job_id = ?1 AND root_id IS NULL UNION"
        " SELECT index_sha256 FROM job_file WHERE job_id = ?1)",
        job.id)
      .Run();
  Query(transaction, "DELETE FROM job WHERE id = ?1", job.id).Run();
  GiveUpBlob(transaction, job.manifest_sha256);
  Query(transaction, "DELETE FROM blob WHERE stored = 0 AND NOT EXISTS(SELECT 1 FROM task WHERE output_sha256 = blob.sha256)").Run();
  transaction.changes().jobs.insert(job.id);
}

std::vector<std::pair<std::string, int64_t>> CountJobs(Transaction& transaction) {
  std::vector<std::pair<std::string, int64_t>> counts;
  for (const char* state : {"running", "succeeded", "failed", "cancelled"}) {
    Query query(transaction, "SELECT count(*) FROM job WHERE state = ?1", state);
    query.Step();
    counts.emplace_back(state, query.Int(0));
  }
  return counts;
}

}  // namespace nsic
