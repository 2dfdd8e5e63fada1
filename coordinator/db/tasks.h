// The table of tasks. Every change of a task's state is made here, checked against core/farm/task_state.h, and again by a trigger.
#ifndef NSIC_COORDINATOR_DB_TASKS_H_
#define NSIC_COORDINATOR_DB_TASKS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/db/database.h"
#include "core/base/geometry.h"
#include "core/farm/plan_segments.h"
#include "core/farm/task_state.h"

namespace nsic {

// What a task does to the frames of a segment, see nsic.v1.SegmentStep. Chunk tasks are not among the outcomes that clients are told of.
enum class TaskStep { kWhole, kChunk, kEncode };

// From 0 (worst) to 100 (best), of the source and of the output.
struct ScorePair {
  double before = 0;
  double after = 0;
};

struct TaskRow {
  int64_t id = 0;
  std::string job_id;
  int index = 0;
  int file_index = 0;
  std::optional<Rect> region;       // of a tile task
  std::optional<FrameSpan> frames;  // of a segment
  TaskStep step = TaskStep::kWhole;
  int64_t pixels = 0;
  double file_share = 1;  // how much of its file it is, for the job's mean scores; written by InsertTask, not read
  std::string model_id;
  std::string source_sha256;  // empty: it reads no source, an encode task
  std::optional<std::string> root_id;
  std::string result_key;
  TaskState state = TaskState::kWaiting;
  int64_t lease_no = 0;
  int64_t record_from = 0;
  int failures = 0;
  bool suspect = false;
  int transients = 0;
  std::string error;
  std::string worker;
  std::string output_sha256;        // when done
  std::string result;               // when done: nsic.v1.TaskResult
  std::optional<ScorePair> scores;  // when done and scored
};

// What a task is done with.
struct TaskOutput {
  std::string sha256;  // of the output, which must be stored
  std::string result;  // nsic.v1.TaskResult
  std::optional<ScorePair> scores;
  std::string worker;  // name
};
TaskOutput OutputOf(const TaskRow& done);

// A task that has ended, as clients are told.
struct OutcomeRow {
  int64_t sequence = 0;
  int64_t task_id = 0;
  int file_index = 0;
  std::optional<Rect> region;
  std::optional<FrameSpan> frames;
  int parts = 1;
  TaskState state = TaskState::kDone;
  std::string result;
  std::string error;
  std::string worker;
  bool fetched = false;
};

std::optional<TaskRow> FindTask(Transaction& transaction, int64_t id);
// A done task with this key whose output is still stored.
std::optional<TaskRow> FindDoneTwin(Transaction& transaction, const std::string& result_key);
std::vector<OutcomeRow> ListOutcomes(Transaction& transaction, const std::string& job_id, int64_t after, int limit);

// Inserts it as waiting or queued (task.state) and sets its id. `segment`, of a task with frames: nsic.v1.Segment, which is large; only
// FindSegment reads it.
void InsertTask(Transaction& transaction, TaskRow* task, std::string_view segment);
std::string FindSegment(Transaction& transaction, int64_t task_id);

// An encode task waits for chunk tasks, fails when one of them does, and is queued when all are done. What they returned is kept until it
// is done, or its job is cancelled or deleted. Both must be there; the encode task must be waiting.
void InsertNeed(Transaction& transaction, int64_t task_id, int64_t needs_id);
struct Need {
  FrameSpan frames;
  std::string output_sha256;
  int64_t output_size = 0;
  std::string result;  // nsic.v1.TaskResult
};
std::vector<Need> ListNeeds(Transaction& transaction, int64_t task_id);  // those that are done, by their frames

// Queued tasks of a job in the order of leasing: those that no worker fell silent over first, then by their place in the job; without
// those that back off, and those in media roots that the worker cannot read. `only_encodes`: without those of other steps. The next few
// after (suspect, index).
std::vector<TaskRow> LeasablePage(Transaction& transaction, const std::string& job_id, int64_t worker_id, int64_t now_ms, bool only_encodes,
                                  bool suspect, int index);

// Goes over all of them until `take` returns false.
template <typename Take>
void ForEachLeasable(Transaction& transaction, const std::string& job_id, int64_t worker_id, int64_t now_ms, bool only_encodes,
                     const Take& take) {
  bool suspect = false;
  int index = -1;
  while (true) {
    const std::vector<TaskRow> page = LeasablePage(transaction, job_id, worker_id, now_ms, only_encodes, suspect, index);
    if (page.empty()) return;
    for (const TaskRow& task : page) {
      if (!take(task)) return;
    }
    suspect = page.back().suspect;
    index = page.back().index;
  }
}

// True if a task that asks for the same work is leased now.
bool HasLeasedTwin(Transaction& transaction, const std::string& result_key);
// Waiting and queued tasks that ask for this work, without those that wait for chunks: these are done when their chunks are.
std::vector<TaskRow> OpenTwins(Transaction& transaction, const std::string& result_key);
std::vector<TaskRow> TasksInState(Transaction& transaction, const std::string& job_id, TaskState state);

// Transitions. Each takes the row as it is now and updates it. INTERNAL if the table forbids it.
Status MarkLeased(Transaction& transaction, TaskRow* task);  // queued, or leased for a second attempt: counts lease_no up
Status MarkQueued(Transaction& transaction, TaskRow* task, int64_t not_before_ms);  // with its failures, suspect, transients, error, worker
Status MarkDone(Transaction& transaction, TaskRow* task, const TaskOutput& output, int64_t now_ms);
Status MarkFailed(Transaction& transaction, TaskRow* task, const std::string& error, const std::string& worker, int64_t now_ms);
Status MarkCancelled(Transaction& transaction, TaskRow* task, int64_t now_ms);
// Failed to queued, or to waiting if its source is not stored or its needs are not done, with a clean record.
Status MarkRetried(Transaction& transaction, TaskRow* task);
// Writes failures, suspect, transients, error and worker of a task that stays leased by another attempt.
void UpdateRecord(Transaction& transaction, const TaskRow& task);

void MarkFetched(Transaction& transaction, const std::string& job_id, int64_t task_id);

// Why a job's queued tasks may not move.
struct QueueSummary {
  int64_t ready = 0;                              // may be leased now
  int64_t next_ready_ms = 0;                      // when the first of the others may
  std::string last_error;                         // of one of those
  std::vector<std::optional<std::string>> roots;  // media roots that they need; none: the source is uploaded
};
QueueSummary SummarizeQueue(Transaction& transaction, const std::string& job_id, int64_t now_ms);

// True if any running job that is not paused has a queued task that may be leased now, or a leased one.
bool AnyTaskToLease(Transaction& transaction, int64_t now_ms);

// Over the whole farm.
struct TaskCount {
  TaskState state;
  int64_t count;
};
std::vector<TaskCount> CountTasks(Transaction& transaction);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_DB_TASKS_H_
