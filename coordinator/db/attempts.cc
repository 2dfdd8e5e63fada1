#include "coordinator/db/attempts.h"

#include "coordinator/db/connection.h"

#define NSIC_SELECT_ATTEMPT "SELECT task_id, lease_no, worker_id, token, request_id, state, leased_ms, expires_steady_ms FROM attempt "

namespace nsic {
namespace {

AttemptRow ReadAttemptRow(Query& query) {
  AttemptRow attempt;
  attempt.task_id = query.Int(0);
  attempt.lease_no = query.Int(1);
  attempt.worker_id = query.Int(2);
  attempt.token = query.Text(3);
  attempt.request_id = query.Text(4);
  attempt.state = ParseAttemptState(query.Text(5)).value_or(AttemptState::kExpired);  // the column's CHECK admits no other names
  attempt.leased_ms = query.Int(6);
  attempt.expires_steady_ms = query.Int(7);
  return attempt;
}

std::vector<AttemptRow> ReadAttemptRows(Query& query) {
  std::vector<AttemptRow> attempts;
  while (query.Step()) attempts.push_back(ReadAttemptRow(query));
  return attempts;
}

int64_t ReadCount(Query& query) {
  query.Step();
  return query.Int(0);
}

}  // namespace

std::optional<AttemptRow> FindAttempt(Transaction& transaction, const std::string& token) {
  Query query(transaction, NSIC_SELECT_ATTEMPT "WHERE token = ?1", token);
  if (!query.Step()) return std::nullopt;
  return ReadAttemptRow(query);
}

std::vector<AttemptRow> ActiveAttempts(Transaction& transaction, int64_t task_id) {
  Query query(transaction, NSIC_SELECT_ATTEMPT "WHERE task_id = ?1 AND state = 'active' ORDER BY lease_no", task_id);
  return ReadAttemptRows(query);
}

std::vector<AttemptRow> ActiveAttemptsOfWorker(Transaction& transaction, int64_t worker_id) {
  Query query(transaction, NSIC_SELECT_ATTEMPT "WHERE worker_id = ?1 AND state = 'active' ORDER BY task_id", worker_id);
  return ReadAttemptRows(query);
}

std::vector<AttemptRow> ActiveAttemptsOfRequest(Transaction& transaction, int64_t worker_id, const std::string& request_id) {
  Query query(transaction, NSIC_SELECT_ATTEMPT "WHERE request_id = ?2 AND worker_id = ?1 AND state = 'active' ORDER BY task_id", worker_id,
              request_id);
  return ReadAttemptRows(query);
}

std::vector<AttemptRow> ExpiredAttempts(Transaction& transaction, int64_t steady_ms, int limit) {
  Query query(transaction,
              NSIC_SELECT_ATTEMPT "WHERE state = 'active' AND expires_steady_ms <= ?1 ORDER BY expires_steady_ms, task_id LIMIT ?2",
              steady_ms, limit);
  return ReadAttemptRows(query);
}

void InsertAttempt(Transaction& transaction, const AttemptRow& attempt) {
  Query(transaction,
        "INSERT INTO attempt(task_id, lease_no, worker_id, token, request_id, state, leased_ms, expires_steady_ms)"
        " VALUES (?1, ?2, ?3, ?4, ?5, 'active', ?6, ?7)",
        attempt.task_id, attempt.lease_no, attempt.worker_id, attempt.token, attempt.request_id, attempt.leased_ms,
        attempt.expires_steady_ms)
      .Run();
}

Status EndAttempt(Transaction& transaction, AttemptRow* attempt, AttemptState to, bool counted, const std::string& message,
                  int64_t now_ms) {
  if (!IsAllowed(attempt->state, to)) {
    return InternalError("attempt " + std::to_string(attempt->lease_no) + " at task " + std::to_string(attempt->task_id) +
                         " cannot go from " + std::string(Name(attempt->state)) + " to " + std::string(Name(to)));
  }
  attempt->state = to;
  Query(transaction, "UPDATE attempt SET state = ?3, counted = ?4, message = ?5, ended_ms = ?6 WHERE task_id = ?1 AND lease_no = ?2",
        attempt->task_id, attempt->lease_no, Name(to), counted, message, now_ms)
      .Run();
  return OkStatus();
}

void ExtendAttempt(Transaction& transaction, const AttemptRow& attempt, int64_t expires_steady_ms) {
  Query(transaction, "UPDATE attempt SET expires_steady_ms = ?3 WHERE task_id = ?1 AND lease_no = ?2", attempt.task_id, attempt.lease_no,
        expires_steady_ms)
      .Run();
}

void ExtendAllAttempts(Transaction& transaction, int64_t expires_steady_ms) {
  Query(transaction, "UPDATE attempt SET expires_steady_ms = ?1 WHERE state = 'active'", expires_steady_ms).Run();
}

bool HasFailedOn(Transaction& transaction, int64_t task_id, int64_t record_from, int64_t worker_id) {
  return Query(transaction, "SELECT 1 FROM attempt WHERE task_id = ?1 AND lease_no > ?2 AND worker_id = ?3 AND counted = 1", task_id,
               record_from, worker_id)
      .Step();
}

int CountFailedWorkers(Transaction& transaction, int64_t task_id, int64_t record_from) {
  Query query(transaction, "SELECT count(DISTINCT worker_id) FROM attempt WHERE task_id = ?1 AND lease_no > ?2 AND counted = 1", task_id,
              record_from);
  return static_cast<int>(ReadCount(query));
}

std::vector<Straggler> ListStragglers(Transaction& transaction, int64_t worker_id) {
  std::vector<Straggler> stragglers;
  Query query(transaction,
              "SELECT task.id, attempt.worker_id, attempt.leased_ms, task.pixels, task.model_id,"
              " (SELECT sum(other.pixels) FROM attempt AS held JOIN task AS other ON other.id = held.task_id"
              "  WHERE held.worker_id = attempt.worker_id AND held.state = 'active' AND held.task_id <= task.id)"
              " FROM job JOIN task ON task.job_id = job.id AND task.state = 'leased'"
              " JOIN attempt ON attempt.task_id = task.id AND attempt.state = 'active'"
              " WHERE job.state = 'running' AND job.paused = 0 AND job.n_queued = 0 AND job.n_leased > 0 AND task.suspect = 0"
              " AND attempt.worker_id <> ?1"
              " AND (SELECT count(*) FROM attempt AS a WHERE a.task_id = task.id AND a.state = 'active') = 1"
              " AND (task.root_id IS NULL OR EXISTS(SELECT 1 FROM worker_root WHERE worker_id = ?1 AND worker_root.root_id = task.root_id))"
              " ORDER BY job.priority DESC, task.id DESC LIMIT 256",
              worker_id);
  while (query.Step()) {
    stragglers.push_back({query.Int(0), query.Int(1), query.Int(2), query.Int(3), query.Text(4), query.Int(5)});
  }
  return stragglers;
}

int64_t CountActiveAttempts(Transaction& transaction) {
  Query query(transaction, "SELECT count(*) FROM attempt WHERE state = 'active'");
  return ReadCount(query);
}

int64_t CountActiveAttemptsOfWorker(Transaction& transaction, int64_t worker_id) {
  Query query(transaction, "SELECT count(*) FROM attempt WHERE worker_id = ?1 AND state = 'active'", worker_id);
  return ReadCount(query);
}

int64_t LeasedPixelsOfWorker(Transaction& transaction, int64_t worker_id) {
  Query query(transaction,
              "SELECT coalesce(sum(task.pixels), 0) FROM attempt JOIN task ON task.id = attempt.task_id"
              " WHERE attempt.worker_id = ?1 AND attempt.state = 'active'",
              worker_id);
  return ReadCount(query);
}

bool HoldsSuspect(Transaction& transaction, int64_t worker_id) {
  return Query(transaction,
               "SELECT 1 FROM attempt JOIN task ON task.id = attempt.task_id"
               " WHERE attempt.worker_id = ?1 AND attempt.state = 'active' AND task.suspect = 1",
               worker_id)
      .Step();
}

}  // namespace nsic
