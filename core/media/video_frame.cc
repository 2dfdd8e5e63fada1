#include "core/media/video_frame.h"

extern "C" {
#include <libavutil/frame.h>
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
}

#include <cstring>

namespace nsic {

Size VideoFrame::size() const { return frame_ == nullptr ? Size{} : Size{frame_->width, frame_->height}; }

int64_t VideoFrame::memory_bytes() const {
  if (frame_ == nullptr) return 0;
  int64_t bytes = 0;
  for (const AVBufferRef* const buffer : frame_->buf) {
    if (buffer != nullptr) bytes += static_cast<int64_t>(buffer->size);
  }
  return bytes;
}

bool VideoFrame::SamePixels(const VideoFrame& other) const {
  if (frame_ == nullptr || other.frame_ == nullptr) return false;
  const AVFrame& a = *frame_;
  const AVFrame& b = *other.frame_;
  if (a.format != b.format || a.width != b.width || a.height != b.height) return false;
  if (frame_ == other.frame_) return true;
  const auto format = static_cast<AVPixelFormat>(a.format);
  const AVPixFmtDescriptor* const descriptor = av_pix_fmt_desc_get(format);
  if (descriptor == nullptr) return false;
  const int planes = av_pix_fmt_count_planes(format);
  for (int plane = 0; plane < planes; ++plane) {
    const int bytes = av_image_get_linesize(format, a.width, plane);
    const bool chroma = plane == 1 || plane == 2;
    const int rows = chroma ? AV_CEIL_RSHIFT(a.height, descriptor->log2_chroma_h) : a.height;
    if (bytes < 0) return false;
    for (int y = 0; y < rows; ++y) {
      const auto offset = [y](int stride) { return static_cast<ptrdiff_t>(y) * stride; };
      if (std::memcmp(a.data[plane] + offset(a.linesize[plane]), b.data[plane] + offset(b.linesize[plane]), static_cast<size_t>(bytes)) !=
          0) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace nsic
