// Encodes a segment: closed GOPs, pinned parameters, ordinal time stamps.
#ifndef NSIC_CORE_MEDIA_WRITE_SEGMENT_H_
#define NSIC_CORE_MEDIA_WRITE_SEGMENT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/status.h"
#include "core/media/video.h"
#include "core/media/video_frame.h"

namespace nsic {

// One thread at a time. The file it writes (NUT: time stamps are exact) is for JoinVideo alone.
class SegmentWriter {
 public:
  static Result<std::unique_ptr<SegmentWriter>> Open(const std::string& path, const VideoInfo& info, const EncodePlan& plan);
  virtual ~SegmentWriter() = default;  // without Finish() the file is removed

  // Frames of plan.size and plan.pixel_format, in order.
  virtual Status Write(const VideoFrame& frame) = 0;
  // Drains the encoder and closes the file: synced, and it holds exactly the frames that were written. Else INTERNAL.
  virtual Status Finish() = 0;
};

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_WRITE_SEGMENT_H_
