// The clock, the bounded queue and the cancel token: what threads share.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "core/base/bounded_queue.h"
#include "core/base/cancel.h"
#include "core/base/clock.h"

namespace nsic {
namespace {

TEST(ClockTest, ManualClockMovesOnlyWhenTold) {
  ManualClock clock(1000);
  EXPECT_EQ(clock.WallMs(), 1000);
  const int64_t start = clock.MonotonicUs();
  clock.AdvanceMs(250);
  EXPECT_EQ(clock.WallMs(), 1250);
  EXPECT_EQ(clock.MonotonicUs() - start, 250'000);
}

TEST(ClockTest, SystemClockDoesNotGoBack) {
  SystemClock clock;
  EXPECT_GT(clock.WallMs(), 1'600'000'000'000) << "milliseconds since 1970";
  int64_t last = clock.MonotonicUs();
  for (int i = 0; i < 1000; ++i) {
    const int64_t now = clock.MonotonicUs();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(BoundedQueueTest, KeepsOrderAndDrainsAfterClose) {
  BoundedQueue<int> queue(3);
  EXPECT_TRUE(queue.Push(1));
  EXPECT_TRUE(queue.Push(2));
  queue.Close();
  queue.Close();
  EXPECT_FALSE(queue.Push(3));
  EXPECT_EQ(queue.Pop(), 1);
  EXPECT_EQ(queue.Pop(), 2);
  EXPECT_EQ(queue.Pop(), std::nullopt);
}

TEST(BoundedQueueTest, CarriesWhatCannotBeCopied) {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  EXPECT_TRUE(queue.Push(std::make_unique<int>(7)));
  EXPECT_EQ(**queue.Pop(), 7);
}

TEST(BoundedQueueTest, NeverHoldsMoreThanItsCapacity) {
  constexpr int kItems = 2000;
  BoundedQueue<int> queue(4);
  std::atomic<size_t> most{0};
  std::vector<std::thread> producers;
  for (int p = 0; p < 3; ++p) {
    producers.emplace_back([&queue, p] {
      for (int i = p; i < kItems; i += 3) ASSERT_TRUE(queue.Push(i));
    });
  }
  std::vector<std::vector<int>> taken(2);
  std::vector<std::thread> consumers;
  for (std::vector<int>& mine : taken) {
    consumers.emplace_back([&queue, &mine, &most] {
      while (auto item = queue.Pop()) {
        mine.push_back(*item);
        if (queue.size() > most) most = queue.size();
      }
    });
  }
  for (std::thread& thread : producers) thread.join();
  queue.Close();
  for (std::thread& thread : consumers) thread.join();
  std::vector<int> all = taken[0];
  all.insert(all.end(), taken[1].begin(), taken[1].end());
  std::sort(all.begin(), all.end());
  std::vector<int> expected(kItems);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(all, expected);
  EXPECT_LE(most, 4u);
}

TEST(BoundedQueueTest, CloseWakesBothSides) {
  BoundedQueue<int> full(1);
  ASSERT_TRUE(full.Push(1));
  auto pusher = std::async(std::launch::async, [&full] { return full.Push(2); });
  BoundedQueue<int> empty(1);
  auto popper = std::async(std::launch::async, [&empty] { return empty.Pop(); });
  full.Close();
  empty.Close();
  EXPECT_FALSE(pusher.get());
  EXPECT_EQ(popper.get(), std::nullopt);
}

TEST(CancelTokenTest, ChecksAndWakes) {
  CancelToken token;
  EXPECT_FALSE(token.cancelled());
  EXPECT_TRUE(token.Check().ok());
  EXPECT_FALSE(token.WaitFor(std::chrono::milliseconds(1)));
  auto sleeper = std::async(std::launch::async, [&token] { return token.WaitFor(std::chrono::hours(1)); });
  token.Cancel();
  token.Cancel();
  EXPECT_TRUE(sleeper.get());
  EXPECT_TRUE(token.cancelled());
  EXPECT_EQ(token.Check().code(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace nsic
