// What decoding and encoding take in memory: upper estimates, for budgets.
#ifndef NSIC_CORE_MEDIA_VIDEO_MEMORY_H_
#define NSIC_CORE_MEDIA_VIDEO_MEMORY_H_

#include <cstdint>

#include "core/media/video.h"

namespace nsic {

// Bytes of a VideoReader: the frames that its decoder refers to and holds back, and one thread's more for each of its threads.
int64_t DecoderBytes(const VideoInfo& info, int threads);

// Bytes of a SegmentWriter: what its encoder looks ahead and refers to.
int64_t EncoderBytes(const EncodePlan& plan);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_VIDEO_MEMORY_H_
