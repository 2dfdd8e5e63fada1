// Videos as the wire has them, and as the program has them. What comes from the wire is checked here.
#ifndef NSIC_CORE_RPC_VIDEO_MESSAGES_H_
#define NSIC_CORE_RPC_VIDEO_MESSAGES_H_

#include <cstdint>

#include "core/base/status.h"
#include "core/media/video.h"
#include "nsic/v1/video.pb.h"

namespace nsic {

inline constexpr int kMaxVideoSide = 16'384;          // pixels
inline constexpr int kMaxVideoFrames = 20'000'000;    // nine days at 25 a second
inline constexpr int64_t kMaxIndexBytes = 64 << 20;   // of a serialized VideoIndex: three bytes a frame
inline constexpr int64_t kMaxPts = int64_t{1} << 60;  // far from where sums and differences overflow
inline constexpr int kMaxSegmentFrames = 4096;        // bounds a lease
inline constexpr int kMaxStartPoints = 5;             // of a segment

// `range` and `index` of the message, which the facts do not have, are left alone.
void ToMessage(const VideoInfo& info, const EncodePlan& plan, v1::VideoInfo* message);
void ToMessage(const VideoIndex& index, v1::VideoIndex* message);
void ToMessage(const Segment& segment, v1::Segment* message);

// INVALID_ARGUMENT says what is wrong with it ("has a frame rate of 0/0"): counts, ranges, order, names of unknown encoders. Sentences
// without a subject: whoever knows the file puts its name before them. `range` and `index` are not looked at.
struct VideoMessage {
  VideoInfo info;
  EncodePlan plan;
};
Result<VideoMessage> FromMessage(const v1::VideoInfo& message);
Result<VideoIndex> FromMessage(const v1::VideoIndex& message);
Result<Segment> FromMessage(const v1::Segment& message);

}  // namespace nsic

#endif  // NSIC_CORE_RPC_VIDEO_MESSAGES_H_
