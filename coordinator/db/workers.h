// The tables of workers: who they are, which media roots they read, how fast each model runs on them, what they are kept from.
#ifndef NSIC_COORDINATOR_DB_WORKERS_H_
#define NSIC_COORDINATOR_DB_WORKERS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/db/database.h"

namespace nsic {

struct WorkerRow {
  int64_t id = 0;
  std::string name;
  std::string session;
  std::string version;
  std::string device;
  std::string device_name;
  int cores = 0;
  int64_t memory_bytes = 0;
  bool draining = false;
  int64_t last_seen_ms = 0;
  int64_t tasks_done = 0;
  int64_t tasks_failed = 0;
};

struct WorkerModelRow {
  std::string model_id;
  double megapixels_per_s = 0;  // 0: not measured
  std::string precision;
  int failures_in_row = 0;
  int64_t blocked_until_ms = 0;
  int64_t banned_until_ms = 0;
};

std::optional<WorkerRow> FindWorker(Transaction& transaction, int64_t id);
std::optional<WorkerRow> FindWorkerByName(Transaction& transaction, const std::string& name);
std::optional<WorkerRow> FindWorkerBySession(Transaction& transaction, const std::string& session);
std::vector<WorkerRow> ListWorkers(Transaction& transaction);  // by name

// Inserts the worker or gives the one of that name a new session, description and media roots; sets its id. Draining, speeds, blocks and
// counts stay.
void PutWorker(Transaction& transaction, WorkerRow* worker, const std::vector<std::string>& media_roots);
void TouchWorker(Transaction& transaction, int64_t id, int64_t now_ms);
void SetDraining(Transaction& transaction, int64_t id, bool draining);
void CountTaskDone(Transaction& transaction, int64_t id);
void CountTaskFailed(Transaction& transaction, int64_t id);

WorkerModelRow FindWorkerModel(Transaction& transaction, int64_t worker_id, const std::string& model_id);
std::vector<WorkerModelRow> ListWorkerModels(Transaction& transaction, int64_t worker_id);
void PutSpeed(Transaction& transaction, int64_t worker_id, const std::string& model_id, double megapixels_per_s,
              const std::string& precision);
// The fastest that any known worker has measured, connected or not; 0: none has.
double FastestSpeed(Transaction& transaction, const std::string& model_id);
void PutFailures(Transaction& transaction, int64_t worker_id, const WorkerModelRow& row);  // failures_in_row and both times

// A worker that could do tasks of a model whose source is in `root_id` (none: uploaded): seen since `seen_since_ms`, not draining, not
// banned from the model by the user.
struct CapableWorker {
  int64_t id;
  bool blocked;  // by its own failures
};
std::vector<CapableWorker> CapableWorkers(Transaction& transaction, const std::string& model_id, const std::optional<std::string>& root_id,
                                          int64_t seen_since_ms, int64_t now_ms);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_DB_WORKERS_H_
