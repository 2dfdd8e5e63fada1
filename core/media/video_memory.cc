#include "core/media/video_memory.h"

extern "C" {
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
}

#include <algorithm>
#include <string>

namespace nsic {
namespace {

// Of one frame; for an unknown format what the largest takes: it is refused elsewhere.
int64_t FrameBytes(const std::string& pixel_format, Size size) {
  const AVPixelFormat format = av_get_pix_fmt(pixel_format.c_str());
  const int bytes = format == AV_PIX_FMT_NONE ? -1 : av_image_get_buffer_size(format, size.width, size.height, 32);
  return bytes > 0 ? bytes : size.area() * 8;
}

}  // namespace

int64_t DecoderBytes(const VideoInfo& info, int threads) {
  constexpr int kReferences = 17;  // H.264 and HEVC: 16, and the one in hand
  return FrameBytes(info.pixel_format, info.size) * (kReferences + std::max(1, threads)) + (int64_t{8} << 20);
}

int64_t EncoderBytes(const EncodePlan& plan) {
  // Measured as the growth of the ffmpeg program over 60 frames of 1920x1080 with 2 threads, in frames of the encoder's pixel format, and
  // something for slower presets, which look further ahead: x264 medium 125, x265 medium 108, SVT-AV1 8 156, FFV1 96 (its packets' room).
  const int frames = plan.encoder == "ffv1" ? 100 : plan.encoder == "libx264" ? 135 : plan.encoder == "libx265" ? 130 : 220;
  return FrameBytes(plan.pixel_format, plan.size) * frames + (int64_t{16} << 20);
}

}  // namespace nsic
