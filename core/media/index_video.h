// Finds out what a video is and which frames it presents.
#ifndef NSIC_CORE_MEDIA_INDEX_VIDEO_H_
#define NSIC_CORE_MEDIA_INDEX_VIDEO_H_

#include <functional>
#include <string>
#include <vector>

#include "core/base/cancel.h"
#include "core/base/status.h"
#include "core/media/video.h"

namespace nsic {

// One stream of a file, for what containers can hold and for the comparison before and after.
struct StreamFacts {
  int index = 0;
  std::string kind;   // "video", "audio", "subtitle", "attachment", "data"
  std::string codec;  // FFmpeg's name; of data streams the four characters of their tag where they have one ("tmcd", "gpmd")
  std::string language;
  std::string title;
  bool attached_picture = false;
};

struct VideoProbe {
  VideoInfo info;
  std::string container;  // what its own is called for --container keep: "mkv", "mp4", "webm", or FFmpeg's name of another: "mpegts", "avi"
  std::vector<StreamFacts> streams;
  int64_t duration_us = 0;  // as the header claims; 0: unknown
  bool turned = false;      // a display matrix says that players turn or mirror the picture
};

// Reads headers and decodes the first frame (which alone tells pixel format and field flags of some codecs). INVALID_ARGUMENT, naming the
// file and the cure: no video stream, audio only, an attached picture only, encrypted, Dolby Vision, a pixel format that is not handled.
// DATA_LOSS: damaged (missing moov, truncated header).
Result<VideoProbe> ProbeVideo(const std::string& path);

// Which frames a player presents. One demux pass where packets tell (DISCARD and hidden packets are no frames); a decode pass where they
// do not: VP8/VP9 superframes without the split filter, field pictures, packed B-frames, missing or repeated timestamps. INVALID_ARGUMENT
// with the time when timestamps are missing, repeated or going back even then, when size or pixel format change; DATA_LOSS when the file
// ends early or a packet is damaged (unless `tolerate`). `progress` gets the share done, 0 to 1.
Result<VideoIndex> IndexVideo(const std::string& path, const VideoInfo& info, bool tolerate, const CancelToken& cancel,
                              const std::function<void(double share)>& progress);

// Fields of interlaced material: info.field_order, or when that is unspecified the flags of the first decoded frames, say interlaced.
bool IsInterlaced(const VideoInfo& info);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_INDEX_VIDEO_H_
