// Puts the restored segments and everything else of the source together: the output file.
#ifndef NSIC_CORE_MEDIA_JOIN_VIDEO_H_
#define NSIC_CORE_MEDIA_JOIN_VIDEO_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/cancel.h"
#include "core/base/status.h"
#include "core/media/video.h"

namespace nsic {

struct JoinPlan {
  std::string source_path;
  VideoInfo info;
  EncodePlan encode;
  std::vector<int64_t> pts;           // of all frames of the output, in info.time_base: the source's own
  bool excerpt = false;               // --frames: audio and subtitles outside of it are left out
  std::vector<std::string> segments;  // in order
  std::vector<int> segment_frames;    // of each
  std::vector<int> dropped_streams;   // by index: what the user allowed to be left out; the restored video's own: how it is to be turned
};

struct JoinedVideo {
  int64_t bytes = 0;
  Size size;
  int64_t frames = 0;
  std::vector<std::string> notes;  // what the user should know: streams without content, time stamps that had to be mended
};

// Writes `output_path` (its extension does not matter) from packets: video from the segments stamped with `pts`, all other streams,
// chapters, attachments, metadata, dispositions, rotation and sample aspect from the source, untouched; QuickTime's subtitles become SubRip
// in Matroska. An excerpt begins at 0. Then verifies it: frame count, first and last and all time stamps, durations, streams, and that it
// decodes over the joins. Synced when OK. On an error nothing is left, nor of what was at `output_path` before. DATA_LOSS when a segment
// does not hold its frames, segments were made by different encoders, or the verification fails (saying what); INVALID_ARGUMENT when the
// container cannot hold a stream that is not dropped. Takes the memory of some ten seconds of packets.
Result<JoinedVideo> JoinVideo(const JoinPlan& plan, const std::string& output_path, const CancelToken& cancel,
                              const std::function<void(double share)>& progress);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_JOIN_VIDEO_H_
