// Cuts a video into the parts that workers restore. A pure function of its index.
#ifndef NSIC_CORE_FARM_PLAN_SEGMENTS_H_
#define NSIC_CORE_FARM_PLAN_SEGMENTS_H_

#include <cstdint>
#include <vector>

namespace nsic {

struct FrameSpan {
  int first = 0;
  int count = 0;
};

struct SegmentTargets {
  double least_seconds = 2;
  double most_seconds = 10;
  int64_t most_pixels = 0;  // of a segment's frames together; 0: no limit. A segment has at least one frame, whatever its pixels
};

// Spans that cover frames [range.first, range.first + range.count) in order. `pts` (strictly increasing) times `seconds_per_tick` is time.
// Cuts fall on `key_frames` (increasing) where one lies between the least and the most seconds, on the last such one; else in the middle of
// a GOP at the most.
std::vector<FrameSpan> PlanSegments(const std::vector<int64_t>& pts, double seconds_per_tick, const std::vector<int>& key_frames,
                                    FrameSpan range, int64_t pixels_per_frame, const SegmentTargets& targets);

}  // namespace nsic

#endif  // NSIC_CORE_FARM_PLAN_SEGMENTS_H_
