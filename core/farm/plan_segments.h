// Cuts a video into the parts that workers restore. A pure function of its index.
#ifndef NSIC_CORE_FARM_PLAN_SEGMENTS_H_
#define NSIC_CORE_FARM_PLAN_SEGMENTS_H_

#include <cstdint>
#include <vector>

namespace nsic {

struct FrameSpan {
  int first = 0;
  int count = 0;

  int end() const { return first + count; }
  friend bool operator==(const FrameSpan& a, const FrameSpan& b) { return a.first == b.first && a.count == b.count; }
};

// Segments are made by time, for the sake of encoders and players, within bounds on their frames: what a slide show or a camera with a
// thousand frames a second would make of seconds alone is of no use.
struct SegmentTargets {
  double least_seconds = 2;
  double most_seconds = 10;
  int least_frames = 24;
  int most_frames = 4096;
};

// Spans that cover the frames of `range` in order. `pts` (strictly increasing) times `seconds_per_tick` is time; `key_frames` (increasing)
// are numbers into it. Each span is at most the most seconds and frames long and, but for the last, at least the least; frames win over
// seconds. Within that, cuts fall on the last key frame there is that leaves enough for the last span, too; where there is none, in the
// middle of a GOP, as late as possible. Takes time by the number of spans, not of frames.
std::vector<FrameSpan> PlanSegments(const std::vector<int64_t>& pts, double seconds_per_tick, const std::vector<int>& key_frames,
                                    FrameSpan range, const SegmentTargets& targets);

// Cuts a span into parts of at most `most` frames (at least 1) that differ in length by one frame at most.
std::vector<FrameSpan> ShareFrames(FrameSpan span, int most);

}  // namespace nsic

#endif  // NSIC_CORE_FARM_PLAN_SEGMENTS_H_
