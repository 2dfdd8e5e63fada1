#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <string>

#include "client/progress.h"

namespace nsic {
namespace {

ProgressState Restoring() {
  ProgressState state;
  state.activity = "restoring";
  state.files = 60;
  state.files_done = 27;
  state.units_total = 200;
  state.units_done = 90;
  state.unit = "MP";
  return state;
}

TEST(DescribeProgress, SaysWhatIsKnown) {
  ProgressState state = Restoring();
  EXPECT_EQ(DescribeProgress(state, 0, 0), "restoring 27/60 pictures");
  EXPECT_EQ(DescribeProgress(state, 3.2, 0), "restoring 27/60 pictures, 3.20 MP/s, about 35 s left");
  EXPECT_EQ(DescribeProgress(state, 3.2, 10), "[####......] 45%  restoring 27/60 pictures, 3.20 MP/s, about 35 s left");
  state.files_failed = 1;
  EXPECT_EQ(DescribeProgress(state, 0, 0), "restoring 27/60 pictures, 1 failed");
  state.remark = "no worker is connected";
  EXPECT_EQ(DescribeProgress(state, 3.2, 0), "restoring 27/60 pictures, 1 failed, no worker is connected")
      << "no time left while nothing moves";
  state = Restoring();
  state.units_done = 200;
  EXPECT_EQ(DescribeProgress(state, 3.2, 4), "[####] 100%  restoring 27/60 pictures, 3.20 MP/s");
  state.unit = "";
  EXPECT_EQ(DescribeProgress(state, 3.2, 4), "[#...] 45%  restoring 27/60 pictures");
  EXPECT_EQ(DescribeProgress(ProgressState(), 0, 4), "[....] 0%   0/0 pictures");
  state = Restoring();
  state.noun = "file";
  state.frames_total = 5000;
  state.frames_done = 120;
  EXPECT_EQ(DescribeProgress(state, 3.2, 0, 12.25), "restoring 27/60 files, 120/5000 frames, 12.2 fps, 3.20 MP/s, about 35 s left");
  EXPECT_EQ(DescribeProgress(state, 0, 0, 0), "restoring 27/60 files, 120/5000 frames");
  state.remark = "putting a.mkv together (45%)";
  EXPECT_EQ(DescribeProgress(state, 3.2, 0, 12.25), "restoring 27/60 files, 120/5000 frames, putting a.mkv together (45%)");
}

TEST(RateMeter, KnowsNoRateBeforeTwoSecondsOfWork) {
  RateMeter meter;
  EXPECT_EQ(meter.PerSecond(), 0);
  meter.Add(0, 0);
  meter.Add(1'000'000, 5);
  EXPECT_EQ(meter.PerSecond(), 0);
  meter.Add(4'000'000, 20);
  EXPECT_DOUBLE_EQ(meter.PerSecond(), 5);
}

TEST(RateMeter, FallsWhileNothingMoves) {
  RateMeter meter;
  meter.Add(0, 0);
  meter.Add(10'000'000, 100);
  EXPECT_DOUBLE_EQ(meter.PerSecond(), 10);
  meter.Add(20'000'000, 100);
  meter.Add(40'000'000, 100);
  EXPECT_DOUBLE_EQ(meter.PerSecond(), 2.5);
}

TEST(RateMeter, ForgetsWhatIsOlderThanTwoMinutes) {
  RateMeter meter;
  for (int second = 0; second <= 100; ++second) meter.Add(second * 1'000'000, second * 50.0);
  for (int second = 101; second <= 400; ++second) meter.Add(second * 1'000'000, 5000.0 + second - 100);
  EXPECT_NEAR(meter.PerSecond(), 1, 0.05);
}

// What a Progress writes, read back.
class Written {
 public:
  Written() : file_(std::tmpfile(), &std::fclose) {}
  std::FILE* file() { return file_.get(); }
  std::string text() {
    std::fflush(file_.get());
    std::rewind(file_.get());
    std::string text;
    for (int c = std::fgetc(file_.get()); c != EOF; c = std::fgetc(file_.get())) text += static_cast<char>(c);
    return text;
  }

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

TEST(Progress, WritesPlainLinesAtIntervalsIntoAPipe) {
  Written out;
  ManualClock clock;
  Progress progress(out.file(), false, &clock);
  ProgressState state = Restoring();
  progress.Update(state);
  clock.AdvanceMs(9'000);
  progress.Update(state);
  clock.AdvanceMs(2'000);
  progress.Update(state);
  clock.AdvanceMs(11'000);
  progress.Update(state);  // nothing new
  progress.Notice("failed: a.jpg");
  clock.AdvanceMs(11'000);
  ++state.files_done;
  progress.Update(state);
  EXPECT_EQ(out.text(), "restoring 27/60 pictures\nfailed: a.jpg\nrestoring 28/60 pictures\n");
}

TEST(Progress, RedrawsOneLineOnATerminal) {
  Written out;
  ManualClock clock;
  Progress progress(out.file(), true, &clock);
  clock.AdvanceMs(200);
  progress.Update(Restoring());
  progress.Notice("failed: a.jpg");
  progress.Clear();
  EXPECT_EQ(out.text(),
            "\r\x1b[K[##########..............] 45%  restoring 27/60 pictures\r\x1b[K"
            "failed: a.jpg\n");
}

}  // namespace
}  // namespace nsic
