// A decoded frame, passed around without its FFmpeg type.
#ifndef NSIC_CORE_MEDIA_VIDEO_FRAME_H_
#define NSIC_CORE_MEDIA_VIDEO_FRAME_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "core/base/geometry.h"

struct AVFrame;

namespace nsic {

// Copies share the pixels, which nobody changes. Empty by default.
class VideoFrame {
 public:
  VideoFrame() = default;
  explicit VideoFrame(std::shared_ptr<const AVFrame> frame) : frame_(std::move(frame)) {}

  bool empty() const { return frame_ == nullptr; }
  const AVFrame* get() const { return frame_.get(); }
  Size size() const;
  int64_t memory_bytes() const;
  // Whether all samples inside the picture are equal; padding does not count. False when one is empty.
  bool SamePixels(const VideoFrame& other) const;

 private:
  std::shared_ptr<const AVFrame> frame_;
};

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_VIDEO_FRAME_H_
