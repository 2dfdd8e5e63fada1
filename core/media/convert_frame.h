// Between a video's samples and the network's RGB, both ways, and all that is done to a frame after the network.
//
// Where the output has the source's size, what the network changed is added to the source's own samples: out = source + YUV(after -
// before), so that nothing is lost to chroma resampling or rounding where the network changed nothing, and an identity network gives back
// every sample. Where the size changes, RGB is converted whole. A source of other depth, chroma or colour family than the plan's is brought
// to the plan's first; a grey one stays grey.
#ifndef NSIC_CORE_MEDIA_CONVERT_FRAME_H_
#define NSIC_CORE_MEDIA_CONVERT_FRAME_H_

#include <memory>
#include <string>

#include "core/base/status.h"
#include "core/media/video.h"
#include "core/media/video_frame.h"

namespace nsic {

// As FinishOptions has them for pictures.
struct FrameOptions {
  double strength = 1;  // 0..1
  double sharpen = 0;   // 0..1
  int network_scale = 1;
};

// UNIMPLEMENTED, naming it, unless FrameConverter reads this pixel format ("yuv420p10le") in a colour space of this matrix: palettes,
// alpha, floats, mosaics and constant luminance are not handled.
Status CheckPixelFormat(const std::string& pixel_format, int matrix);

// The colour of the frames that FrameConverter makes: the source's, with what decides the samples made explicit where players would guess
// otherwise of the output than of the source.
VideoColour OutputColour(const VideoInfo& info, const EncodePlan& plan);

// One thread at a time. The same frame gives the same bits.
class FrameConverter {
 public:
  // From frames of `info` to frames of plan.size and plan.pixel_format, in the same colour space (matrix and range explicit; unspecified
  // ones resolved as players do: BT.709 from 720 lines or 1280 columns on, else BT.601). UNIMPLEMENTED as CheckPixelFormat says.
  static Result<std::unique_ptr<FrameConverter>> Make(const VideoInfo& info, const EncodePlan& plan, const FrameOptions& options);
  virtual ~FrameConverter() = default;

  // Writes 3 x height x width planar floats in [0, 1]. INVALID_ARGUMENT when the frame is of another size or pixel format than `info` says.
  virtual Status ToRgb(const VideoFrame& frame, float* planar) = 0;
  // `before` is what ToRgb gave, `after` the network's output: 3 x (height * network_scale) x (width * network_scale), in [0, 1].
  virtual Result<VideoFrame> Finish(const VideoFrame& source, const float* before, const float* after) = 0;
};

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_CONVERT_FRAME_H_
