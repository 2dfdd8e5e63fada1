// Every pair of states, for tasks and attempts: the table in code against a list written out here by hand.
#include "core/farm/task_state.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>

namespace nsic {
namespace {

using Pair = std::pair<std::string, std::string>;

const std::set<Pair> kTaskPairs = {
    {"waiting", "queued"},   {"waiting", "done"},     {"waiting", "cancelled"}, {"queued", "leased"},  {"queued", "done"},
    {"queued", "failed"},    {"queued", "cancelled"}, {"leased", "queued"},     {"leased", "done"},    {"leased", "failed"},
    {"leased", "cancelled"}, {"failed", "queued"},    {"failed", "waiting"},    {"waiting", "failed"},
};
const std::set<Pair> kAttemptPairs = {
    {"active", "succeeded"}, {"active", "failed"},     {"active", "expired"},
    {"active", "released"},  {"active", "superseded"}, {"expired", "succeeded"},
};

template <typename State, typename Table>
void CheckEveryPair(const Table& states, const std::set<Pair>& allowed) {
  for (const State from : states) {
    for (const State to : states) {
      const Pair pair{std::string(Name(from)), std::string(Name(to))};
      EXPECT_EQ(IsAllowed(from, to), allowed.count(pair) == 1) << pair.first << " -> " << pair.second;
    }
  }
}

TEST(TaskState, EveryPairOfTaskStates) { CheckEveryPair<TaskState>(kAllTaskStates, kTaskPairs); }
TEST(TaskState, EveryPairOfAttemptStates) { CheckEveryPair<AttemptState>(kAllAttemptStates, kAttemptPairs); }

TEST(TaskState, NamesComeBack) {
  for (const TaskState state : kAllTaskStates) EXPECT_EQ(ParseTaskState(Name(state)), state) << Name(state);
  for (const AttemptState state : kAllAttemptStates) EXPECT_EQ(ParseAttemptState(Name(state)), state) << Name(state);
  EXPECT_EQ(ParseTaskState("Queued"), std::nullopt);
  EXPECT_EQ(ParseAttemptState(""), std::nullopt);
}

TEST(TaskState, WhatEndsATask) {
  for (const TaskState state : kAllTaskStates) {
    const bool ended = Name(state) == "done" || Name(state) == "failed" || Name(state) == "cancelled";
    EXPECT_EQ(HasEnded(state), ended) << Name(state);
  }
}

// Only the user takes a task out of failed, and nothing leaves done or cancelled.
TEST(TaskState, EndedTasksStayEnded) {
  for (const TaskTransition& transition : kTaskTransitions) {
    EXPECT_NE(transition.from, TaskState::kDone) << Name(transition.to);
    EXPECT_NE(transition.from, TaskState::kCancelled) << Name(transition.to);
    if (transition.from == TaskState::kFailed) {
      EXPECT_EQ(transition.actor, Actor::kUser) << Name(transition.to);
    }
  }
}

}  // namespace
}  // namespace nsic
