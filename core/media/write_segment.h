// Encodes a segment: closed GOPs, pinned parameters, ordinal time stamps.
#ifndef NSIC_CORE_MEDIA_WRITE_SEGMENT_H_
#define NSIC_CORE_MEDIA_WRITE_SEGMENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/media/index_video.h"
#include "core/media/video.h"
#include "core/media/video_frame.h"

namespace nsic {

// What the user asked for; what is empty or negative follows the source.
struct EncodeOptions {
  std::string codec;               // "x264", "x265", "av1", "ffv1"; empty: x264 for 8 bits, x265 for more
  double crf = -1;                 // -1: the encoder's customary (18 x264, 20 x265, 28 av1)
  std::string preset;              // empty: "medium" (x264, x265), "8" (av1)
  std::string pixel_format;        // empty: the source's, or the next that the encoder takes without losing bits or chroma
  std::string container = "keep";  // "keep", "mkv", "mp4", "webm"
  double scale = 0;
  Size size;
};

// The plan for one video. INVALID_ARGUMENT names what the encoder cannot do (crf out of range, unknown preset, pixel format, size odd or
// too large).
Result<EncodePlan> PlanEncode(const VideoProbe& probe, const EncodeOptions& options, int network_scale);

// What `plan.container` cannot hold of this file. Empty: everything fits.
struct ContainerFault {
  int stream = -1;   // its index, for JoinPlan::dropped_streams; probe.info.stream_index: the restored video itself, as it is encoded
  std::string what;  // "subtitle stream 3 (ass) cannot be stored in mp4"
};
std::vector<ContainerFault> ContainerFaults(const VideoProbe& probe, const EncodePlan& plan);

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
