// Decides how each video is restored: its encoder, its container, what is left out, and, from its index, which frames.
#ifndef NSIC_CLIENT_PLAN_VIDEO_H_
#define NSIC_CLIENT_PLAN_VIDEO_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "client/job_record.h"
#include "core/base/cancel.h"
#include "core/base/status.h"
#include "core/media/index_video.h"
#include "core/media/plan_encode.h"
#include "core/media/video.h"
#include "nsic/v1/video.pb.h"

namespace nsic {

// --frames A-B: both are in it, and the first frame of a video is 1.
struct FrameNumbers {
  int first = 1;
  int last = 1;
};

// What the command line says of videos.
struct VideoOptions {
  EncodeOptions encode;
  bool drop_streams = false;
  bool deinterlace = true;  // interlaced ones; else fields are taken for frames
  bool tolerate = false;
  std::optional<FrameNumbers> frames;
  int preview = 0;  // frames of each video; 0: none, the videos themselves are restored
};

struct VideoPlan {
  VideoInfo info;
  EncodePlan encode;
  std::vector<int> dropped_streams;
  std::string notice;  // what the user should know, one line; empty if nothing
};

// FAILED_PRECONDITION, naming the file, the streams and the cure, when the container cannot hold everything and nothing may be left out;
// INVALID_ARGUMENT when the encoder cannot do what was asked. Other codes: this video cannot be restored.
Result<VideoPlan> PlanVideo(const std::string& path, const VideoProbe& probe, const VideoOptions& options, int network_scale);

// Reads which frames the videos present, several at once. One Result a job, in their order. `progress` gets the share of all bytes that are
// done, 0 to 1, and how many videos; one call at a time. CANCELLED only.
struct IndexJob {
  std::string path;
  int64_t bytes = 0;
  VideoInfo info;
};
Result<std::vector<Result<VideoIndex>>> IndexVideos(const std::vector<IndexJob>& jobs, bool tolerate, const CancelToken& cancel,
                                                    const std::function<void(double share, size_t videos)>& progress);

// The blob that a manifest names.
std::string IndexBlob(const VideoIndex& index);

// The frames of `frames`, or all. INVALID_ARGUMENT, with the count, when the video has fewer.
Result<v1::FrameRange> ChooseRange(const std::string& path, const VideoIndex& index, const std::optional<FrameNumbers>& frames);

// `count` numbers of frames spread evenly over the range, each from the middle of its share; fewer when there are fewer.
std::vector<int> SpreadFrames(const v1::FrameRange& range, int count);

}  // namespace nsic

#endif  // NSIC_CLIENT_PLAN_VIDEO_H_
