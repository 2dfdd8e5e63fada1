#include "coordinator/db/tasks.h"

#include "coordinator/db/blobs.h"
#include "coordinator/db/connection.h"
#include "coordinator/db/jobs.h"

#define NSIC_SELECT_TASK                                                                                              \
  "SELECT task.id, job_id, idx, file_idx, x, y, width, height, pixels, model_id, source_sha256, root_id, result_key," \
  " state, lease_no, record_from, failures, suspect, transients, error, worker, output_sha256, result,"               \
  " first_frame, frame_count, step, score_before, score_after FROM task "

namespace nsic {
namespace {

constexpr int kPage = 64;

// In the database; of the whole it is NULL.
std::string_view Name(TaskStep step) { return step == TaskStep::kEncode ? "encode" : "chunk"; }

std::optional<Rect> ReadRegion(Query& query, int column) {
  if (query.IsNull(column)) return std::nullopt;
  return Rect{static_cast<int>(query.Int(column)), static_cast<int>(query.Int(column + 1)), static_cast<int>(query.Int(column + 2)),
              static_cast<int>(query.Int(column + 3))};
}

std::optional<FrameSpan> ReadFrames(Query& query, int column) {
  if (query.IsNull(column)) return std::nullopt;
  return FrameSpan{static_cast<int>(query.Int(column)), static_cast<int>(query.Int(column + 1))};
}

TaskRow ReadTaskRow(Query& query) {
  TaskRow task;
  task.id = query.Int(0);
  task.job_id = query.Text(1);
  task.index = static_cast<int>(query.Int(2));
  task.file_index = static_cast<int>(query.Int(3));
  task.region = ReadRegion(query, 4);
  task.pixels = query.Int(8);
  task.model_id = query.Text(9);
  task.source_sha256 = query.Text(10);
  if (!query.IsNull(11)) task.root_id = query.Text(11);
  task.result_key = query.Text(12);
  task.state = ParseTaskState(query.Text(13)).value_or(TaskState::kWaiting);  // the column's CHECK admits no other names
  task.lease_no = query.Int(14);
  task.record_from = query.Int(15);
  task.failures = static_cast<int>(query.Int(16));
  task.suspect = query.Bool(17);
  task.transients = static_cast<int>(query.Int(18));
  task.error = query.Text(19);
  task.worker = query.Text(20);
  task.output_sha256 = query.Text(21);
  task.result = query.Text(22);
  task.frames = ReadFrames(query, 23);
  if (!query.IsNull(25)) task.step = query.Text(25) == Name(TaskStep::kEncode) ? TaskStep::kEncode : TaskStep::kChunk;
  if (!query.IsNull(26)) task.scores = ScorePair{query.Real(26), query.Real(27)};
  return task;
}

std::vector<TaskRow> ReadTaskRows(Query& query) {
  std::vector<TaskRow> tasks;
  while (query.Step()) tasks.push_back(ReadTaskRow(query));
  return tasks;
}

int64_t NextSequence(Transaction& transaction) {
  Query query(transaction, "UPDATE outcome_sequence SET last = last + 1 RETURNING last");
  query.Step();
  const int64_t sequence = query.Int(0);
  query.Run();
  return sequence;
}

// Checks the transition and notes who has something new to see.
Status Move(Transaction& transaction, TaskRow* task, TaskState to) {
  if (!IsAllowed(task->state, to)) {
    return InternalError("task " + std::to_string(task->id) + " cannot go from " + std::string(Name(task->state)) + " to " +
                         std::string(Name(to)));
  }
  task->state = to;
  transaction.changes().jobs.insert(task->job_id);
  transaction.changes().work = true;
  return OkStatus();
}

bool NeedsAreDone(Transaction& transaction, int64_t task_id) {
  return !Query(transaction, "SELECT 1 FROM task_need JOIN task ON task.id = needs_id WHERE task_id = ?1 AND state <> 'done'", task_id)
              .Step();
}

// A chunk task has ended: tells the encode tasks that wait for it.
Status TellThoseThatNeed(Transaction& transaction, const TaskRow& task, int64_t now_ms) {
  std::vector<TaskRow> waiting;
  {
    Query query(transaction, NSIC_SELECT_TASK "JOIN task_need ON task_need.task_id = task.id WHERE needs_id = ?1 AND state = 'waiting'",
                task.id);
    waiting = ReadTaskRows(query);
  }
  for (TaskRow& encode : waiting) {
    if (task.state == TaskState::kFailed) {
      NSIC_RETURN_IF_ERROR(MarkFailed(transaction, &encode, task.error, task.worker, now_ms));
    } else if (task.state == TaskState::kDone && NeedsAreDone(transaction, encode.id)) {
      NSIC_RETURN_IF_ERROR(Move(transaction, &encode, TaskState::kQueued));
      Query(transaction, "UPDATE task SET state = 'queued' WHERE id = ?1", encode.id).Run();
      // Somebody may have done it meanwhile in one piece.
      if (const std::optional<TaskRow> twin = FindDoneTwin(transaction, encode.result_key)) {
        NSIC_RETURN_IF_ERROR(MarkDone(transaction, &encode, OutputOf(*twin), now_ms));
      }
    }
  }
  return OkStatus();
}

// Its chunks are not needed any more.
void GiveUpNeeds(Transaction& transaction, int64_t task_id) {
  for (const Need& need : ListNeeds(transaction, task_id)) GiveUpBlob(transaction, need.output_sha256);
  Query(transaction, "UPDATE task SET fetched = 1 WHERE state = 'done' AND id IN (SELECT needs_id FROM task_need WHERE task_id = ?1)",
        task_id)
      .Run();
}

// After a task has ended: its source may go, others may have waited for it, its job may be over.
Status AfterEnd(Transaction& transaction, const TaskRow& task, int64_t now_ms) {
  if (!task.root_id && task.state != TaskState::kFailed) GiveUpBlob(transaction, task.source_sha256);
  if (task.step == TaskStep::kChunk) NSIC_RETURN_IF_ERROR(TellThoseThatNeed(transaction, task, now_ms));
  if (task.step == TaskStep::kEncode && task.state == TaskState::kDone) GiveUpNeeds(transaction, task.id);
  EndJobIfDone(transaction, task.job_id, now_ms);
  return OkStatus();
}

}  // namespace

TaskOutput OutputOf(const TaskRow& done) { return {done.output_sha256, done.result, done.scores, done.worker}; }

std::optional<TaskRow> FindTask(Transaction& transaction, int64_t id) {
  Query query(transaction, NSIC_SELECT_TASK "WHERE task.id = ?1", id);
  if (!query.Step()) return std::nullopt;
  return ReadTaskRow(query);
}

std::optional<TaskRow> FindDoneTwin(Transaction& transaction, const std::string& result_key) {
  Query query(transaction,
              NSIC_SELECT_TASK
              "WHERE result_key = ?1 AND state = 'done' AND EXISTS(SELECT 1 FROM blob WHERE sha256 = output_sha256 AND stored = 1) LIMIT 1",
              result_key);
  if (!query.Step()) return std::nullopt;
  return ReadTaskRow(query);
}

std::vector<OutcomeRow> ListOutcomes(Transaction& transaction, const std::string& job_id, int64_t after, int limit) {
  std::vector<OutcomeRow> outcomes;
  Query query(transaction,
              "SELECT end_seq, task.id, file_idx, x, y, width, height, parts, state, result, error, worker, fetched, first_frame,"
              " frame_count FROM task"
              " JOIN job_file ON job_file.job_id = task.job_id AND job_file.idx = file_idx"
              " WHERE task.job_id = ?1 AND end_seq > ?2 AND step IS NOT 'chunk' ORDER BY end_seq LIMIT ?3",
              job_id, after, limit);
  while (query.Step()) {
    OutcomeRow row;
    row.sequence = query.Int(0);
    row.task_id = query.Int(1);
    row.file_index = static_cast<int>(query.Int(2));
    row.region = ReadRegion(query, 3);
    row.parts = static_cast<int>(query.Int(7));
    row.state = ParseTaskState(query.Text(8)).value_or(TaskState::kFailed);
    row.result = query.Text(9);
    row.error = query.Text(10);
    row.worker = query.Text(11);
    row.fetched = query.Bool(12);
    row.frames = ReadFrames(query, 13);
    outcomes.push_back(std::move(row));
  }
  return outcomes;
}

void InsertTask(Transaction& transaction, TaskRow* task, std::string_view segment) {
  std::optional<int> x, y, width, height, first_frame, frame_count;
  std::optional<AsBlob> segment_bytes;
  std::optional<std::string_view> step;
  if (task->region) {
    x = task->region->x;
    y = task->region->y;
    width = task->region->width;
    height = task->region->height;
  }
  if (task->frames) {
    first_frame = task->frames->first;
    frame_count = task->frames->count;
    segment_bytes = AsBlob{segment};
  }
  if (task->step != TaskStep::kWhole) step = Name(task->step);
  Query(transaction,
        "INSERT INTO task(job_id, idx, file_idx, x, y, width, height, pixels, model_id, source_sha256, root_id, result_key, state,"
        " first_frame, frame_count, segment, step, file_share)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        task->job_id, task->index, task->file_index, x, y, width, height, task->pixels, task->model_id, task->source_sha256, task->root_id,
        task->result_key, Name(task->state), first_frame, frame_count, segment_bytes, step, task->file_share)
      .Run();
  task->id = transaction.connection().LastInsertId();
}

std::string FindSegment(Transaction& transaction, int64_t task_id) {
  Query query(transaction, "SELECT segment FROM task WHERE id = ?1", task_id);
  return query.Step() ? query.Text(0) : std::string();
}

void InsertNeed(Transaction& transaction, int64_t task_id, int64_t needs_id) {
  Query(transaction, "INSERT INTO task_need(task_id, needs_id) VALUES (?1, ?2)", task_id, needs_id).Run();
}

std::vector<Need> ListNeeds(Transaction& transaction, int64_t task_id) {
  std::vector<Need> needs;
  Query query(transaction,
              "SELECT first_frame, frame_count, output_sha256, blob.size, result FROM task_need JOIN task ON task.id = needs_id"
              " JOIN blob ON blob.sha256 = output_sha256 WHERE task_id = ?1 AND state = 'done' ORDER BY first_frame",
              task_id);
  while (query.Step()) {
    needs.push_back({{static_cast<int>(query.Int(0)), static_cast<int>(query.Int(1))}, query.Text(2), query.Int(3), query.Text(4)});
  }
  return needs;
}

#define NSIC_LEASABLE                                                                                                       \
  "AND (suspect, idx) > (?4, ?5) AND not_before_ms <= ?3"                                                                   \
  " AND (root_id IS NULL OR EXISTS(SELECT 1 FROM worker_root WHERE worker_id = ?2 AND worker_root.root_id = task.root_id))" \
  " ORDER BY suspect, idx LIMIT ?6"

std::vector<TaskRow> LeasablePage(Transaction& transaction, const std::string& job_id, int64_t worker_id, int64_t now_ms, bool only_encodes,
                                  bool suspect, int index) {
  Query query(transaction,
              only_encodes ? NSIC_SELECT_TASK "WHERE job_id = ?1 AND state = 'queued' AND step = 'encode' " NSIC_LEASABLE
                           : NSIC_SELECT_TASK "WHERE job_id = ?1 AND state = 'queued' " NSIC_LEASABLE,
              job_id, worker_id, now_ms, suspect, index, kPage);
  return ReadTaskRows(query);
}

bool HasLeasedTwin(Transaction& transaction, const std::string& result_key) {
  return Query(transaction, "SELECT 1 FROM task WHERE result_key = ?1 AND state = 'leased'", result_key).Step();
}

std::vector<TaskRow> OpenTwins(Transaction& transaction, const std::string& result_key) {
  Query query(transaction, NSIC_SELECT_TASK "WHERE result_key = ?1 AND (state = 'queued' OR (state = 'waiting' AND step IS NOT 'encode'))",
              result_key);
  return ReadTaskRows(query);
}

std::vector<TaskRow> TasksInState(Transaction& transaction, const std::string& job_id, TaskState state) {
  Query query(transaction, NSIC_SELECT_TASK "WHERE job_id = ?1 AND state = ?2 ORDER BY idx", job_id, Name(state));
  return ReadTaskRows(query);
}

Status MarkLeased(Transaction& transaction, TaskRow* task) {
  ++task->lease_no;
  if (task->state != TaskState::kLeased) NSIC_RETURN_IF_ERROR(Move(transaction, task, TaskState::kLeased));
  Query(transaction, "UPDATE task SET state = 'leased', lease_no = ?2 WHERE id = ?1", task->id, task->lease_no).Run();
  return OkStatus();
}

Status MarkQueued(Transaction& transaction, TaskRow* task, int64_t not_before_ms) {
  NSIC_RETURN_IF_ERROR(Move(transaction, task, TaskState::kQueued));
  Query(transaction, "UPDATE task SET state = 'queued', not_before_ms = ?2 WHERE id = ?1", task->id, not_before_ms).Run();
  UpdateRecord(transaction, *task);
  return OkStatus();
}

void UpdateRecord(Transaction& transaction, const TaskRow& task) {
  Query(transaction, "UPDATE task SET failures = ?2, suspect = ?3, transients = ?4, error = ?5, worker = ?6 WHERE id = ?1", task.id,
        task.failures, task.suspect, task.transients, task.error, task.worker)
      .Run();
}

Status MarkDone(Transaction& transaction, TaskRow* task, const TaskOutput& output, int64_t now_ms) {
  NSIC_RETURN_IF_ERROR(Move(transaction, task, TaskState::kDone));
  task->output_sha256 = output.sha256;
  task->result = output.result;
  task->scores = output.scores;
  std::optional<double> before, after;
  if (output.scores) {
    before = output.scores->before;
    after = output.scores->after;
  }
  Query(transaction,
        "UPDATE task SET state = 'done', output_sha256 = ?2, result = ?3, worker = ?4, error = '', end_seq = ?5, ended_ms = ?6,"
        " score_before = ?7, score_after = ?8 WHERE id = ?1",
        task->id, output.sha256, AsBlob{output.result}, output.worker, NextSequence(transaction), now_ms, before, after)
      .Run();
  return AfterEnd(transaction, *task, now_ms);
}

Status MarkFailed(Transaction& transaction, TaskRow* task, const std::string& error, const std::string& worker, int64_t now_ms) {
  NSIC_RETURN_IF_ERROR(Move(transaction, task, TaskState::kFailed));
  task->error = error;
  task->worker = worker;
  Query(transaction, "UPDATE task SET state = 'failed', end_seq = ?2, ended_ms = ?3 WHERE id = ?1", task->id, NextSequence(transaction),
        now_ms)
      .Run();
  UpdateRecord(transaction, *task);
  return AfterEnd(transaction, *task, now_ms);
}

Status MarkCancelled(Transaction& transaction, TaskRow* task, int64_t now_ms) {
  NSIC_RETURN_IF_ERROR(Move(transaction, task, TaskState::kCancelled));
  Query(transaction, "UPDATE task SET state = 'cancelled', end_seq = ?2, ended_ms = ?3 WHERE id = ?1", task->id, NextSequence(transaction),
        now_ms)
      .Run();
  if (!task->root_id) GiveUpBlob(transaction, task->source_sha256);
  return OkStatus();
}

Status MarkRetried(Transaction& transaction, TaskRow* task) {
  const bool here = task->step == TaskStep::kEncode ? NeedsAreDone(transaction, task->id)
                                                    : task->root_id.has_value() || IsStored(transaction, task->source_sha256);
  NSIC_RETURN_IF_ERROR(Move(transaction, task, here ? TaskState::kQueued : TaskState::kWaiting));
  Query(transaction,
        "UPDATE task SET state = ?2, record_from = lease_no, failures = 0, suspect = 0, transients = 0, not_before_ms = 0, end_seq = NULL,"
        " ended_ms = NULL, error = '', worker = '' WHERE id = ?1",
        task->id, Name(task->state))
      .Run();
  return OkStatus();
}

void MarkFetched(Transaction& transaction, const std::string& job_id, int64_t task_id) {
  Query(transaction, "UPDATE task SET fetched = 1 WHERE id = ?1 AND job_id = ?2 AND state = 'done' AND step IS NOT 'chunk'", task_id,
        job_id)
      .Run();
  transaction.changes().garbage = true;  // the outputs may go when room is needed
}

QueueSummary SummarizeQueue(Transaction& transaction, const std::string& job_id, int64_t now_ms) {
  QueueSummary summary;
  {
    Query query(transaction, "SELECT count(*) FROM task WHERE job_id = ?1 AND state = 'queued' AND not_before_ms <= ?2", job_id, now_ms);
    query.Step();
    summary.ready = query.Int(0);
  }
  {
    Query query(transaction,
                "SELECT not_before_ms, error FROM task WHERE job_id = ?1 AND state = 'queued' AND not_before_ms > ?2"
                " ORDER BY not_before_ms LIMIT 1",
                job_id, now_ms);
    if (query.Step()) {
      summary.next_ready_ms = query.Int(0);
      summary.last_error = query.Text(1);
    }
  }
  Query query(transaction, "SELECT DISTINCT root_id FROM task WHERE job_id = ?1 AND state = 'queued'", job_id);
  while (query.Step()) summary.roots.push_back(query.IsNull(0) ? std::nullopt : std::make_optional(query.Text(0)));
  return summary;
}

bool AnyTaskToLease(Transaction& transaction, int64_t now_ms) {
  Query query(transaction,
              "SELECT 1 FROM job WHERE state = 'running' AND paused = 0 AND (n_leased > 0 OR (n_queued > 0 AND EXISTS("
              "SELECT 1 FROM task WHERE job_id = job.id AND state = 'queued' AND not_before_ms <= ?1))) LIMIT 1",
              now_ms);
  return query.Step();
}

std::vector<TaskCount> CountTasks(Transaction& transaction) {
  Query query(transaction, "SELECT sum(n_waiting), sum(n_queued), sum(n_leased), sum(n_done), sum(n_failed), sum(n_cancelled) FROM job");
  query.Step();
  std::vector<TaskCount> counts;
  int column = 0;
  for (const TaskState state : kAllTaskStates) counts.push_back({state, query.Int(column++)});
  return counts;
}

}  // namespace nsic
