// The table of attempts: workers' leases on tasks. Every change of an attempt's state is made here.
#ifndef NSIC_COORDINATOR_DB_ATTEMPTS_H_
#define NSIC_COORDINATOR_DB_ATTEMPTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/db/database.h"
#include "core/farm/task_state.h"

namespace nsic {

struct AttemptRow {
  int64_t task_id = 0;
  int64_t lease_no = 0;
  int64_t worker_id = 0;
  std::string token;
  std::string request_id;
  AttemptState state = AttemptState::kActive;
  int64_t leased_ms = 0;
  int64_t expires_steady_ms = 0;
};

std::optional<AttemptRow> FindAttempt(Transaction& transaction, const std::string& token);
std::vector<AttemptRow> ActiveAttempts(Transaction& transaction, int64_t task_id);
std::vector<AttemptRow> ActiveAttemptsOfWorker(Transaction& transaction, int64_t worker_id);
std::vector<AttemptRow> ActiveAttemptsOfRequest(Transaction& transaction, int64_t worker_id, const std::string& request_id);
std::vector<AttemptRow> ExpiredAttempts(Transaction& transaction, int64_t steady_ms, int limit);  // active, but out of time

void InsertAttempt(Transaction& transaction, const AttemptRow& attempt);
// To `to`; `counted`: as a failure of this worker on this task. INTERNAL if the table forbids it.
Status EndAttempt(Transaction& transaction, AttemptRow* attempt, AttemptState to, bool counted, const std::string& message, int64_t now_ms);
void ExtendAttempt(Transaction& transaction, const AttemptRow& attempt, int64_t expires_steady_ms);
// For the start: the steady clock has begun anew.
void ExtendAllAttempts(Transaction& transaction, int64_t expires_steady_ms);

// What counts against a task since `record_from`.
bool HasFailedOn(Transaction& transaction, int64_t task_id, int64_t record_from, int64_t worker_id);
int CountFailedWorkers(Transaction& transaction, int64_t task_id, int64_t record_from);

// Leased tasks that one attempt alone is at, of running jobs that are not paused and have nothing queued: what an idle worker may be lent.
struct Straggler {
  int64_t task_id = 0;
  int64_t worker_id = 0;
  int64_t leased_ms = 0;
  int64_t pixels = 0;
  std::string model_id;
  int64_t pixels_ahead = 0;  // of the holder's leases up to this one
};
// Without those of `worker_id`, and those in media roots that it cannot read.
std::vector<Straggler> ListStragglers(Transaction& transaction, int64_t worker_id);

int64_t CountActiveAttempts(Transaction& transaction);
int64_t CountActiveAttemptsOfWorker(Transaction& transaction, int64_t worker_id);
int64_t LeasedPixelsOfWorker(Transaction& transaction, int64_t worker_id);
bool HoldsSuspect(Transaction& transaction, int64_t worker_id);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_DB_ATTEMPTS_H_
