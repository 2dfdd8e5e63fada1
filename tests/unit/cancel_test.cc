#include "core/base/cancel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace nsic {
namespace {

TEST(CancelCallback, RunsOnceWhenTheTokenIsCancelled) {
  CancelToken token;
  int runs = 0;
  const CancelCallback callback(token, [&] { ++runs; });
  EXPECT_EQ(runs, 0);
  token.Cancel();
  EXPECT_EQ(runs, 1);
  token.Cancel();
  EXPECT_EQ(runs, 1);
}

TEST(CancelCallback, RunsAtOnceForATokenThatIsCancelledAlready) {
  CancelToken token;
  token.Cancel();
  int runs = 0;
  const CancelCallback callback(token, [&] { ++runs; });
  EXPECT_EQ(runs, 1);
}

TEST(CancelCallback, DoesNotRunAfterItsEnd) {
  CancelToken token;
  int runs = 0;
  {
    const CancelCallback callback(token, [&] { ++runs; });
  }
  token.Cancel();
  EXPECT_EQ(runs, 0);
}

TEST(CancelCallback, IsNotRunningOnceItsDestructorHasReturned) {
  for (int round = 0; round < 200; ++round) {
    CancelToken token;
    auto alive = std::make_unique<std::atomic<bool>>(true);
    std::atomic<bool> ran_late{false};
    std::thread canceller([&] { token.Cancel(); });
    {
      const CancelCallback callback(token, [&, flag = alive.get()] {
        if (!flag->load()) ran_late = true;
      });
    }
    *alive = false;
    canceller.join();
    ASSERT_FALSE(ran_late) << "round " << round;
  }
}

TEST(CancelToken, WakesWhoeverWaits) {
  CancelToken token;
  std::vector<std::thread> waiters;
  std::atomic<int> woken{0};
  for (int i = 0; i < 4; ++i) {
    waiters.emplace_back([&] {
      if (token.WaitFor(std::chrono::hours(1))) ++woken;
    });
  }
  token.Cancel();
  for (std::thread& waiter : waiters) waiter.join();
  EXPECT_EQ(woken, 4);
}

}  // namespace
}  // namespace nsic
