// Where videos are cut: table-driven, then random indexes against the rules.
#include "core/farm/plan_segments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace nsic {
namespace {

// `count` frames, `ticks` apart.
std::vector<int64_t> Constant(int count, int64_t ticks, int64_t first = 0) {
  std::vector<int64_t> pts;
  for (int i = 0; i < count; ++i) pts.push_back(first + i * ticks);
  return pts;
}

std::vector<int> Every(int count, int gop) {
  std::vector<int> keys;
  for (int i = 0; i < count; i += gop) keys.push_back(i);
  return keys;
}

std::string Text(const std::vector<FrameSpan>& spans) {
  std::string text;
  for (const FrameSpan& span : spans) text += (text.empty() ? "" : " ") + std::to_string(span.first) + "+" + std::to_string(span.count);
  return text;
}

TEST(PlanSegments, Table) {
  const SegmentTargets usual;
  SegmentTargets few_frames;
  few_frames.most_frames = 30;
  SegmentTargets short_ones;
  short_ones.most_seconds = 4;
  const struct {
    const char* what;
    std::vector<int64_t> pts;
    double tick;
    std::vector<int> keys;
    FrameSpan range;
    SegmentTargets targets;
    const char* spans;
  } rows[] = {
      {"one frame", Constant(1, 1), 0.04, {0}, {0, 1}, usual, "0+1"},
      {"shorter than the least", Constant(25, 1), 0.04, {0}, {0, 25}, usual, "0+25"},
      {"exactly the most", Constant(250, 1), 0.04, Every(250, 50), {0, 250}, usual, "0+250"},
      {"the last key frame within the most that leaves enough",
       Constant(500, 1),
       0.04,
       Every(500, 60),
       {0, 500},
       usual,
       "0+240 240+180 420+80"},
      {"a key frame at the most itself", Constant(550, 1), 0.04, Every(550, 125), {0, 550}, usual, "0+250 250+250 500+50"},
      {"one long GOP", Constant(600, 1), 0.04, {0}, {0, 600}, usual, "0+250 250+250 500+100"},
      {"no tail of a frame", Constant(251, 1), 0.04, {0}, {0, 251}, usual, "0+201 201+50"},
      {"key frames too near and too far", Constant(600, 1), 0.04, {0, 40, 300}, {0, 600}, usual, "0+250 250+50 300+250 550+50"},
      {"a range within", Constant(1000, 1), 0.04, Every(1000, 100), {130, 600}, usual, "130+170 300+200 500+230"},
      {"23.976 in ms, rounded", {}, 0.001, Every(600, 48), {0, 600}, usual, "0+192 192+192 384+216"},
      {"a start before zero", Constant(500, 3600, -7200), 1.0 / 90000, Every(500, 125), {0, 500}, usual, "0+250 250+250"},
      {"a slide show", Constant(100, 30), 1, Every(100, 1), {0, 100}, usual, "0+24 24+24 48+24 72+24 96+4"},
      {"a fast camera", Constant(100, 1), 0.001, {0}, {0, 100}, few_frames, "0+30 30+30 60+30 90+10"},
      {"shorter segments", Constant(500, 1), 0.04, Every(500, 50), {0, 500}, short_ones, "0+100 100+100 200+100 300+100 400+100"},
  };
  for (const auto& row : rows) {
    std::vector<int64_t> pts = row.pts;
    for (int i = 0; pts.empty() || (row.pts.empty() && i < row.range.count); ++i) pts.push_back((int64_t{i} * 1001 * 1000 + 12000) / 24000);
    EXPECT_EQ(Text(PlanSegments(pts, row.tick, row.keys, row.range, row.targets)), row.spans) << row.what;
  }
}

TEST(PlanSegments, AnyIndexIsCoveredWithinBounds) {
  std::mt19937 random(7);
  for (int round = 0; round < 500; ++round) {
    const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    const int count = pick(1, 5000);
    const int slow = pick(1, 200);
    std::vector<int64_t> pts;
    int64_t at = pick(-100'000, 100'000);
    for (int i = 0; i < count; ++i) pts.push_back(at += pick(1, slow));
    std::set<int> keys = {0};
    for (int i = pick(0, 50); i > 0; --i) keys.insert(pick(0, count - 1));
    const std::vector<int> key_frames(keys.begin(), keys.end());
    const int first = pick(0, count - 1);
    const FrameSpan range{first, pick(1, count - first)};
    SegmentTargets targets;
    targets.least_frames = pick(1, 30);
    targets.most_frames = targets.least_frames * pick(2, 50);
    const double tick = 1e-3 * pick(1, 20);
    const std::vector<FrameSpan> spans = PlanSegments(pts, tick, key_frames, range, targets);
    int next = range.first;
    for (size_t i = 0; i < spans.size(); ++i) {
      const FrameSpan span = spans[i];
      const std::string what = "round " + std::to_string(round) + ", span " + std::to_string(i) + " of " + Text(spans);
      ASSERT_EQ(span.first, next) << what;
      ASSERT_GE(span.count, 1) << what;
      next = span.end();
      if (span.end() < range.end()) {
        const auto seconds = static_cast<double>(pts[static_cast<size_t>(span.end())] - pts[static_cast<size_t>(span.first)]) * tick;
        ASSERT_TRUE(seconds <= targets.most_seconds + 1e-6 || span.count == targets.least_frames) << what << ": " << seconds << " s";
        ASSERT_TRUE(seconds >= targets.least_seconds - 1e-6 || span.count == targets.most_frames) << what << ": " << seconds << " s";
        ASSERT_GE(span.count, targets.least_frames) << what;
      }
      ASSERT_LE(span.count, targets.most_frames) << what;
    }
    ASSERT_EQ(next, range.end());
  }
}

TEST(PlanSegments, TwoHoursAreAFewHundredSegments) {
  const int frames = 172'800;
  const std::vector<FrameSpan> spans = PlanSegments(Constant(frames, 512), 1.0 / 12288, Every(frames, 120), {0, frames}, SegmentTargets());
  EXPECT_EQ(spans.size(), 720u);
  EXPECT_EQ(std::accumulate(spans.begin(), spans.end(), 0, [](int sum, FrameSpan span) { return sum + span.count; }), frames);
}

TEST(ShareFrames, PartsDifferByOneFrame) {
  const struct {
    FrameSpan span;
    int most;
    const char* parts;
  } rows[] = {
      {{0, 1}, 1, "0+1"},
      {{5, 10}, 10, "5+10"},
      {{5, 10}, 100, "5+10"},
      {{5, 10}, 9, "5+5 10+5"},
      {{0, 10}, 4, "0+3 3+3 6+4"},
      {{7, 3}, 1, "7+1 8+1 9+1"},
      {{0, 96}, 28, "0+24 24+24 48+24 72+24"},
  };
  for (const auto& row : rows) EXPECT_EQ(Text(ShareFrames(row.span, row.most)), row.parts) << row.span.count << " by " << row.most;
}

}  // namespace
}  // namespace nsic
