// Makes progressive frames of interlaced ones, one a frame. For the .cc files of this folder alone.
#ifndef NSIC_CORE_MEDIA_DEINTERLACE_H_
#define NSIC_CORE_MEDIA_DEINTERLACE_H_

#include <memory>
#include <string>

#include "core/base/status.h"
#include "core/media/open_video.h"

struct AVFilterGraph;
struct AVFilterContext;

namespace nsic {

// FFmpeg's bwdif. A result depends on a frame and its two neighbours alone, so that it is the same wherever a video is cut. One thread at a
// time.
class Deinterlacer {
 public:
  // For frames like `sample`. UNIMPLEMENTED: bwdif does not take their format or size.
  static Result<std::unique_ptr<Deinterlacer>> Make(const VideoInfo& info, const AVFrame& sample, int threads, const std::string& display);
  ~Deinterlacer();

  // Starts with the frame before the first that is wanted; where there is none, with the first itself.
  Status Begin(const AVFrame& before);
  // Takes the next frame and gives the result for the one that was taken before it. At the end of the video the last frame is given twice.
  Result<AvOwner<AVFrame>> Next(const AVFrame& frame);

 private:
  Deinterlacer() = default;
  Status Push(const AVFrame& frame, bool prime);
  Result<AvOwner<AVFrame>> Pull();

  AVFilterGraph* graph_ = nullptr;
  AVFilterContext* in_ = nullptr;
  AVFilterContext* out_ = nullptr;
  bool all_ = false;
  bool top_first_ = true;
  int64_t pushed_ = 0;
  std::string display_;
};

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_DEINTERLACE_H_
