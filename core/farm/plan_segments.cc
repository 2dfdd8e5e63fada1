#include "core/farm/plan_segments.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nsic {
namespace {

// Seconds in ticks, so that times are compared exactly; a millionth of a tick forgives the division.
int64_t Ticks(double seconds, double seconds_per_tick, bool up) {
  const double ticks = seconds / seconds_per_tick;
  const double whole = up ? std::ceil(ticks - 1e-6) : std::floor(ticks + 1e-6);
  return static_cast<int64_t>(std::clamp(whole, 0.0, 1e18));
}

// Where cuts may fall after frame `at`.
class Cutter {
 public:
  Cutter(const std::vector<int64_t>& pts, double seconds_per_tick, FrameSpan range, const SegmentTargets& targets)
      : pts_(pts),
        end_(range.end()),
        least_ticks_(Ticks(targets.least_seconds, seconds_per_tick, true)),
        most_ticks_(Ticks(targets.most_seconds, seconds_per_tick, false)),
        least_frames_(std::max(1, targets.least_frames)),
        most_frames_(std::max(targets.most_frames, least_frames_)) {}

  // The first that leaves a long enough span before it, or the end.
  int First(int at) const {
    const int by_time = FirstNotBefore(at, PtsAt(at) + least_ticks_);
    return std::min(std::max(by_time, Plus(at, least_frames_)), Plus(at, most_frames_));
  }
  // The last that leaves a short enough one.
  int Last(int at) const {
    int by_time = FirstNotBefore(at, PtsAt(at) + most_ticks_ + 1) - 1;
    if (PtsAt(end_) - PtsAt(at) <= most_ticks_) by_time = end_;
    return std::min(std::max(by_time, Plus(at, least_frames_)), Plus(at, most_frames_));
  }
  // The last that leaves a long enough span behind it; `at` or less if there is none.
  int LastBeforeTail(int at) const {
    const int by_time = FirstNotBefore(at, PtsAt(end_) - least_ticks_ + 1) - 1;
    return std::min(by_time, end_ - least_frames_);
  }

 private:
  // When frame i begins; of `end_`, when the last one ends.
  int64_t PtsAt(int i) const {
    const auto n = static_cast<int>(pts_.size());
    if (i < n) return pts_[static_cast<size_t>(i)];
    const int64_t last = pts_.back();
    return n > 1 ? last + (last - pts_[static_cast<size_t>(n - 2)]) : last + 1;
  }
  int Plus(int at, int frames) const { return at + std::min(frames, end_ - at); }
  // The first frame after `at` that begins then or later, or `end_`.
  int FirstNotBefore(int at, int64_t pts) const {
    const auto begin = pts_.begin();
    return static_cast<int>(std::lower_bound(begin + at + 1, begin + end_, pts) - begin);
  }

  const std::vector<int64_t>& pts_;
  const int end_;
  const int64_t least_ticks_;
  const int64_t most_ticks_;
  const int least_frames_;
  const int most_frames_;
};

}  // namespace

std::vector<FrameSpan> PlanSegments(const std::vector<int64_t>& pts, double seconds_per_tick, const std::vector<int>& key_frames,
                                    FrameSpan range, const SegmentTargets& targets) {
  const Cutter cutter(pts, seconds_per_tick, range, targets);
  std::vector<FrameSpan> spans;
  for (int at = range.first; at < range.end();) {
    int cut = cutter.Last(at);
    if (cut < range.end()) {
      const int first = std::min(cutter.First(at), cut);
      // What is left must be worth a span of its own.
      if (const int tail = cutter.LastBeforeTail(at); tail >= first) cut = std::min(cut, tail);
      const auto after = std::upper_bound(key_frames.begin(), key_frames.end(), cut);
      if (after != key_frames.begin() && *(after - 1) >= first) cut = *(after - 1);
    }
    spans.push_back({at, cut - at});
    at = cut;
  }
  return spans;
}

std::vector<FrameSpan> ShareFrames(FrameSpan span, int most) {
  const int parts = (span.count + most - 1) / most;
  std::vector<FrameSpan> spans;
  spans.reserve(static_cast<size_t>(parts));
  int at = span.first;
  for (int part = 0; part < parts; ++part) {
    const int next = span.first + static_cast<int>(int64_t{span.count} * (part + 1) / parts);
    spans.push_back({at, next - at});
    at = next;
  }
  return spans;
}

}  // namespace nsic
