#include "coordinator/db/blobs.h"

#include "coordinator/db/connection.h"

// Conditions on a row of blob. Macros, because a Query keeps its statement by the address of one literal.
#define NSIC_NEEDED                                                                                              \
  "(EXISTS(SELECT 1 FROM job WHERE manifest_sha256 = blob.sha256)"                                               \
  " OR EXISTS(SELECT 1 FROM job_file WHERE index_sha256 = blob.sha256)"                                          \
  " OR EXISTS(SELECT 1 FROM task WHERE source_sha256 = blob.sha256 AND state IN ('waiting', 'queued', 'leased')" \
  "           AND root_id IS NULL)"                                                                              \
  " OR EXISTS(SELECT 1 FROM task WHERE output_sha256 = blob.sha256 AND fetched = 0)"                             \
  " OR EXISTS(SELECT 1 FROM model WHERE bundle_sha256 = blob.sha256))"
#define NSIC_MENTIONED                                            \
  "(EXISTS(SELECT 1 FROM task WHERE output_sha256 = blob.sha256)" \
  " OR EXISTS(SELECT 1 FROM task WHERE source_sha256 = blob.sha256 AND root_id IS NULL))"

namespace nsic {

Result<std::optional<BlobRecord>> DatabaseBlobIndex::Find(const std::string& sha256) {
  std::optional<BlobRecord> found;
  NSIC_RETURN_IF_ERROR(database_->Read([&](Transaction& transaction) {
    Query query(transaction, "SELECT size, chunks FROM blob WHERE sha256 = ?1 AND stored = 1", sha256);
    if (query.Step()) found = BlobRecord{sha256, query.Int(0), query.Text(1)};
    return OkStatus();
  }));
  return found;
}

Status DatabaseBlobIndex::Add(const BlobRecord& blob) {
  return database_->Write([&](Transaction& transaction) {
    Query(transaction,
          "INSERT INTO blob(sha256, size, chunks, stored, touched_ms) VALUES (?1, ?2, ?3, 1, ?4)"
          " ON CONFLICT(sha256) DO UPDATE SET stored = 1, chunks = excluded.chunks, touched_ms = excluded.touched_ms",
          blob.sha256, blob.size, AsBlob{blob.chunks}, clock_->WallMs())
        .Run();
    Query waiting(transaction, "SELECT DISTINCT job_id FROM task WHERE source_sha256 = ?1 AND state = 'waiting'", blob.sha256);
    while (waiting.Step()) {
      transaction.changes().jobs.insert(waiting.Text(0));
      transaction.changes().work = true;
    }
    Query(transaction, "UPDATE task SET state = 'queued' WHERE source_sha256 = ?1 AND state = 'waiting'", blob.sha256).Run();
    return OkStatus();
  });
}

Result<std::vector<std::string>> DatabaseBlobIndex::Strike(const std::vector<std::string>& sha256s) {
  std::vector<std::string> struck;
  NSIC_RETURN_IF_ERROR(database_->Write([&](Transaction& transaction) {
    struck.clear();
    for (const std::string& sha256 : sha256s) {
      const int64_t changed = Query(transaction,
                                    "UPDATE blob SET stored = 0 WHERE sha256 = ?1 AND stored = 1 AND NOT " NSIC_NEEDED
                                    " AND (touched_ms <= ?2 OR " NSIC_MENTIONED ")",
                                    sha256, clock_->WallMs() - kUnmentionedBlobMs)
                                  .Run();
      if (changed == 0) continue;
      struck.push_back(sha256);
      Query(transaction, "DELETE FROM blob WHERE sha256 = ?1 AND NOT EXISTS(SELECT 1 FROM task WHERE output_sha256 = ?1)", sha256).Run();
    }
    return OkStatus();
  }));
  return struck;
}

Result<std::vector<BlobRecord>> DatabaseBlobIndex::List() {
  std::vector<BlobRecord> blobs;
  NSIC_RETURN_IF_ERROR(database_->Read([&](Transaction& transaction) {
    Query query(transaction, "SELECT sha256, size FROM blob WHERE stored = 1");
    while (query.Step()) blobs.push_back({query.Text(0), query.Int(1), ""});
    return OkStatus();
  }));
  return blobs;
}

Result<bool> DatabaseBlobIndex::WasStruck(const std::string& sha256) {
  bool struck = false;
  NSIC_RETURN_IF_ERROR(database_->Read([&](Transaction& transaction) {
    Query query(transaction, "SELECT 1 FROM blob WHERE sha256 = ?1 AND stored = 0", sha256);
    struck = query.Step();
    return OkStatus();
  }));
  return struck;
}

bool IsStored(Transaction& transaction, const std::string& sha256) {
  return Query(transaction, "SELECT 1 FROM blob WHERE sha256 = ?1 AND stored = 1", sha256).Step();
}

void TouchBlob(Transaction& transaction, const std::string& sha256, int64_t now_ms) {
  Query(transaction, "UPDATE blob SET touched_ms = ?2 WHERE sha256 = ?1 AND stored = 1", sha256, now_ms).Run();
}

void GiveUpBlob(Transaction& transaction, const std::string& sha256) {
  Query(transaction, "UPDATE blob SET touched_ms = 0 WHERE sha256 = ?1 AND stored = 1", sha256).Run();
  transaction.changes().garbage = true;
}

std::vector<std::string> TakeGivenUpBlobs(Transaction& transaction, int64_t now_ms) {
  std::vector<std::string> candidates;
  Query(transaction, "UPDATE blob SET touched_ms = ?1 WHERE stored = 1 AND touched_ms = 0 AND " NSIC_NEEDED, now_ms).Run();
  Query query(transaction, "SELECT sha256 FROM blob WHERE stored = 1 AND touched_ms = 0 LIMIT 1000");
  while (query.Step()) candidates.push_back(query.Text(0));
  return candidates;
}

std::vector<std::string> OldUnneededBlobs(Transaction& transaction, int64_t now_ms) {
  std::vector<std::string> candidates;
  Query query(transaction,
              "SELECT sha256 FROM blob WHERE stored = 1 AND touched_ms <= ?1 AND NOT " NSIC_NEEDED
              " AND (touched_ms <= ?2 OR NOT " NSIC_MENTIONED ") LIMIT 1000",
              now_ms - kUnmentionedBlobMs, now_ms - kFetchedOutputMs);
  while (query.Step()) candidates.push_back(query.Text(0));
  return candidates;
}

std::vector<std::string> EvictableBlobs(Transaction& transaction, int64_t bytes, int64_t now_ms) {
  std::vector<std::string> candidates;
  Query query(transaction,
              "SELECT sha256, size FROM blob WHERE stored = 1 AND NOT " NSIC_NEEDED " AND (touched_ms <= ?1 OR " NSIC_MENTIONED
              ") ORDER BY touched_ms",
              now_ms - kUnmentionedBlobMs);
  while (bytes > 0 && query.Step()) {
    candidates.push_back(query.Text(0));
    bytes -= query.Int(1);
  }
  return candidates;
}

bool IsWantedSource(Transaction& transaction, const std::string& sha256) {
  return Query(transaction, "SELECT 1 FROM task WHERE source_sha256 = ?1 AND state IN ('waiting', 'queued', 'leased') AND root_id IS NULL",
               sha256)
      .Step();
}

bool AnySourceStored(Transaction& transaction) {
  // Queued and leased tasks have theirs, but for those that need none.
  return Query(transaction,
               "SELECT 1 FROM job JOIN task ON task.job_id = job.id AND task.state = 'queued'"
               " WHERE job.state = 'running' AND job.n_queued > 0 AND root_id IS NULL AND source_sha256 <> ''"
               " UNION ALL SELECT 1 FROM job JOIN task ON task.job_id = job.id AND task.state = 'leased'"
               " WHERE job.state = 'running' AND job.n_leased > 0 AND root_id IS NULL AND source_sha256 <> '' LIMIT 1")
      .Step();
}

}  // namespace nsic
