#include "coordinator/db/workers.h"

#include "coordinator/db/connection.h"

#define NSIC_SELECT_WORKER                                                                                                        \
  "SELECT id, name, session, version, device, device_name, cores, memory_bytes, draining, last_seen_ms, tasks_done, tasks_failed" \
  " FROM worker "

namespace nsic {
namespace {

WorkerRow ReadWorkerRow(Query& query) {
  WorkerRow worker;
  worker.id = query.Int(0);
  worker.name = query.Text(1);
  worker.session = query.Text(2);
  worker.version = query.Text(3);
  worker.device = query.Text(4);
  worker.device_name = query.Text(5);
  worker.cores = static_cast<int>(query.Int(6));
  worker.memory_bytes = query.Int(7);
  worker.draining = query.Bool(8);
  worker.last_seen_ms = query.Int(9);
  worker.tasks_done = query.Int(10);
  worker.tasks_failed = query.Int(11);
  return worker;
}

std::optional<WorkerRow> ReadOneWorker(Query& query) {
  if (!query.Step()) return std::nullopt;
  return ReadWorkerRow(query);
}

WorkerModelRow ReadWorkerModelRow(Query& query) {
  return {query.Text(0), query.Real(1), query.Text(2), static_cast<int>(query.Int(3)), query.Int(4), query.Int(5)};
}

}  // namespace

std::optional<WorkerRow> FindWorker(Transaction& transaction, int64_t id) {
  Query query(transaction, NSIC_SELECT_WORKER "WHERE id = ?1", id);
  return ReadOneWorker(query);
}

std::optional<WorkerRow> FindWorkerByName(Transaction& transaction, const std::string& name) {
  Query query(transaction, NSIC_SELECT_WORKER "WHERE name = ?1", name);
  return ReadOneWorker(query);
}

std::optional<WorkerRow> FindWorkerBySession(Transaction& transaction, const std::string& session) {
  Query query(transaction, NSIC_SELECT_WORKER "WHERE session = ?1", session);
  return ReadOneWorker(query);
}

std::vector<WorkerRow> ListWorkers(Transaction& transaction) {
  std::vector<WorkerRow> workers;
  Query query(transaction, NSIC_SELECT_WORKER "ORDER BY name");
  while (query.Step()) workers.push_back(ReadWorkerRow(query));
  return workers;
}

void PutWorker(Transaction& transaction, WorkerRow* worker, const std::vector<std::string>& media_roots) {
  Query query(transaction,
              "INSERT INTO worker(name, session, version, device, device_name, cores, memory_bytes, last_seen_ms)"
              " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
              " ON CONFLICT(name) DO UPDATE SET session = excluded.session, version = excluded.version, device = excluded.device,"
              " device_name = excluded.device_name, cores = excluded.cores, memory_bytes = excluded.memory_bytes,"
              " last_seen_ms = excluded.last_seen_ms RETURNING id",
              worker->name, worker->session, worker->version, worker->device, worker->device_name, worker->cores, worker->memory_bytes,
              worker->last_seen_ms);
  query.Step();
  worker->id = query.Int(0);
  query.Run();
  Query(transaction, "DELETE FROM worker_root WHERE worker_id = ?1", worker->id).Run();
  for (const std::string& root : media_roots) {
    Query(transaction, "INSERT OR IGNORE INTO worker_root(worker_id, root_id) VALUES (?1, ?2)", worker->id, root).Run();
  }
  transaction.changes().work = true;
}

void TouchWorker(Transaction& transaction, int64_t id, int64_t now_ms) {
  Query(transaction, "UPDATE worker SET last_seen_ms = ?2 WHERE id = ?1", id, now_ms).Run();
}

void SetDraining(Transaction& transaction, int64_t id, bool draining) {
  Query(transaction, "UPDATE worker SET draining = ?2 WHERE id = ?1", id, draining).Run();
  transaction.changes().work = true;
}

void CountTaskDone(Transaction& transaction, int64_t id) {
  Query(transaction, "UPDATE worker SET tasks_done = tasks_done + 1 WHERE id = ?1", id).Run();
}

void CountTaskFailed(Transaction& transaction, int64_t id) {
  Query(transaction, "UPDATE worker SET tasks_failed = tasks_failed + 1 WHERE id = ?1", id).Run();
}

WorkerModelRow FindWorkerModel(Transaction& transaction, int64_t worker_id, const std::string& model_id) {
  Query query(transaction,
              "SELECT model_id, megapixels_per_s, precision, failures_in_row, blocked_until_ms, banned_until_ms FROM worker_model"
              " WHERE worker_id = ?1 AND model_id = ?2",
              worker_id, model_id);
  if (query.Step()) return ReadWorkerModelRow(query);
  WorkerModelRow none;
  none.model_id = model_id;
  return none;
}

std::vector<WorkerModelRow> ListWorkerModels(Transaction& transaction, int64_t worker_id) {
  std::vector<WorkerModelRow> rows;
  Query query(transaction,
              "SELECT model_id, megapixels_per_s, precision, failures_in_row, blocked_until_ms, banned_until_ms FROM worker_model"
              " WHERE worker_id = ?1 ORDER BY model_id",
              worker_id);
  while (query.Step()) rows.push_back(ReadWorkerModelRow(query));
  return rows;
}

void PutSpeed(Transaction& transaction, int64_t worker_id, const std::string& model_id, double megapixels_per_s,
              const std::string& precision) {
  Query(transaction,
        "INSERT INTO worker_model(worker_id, model_id, megapixels_per_s, precision) VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT(worker_id, model_id) DO UPDATE SET megapixels_per_s = excluded.megapixels_per_s, precision = excluded.precision",
        worker_id, model_id, megapixels_per_s, precision)
      .Run();
}

double FastestSpeed(Transaction& transaction, const std::string& model_id) {
  Query query(transaction, "SELECT coalesce(max(megapixels_per_s), 0) FROM worker_model WHERE model_id = ?1", model_id);
  query.Step();
  return query.Real(0);
}

void PutFailures(Transaction& transaction, int64_t worker_id, const WorkerModelRow& row) {
  Query(transaction,
        "INSERT INTO worker_model(worker_id, model_id, failures_in_row, blocked_until_ms, banned_until_ms) VALUES (?1, ?2, ?3, ?4, ?5)"
        " ON CONFLICT(worker_id, model_id) DO UPDATE SET failures_in_row = excluded.failures_in_row,"
        " blocked_until_ms = excluded.blocked_until_ms, banned_until_ms = excluded.banned_until_ms",
        worker_id, row.model_id, row.failures_in_row, row.blocked_until_ms, row.banned_until_ms)
      .Run();
  transaction.changes().work = true;
}

std::vector<CapableWorker> CapableWorkers(Transaction& transaction, const std::string& model_id, const std::optional<std::string>& root_id,
                                          int64_t seen_since_ms, int64_t now_ms) {
  std::vector<CapableWorker> workers;
  Query query(transaction,
              "SELECT worker.id, coalesce(blocked_until_ms, 0) > ?4 FROM worker"
              " LEFT JOIN worker_model ON worker_model.worker_id = worker.id AND worker_model.model_id = ?1"
              " WHERE draining = 0 AND last_seen_ms >= ?3 AND coalesce(banned_until_ms, 0) <= ?4"
              " AND (?2 IS NULL OR EXISTS(SELECT 1 FROM worker_root WHERE worker_root.worker_id = worker.id AND worker_root.root_id = ?2))",
              model_id, root_id, seen_since_ms, now_ms);
  while (query.Step()) workers.push_back({query.Int(0), query.Bool(1)});
  return workers;
}

}  // namespace nsic
