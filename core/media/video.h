// What is known of a video: plain facts, shared by all that handle videos. No FFmpeg type appears in this or the other headers.
//
// The way of a video:
//   file -> ProbeVideo, IndexVideo (index_video.h) -> segments -> on each worker:
//   VideoReader (read_video.h) -> FrameConverter (convert_frame.h) -> (engine) -> FrameConverter -> SegmentWriter (write_segment.h)
//   -> JoinVideo (join_video.h) -> file
#ifndef NSIC_CORE_MEDIA_VIDEO_H_
#define NSIC_CORE_MEDIA_VIDEO_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/geometry.h"

namespace nsic {

struct Rational {
  int64_t num = 0;
  int64_t den = 1;
  double value() const { return static_cast<double>(num) / static_cast<double>(den); }
};

// Numbers of ITU-T H.273; 2 is "unspecified".
struct VideoColour {
  int matrix = 2;
  int primaries = 2;
  int transfer = 2;
  bool full_range = false;
  int chroma_location = 0;  // FFmpeg's AVChromaLocation; 0: unspecified

  friend bool operator==(const VideoColour& a, const VideoColour& b) {
    return a.matrix == b.matrix && a.primaries == b.primaries && a.transfer == b.transfer && a.full_range == b.full_range &&
           a.chroma_location == b.chroma_location;
  }
};

// SMPTE ST 2086 and CTA-861.3.
struct HdrMetadata {
  std::vector<int> primaries;  // x, y of red, green, blue, white, in 1/50000; empty: no mastering display is known
  int64_t max_luminance = 0;   // in 1/10000 cd/m2
  int64_t min_luminance = 0;
  int max_content_light = 0;  // cd/m2; 0: unknown
  int max_frame_average_light = 0;
};

enum class FieldOrder { kUnspecified, kProgressive, kTopFirst, kBottomFirst };

// The stream of a file that is restored.
struct VideoInfo {
  Size size;  // of decoded frames: rotation is carried over, not applied
  int stream_index = 0;
  std::string codec;         // FFmpeg's name: "h264"
  std::string pixel_format;  // FFmpeg's name: "yuv420p10le"
  Rational time_base;        // of all pts, in seconds
  Rational frame_rate;       // on average
  Rational sample_aspect;    // 0/1: unknown
  VideoColour colour;
  HdrMetadata hdr;
  FieldOrder field_order = FieldOrder::kUnspecified;
  bool deinterlace = false;  // workers make progressive frames, one a frame
};

// Every frame that a player presents, in that order.
struct VideoIndex {
  struct KeyFrame {
    int frame = 0;          // number into pts; decoding can start here and shows this frame and all presented after it whole
    int64_t position = -1;  // of its packet in the file, in bytes; -1: unknown
  };
  std::vector<int64_t> pts;          // in VideoInfo::time_base, strictly increasing
  std::vector<KeyFrame> key_frames;  // in order; the first is frame 0
};

// How segments are encoded: everything that decides a byte.
struct EncodePlan {
  std::string encoder;       // "libx264", "libx265", "libsvtav1", "ffv1"
  double crf = 0;            // not for ffv1
  std::string preset;        // not for ffv1
  std::string pixel_format;  // FFmpeg's name
  Size size;
  int threads = 2;
  std::string container;  // "mkv", "mp4", "webm"
};

// A part of a video, as a worker is told.
struct Segment {
  struct Start {
    int64_t pts = 0;
    int64_t position = -1;
  };
  int first = 0;              // number of its first frame in the video
  std::vector<int64_t> pts;   // of exactly its frames
  std::vector<Start> starts;  // where decoding may start, the best first, each earlier than the one before
};

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_VIDEO_H_
