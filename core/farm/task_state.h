// The states of tasks and of attempts, and who may change them: the one table that code, SQL and tests share.
//
// A task is a piece of work; an attempt is one worker's lease on it. The coordinator's migrations write the same rows and a trigger
// enforces them; a test compares the two and tries every pair of states.
// Invariant (audited, no constraint can say it): a task is leased if and only if one or two of its attempts are active.
#ifndef NSIC_CORE_FARM_TASK_STATE_H_
#define NSIC_CORE_FARM_TASK_STATE_H_

#include <optional>
#include <string_view>

namespace nsic {

enum class TaskState {
  kWaiting,    // its source has not been uploaded, or tasks that it needs are not done
  kQueued,     // can be leased
  kLeased,     // one or two workers are at it
  kDone,       // has an output; never changes again
  kFailed,     // changes only when the user says retry
  kCancelled,  // never changes again
};

enum class AttemptState {
  kActive,
  kSucceeded,   // its result is the task's
  kFailed,      // the worker said that it could not
  kExpired,     // the worker fell silent, or started anew without giving the lease back
  kReleased,    // the worker gave it back; counts for nothing
  kSuperseded,  // the task ended without it: another attempt won, the file was bad, or the job was cancelled
};

// The only one that makes a transition.
enum class Actor {
  kSource,     // what it waits for is there: its source blob, or the results of all tasks that it needs
  kNeed,       // a task that it needs has failed for good
  kScheduler,  // a lease was granted
  kResult,     // a result was committed: of this attempt, of a late one, or of another task that asks for the same work
  kLeaseEnd,   // an attempt ended without a result
  kUser,       // cancel, retry
  kWorker,     // Complete, Fail, Release
  kSweeper,    // a lease ran out or its session was fenced
  kTaskEnd,    // the task ended by other means
};

struct TaskTransition {
  TaskState from;
  TaskState to;
  Actor actor;
};

struct AttemptTransition {
  AttemptState from;
  AttemptState to;
  Actor actor;
};

inline constexpr TaskTransition kTaskTransitions[] = {
    {TaskState::kWaiting, TaskState::kQueued, Actor::kSource},
    {TaskState::kWaiting, TaskState::kDone, Actor::kResult},
    {TaskState::kWaiting, TaskState::kCancelled, Actor::kUser},
    {TaskState::kQueued, TaskState::kLeased, Actor::kScheduler},
    {TaskState::kQueued, TaskState::kDone, Actor::kResult},
    {TaskState::kQueued, TaskState::kFailed, Actor::kLeaseEnd},
    {TaskState::kQueued, TaskState::kCancelled, Actor::kUser},
    {TaskState::kLeased, TaskState::kQueued, Actor::kLeaseEnd},
    {TaskState::kLeased, TaskState::kDone, Actor::kResult},
    {TaskState::kLeased, TaskState::kFailed, Actor::kLeaseEnd},
    {TaskState::kLeased, TaskState::kCancelled, Actor::kUser},
    {TaskState::kFailed, TaskState::kQueued, Actor::kUser},
    // Retry of a task whose source has been dropped meanwhile, or whose needs have failed.
    {TaskState::kFailed, TaskState::kWaiting, Actor::kUser},
    {TaskState::kWaiting, TaskState::kFailed, Actor::kNeed},
};

inline constexpr AttemptTransition kAttemptTransitions[] = {
    {AttemptState::kActive, AttemptState::kSucceeded, Actor::kWorker},
    {AttemptState::kActive, AttemptState::kFailed, Actor::kWorker},
    {AttemptState::kActive, AttemptState::kExpired, Actor::kSweeper},
    {AttemptState::kActive, AttemptState::kReleased, Actor::kWorker},
    {AttemptState::kActive, AttemptState::kSuperseded, Actor::kTaskEnd},
    {AttemptState::kExpired, AttemptState::kSucceeded, Actor::kWorker},  // a late winner
};

inline constexpr TaskState kAllTaskStates[] = {TaskState::kWaiting, TaskState::kQueued, TaskState::kLeased,
                                               TaskState::kDone,    TaskState::kFailed, TaskState::kCancelled};
inline constexpr AttemptState kAllAttemptStates[] = {AttemptState::kActive,  AttemptState::kSucceeded, AttemptState::kFailed,
                                                     AttemptState::kExpired, AttemptState::kReleased,  AttemptState::kSuperseded};

constexpr bool IsAllowed(TaskState from, TaskState to) {
  for (const TaskTransition& t : kTaskTransitions) {
    if (t.from == from && t.to == to) return true;
  }
  return false;
}

constexpr bool IsAllowed(AttemptState from, AttemptState to) {
  for (const AttemptTransition& t : kAttemptTransitions) {
    if (t.from == from && t.to == to) return true;
  }
  return false;
}

// True for done, failed and cancelled: the task appears among its job's outcomes.
constexpr bool HasEnded(TaskState state) {
  return state == TaskState::kDone || state == TaskState::kFailed || state == TaskState::kCancelled;
}

// The spelling in the database and in metrics.
constexpr std::string_view Name(TaskState state) {
  switch (state) {
    case TaskState::kWaiting: return "waiting";
    case TaskState::kQueued: return "queued";
    case TaskState::kLeased: return "leased";
    case TaskState::kDone: return "done";
    case TaskState::kFailed: return "failed";
    case TaskState::kCancelled: return "cancelled";
  }
  return "";
}

constexpr std::string_view Name(AttemptState state) {
  switch (state) {
    case AttemptState::kActive: return "active";
    case AttemptState::kSucceeded: return "succeeded";
    case AttemptState::kFailed: return "failed";
    case AttemptState::kExpired: return "expired";
    case AttemptState::kReleased: return "released";
    case AttemptState::kSuperseded: return "superseded";
  }
  return "";
}

constexpr std::string_view Name(Actor actor) {
  switch (actor) {
    case Actor::kSource: return "source";
    case Actor::kNeed: return "need";
    case Actor::kScheduler: return "scheduler";
    case Actor::kResult: return "result";
    case Actor::kLeaseEnd: return "lease end";
    case Actor::kUser: return "user";
    case Actor::kWorker: return "worker";
    case Actor::kSweeper: return "sweeper";
    case Actor::kTaskEnd: return "task end";
  }
  return "";
}

constexpr std::optional<TaskState> ParseTaskState(std::string_view name) {
  for (const TaskState state : kAllTaskStates) {
    if (Name(state) == name) return state;
  }
  return std::nullopt;
}

constexpr std::optional<AttemptState> ParseAttemptState(std::string_view name) {
  for (const AttemptState state : kAllAttemptStates) {
    if (Name(state) == name) return state;
  }
  return std::nullopt;
}

}  // namespace nsic

#endif  // NSIC_CORE_FARM_TASK_STATE_H_
