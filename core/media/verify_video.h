// Reads a file that was just written and compares it with what was meant. For the .cc files of this folder alone.
#ifndef NSIC_CORE_MEDIA_VERIFY_VIDEO_H_
#define NSIC_CORE_MEDIA_VERIFY_VIDEO_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/cancel.h"
#include "core/base/geometry.h"
#include "core/media/open_video.h"

namespace nsic {

// Times in seconds, as rationals would not survive containers' rounding.
struct ExpectedStream {
  AVMediaType type = AVMEDIA_TYPE_UNKNOWN;  // attached pictures count as attachments
  AVCodecID codec = AV_CODEC_ID_NONE;       // of what is no attachment
  std::string language;                     // three letters, or empty: not compared
  int64_t packets = 0;
  double first = 0;  // pts; with packets
  double last = 0;
};

struct ExpectedVideo {
  std::vector<ExpectedStream> streams;  // in order; data streams are not counted
  int restored = 0;                     // which of them is the video that is described below
  Size size;
  AVPixelFormat pixel_format = AV_PIX_FMT_NONE;
  std::vector<int64_t> pts;  // of every frame, in `time_base`
  AVRational time_base = {0, 1};
  std::vector<int> joins;  // frames that begin a segment, but for the first
  unsigned chapters = 0;
};

// DATA_LOSS says what differs. Every packet is read; around the beginning, the end and some joins, spread evenly, frames are decoded too.
Status VerifyVideo(const std::string& path, const ExpectedVideo& expected, const CancelToken& cancel,
                   const std::function<void(double share)>& progress);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_VERIFY_VIDEO_H_
