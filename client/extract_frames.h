// Makes pictures of single frames of a video.
#ifndef NSIC_CLIENT_EXTRACT_FRAMES_H_
#define NSIC_CLIENT_EXTRACT_FRAMES_H_

#include <functional>
#include <string>
#include <vector>

#include "core/base/cancel.h"
#include "core/base/status.h"
#include "core/media/video.h"

namespace nsic {

// Writes a PNG, of 16 bits a sample for videos of more than 8, in the video's own transfer, for each of `frames` (numbers into the index,
// increasing). `output_path` says where. With `tolerate` a frame that cannot be decoded shows the last good one.
Status ExtractFrames(const std::string& path, const VideoInfo& info, const VideoIndex& index, const std::vector<int>& frames, bool tolerate,
                     const std::function<std::string(int frame)>& output_path, const CancelToken& cancel);

}  // namespace nsic

#endif  // NSIC_CLIENT_EXTRACT_FRAMES_H_
