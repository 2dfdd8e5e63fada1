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

// Reads headers and decodes the first frames, which alone tell the pixel format and fields of some codecs. What a file is is taken from its
// bytes, not from its name. INVALID_ARGUMENT, naming the file and the cure: no video, no video stream, audio only, an attached picture
// only, a playlist, encrypted, Dolby Vision, fields stored as pictures, a pixel format that is not handled. DATA_LOSS: damaged (missing
// moov, truncated header). Fast however long the video is.
Result<VideoProbe> ProbeVideo(const std::string& path);

// Exactly the frames that a decoder presents from the start of the file to its end. One demux pass where packets tell (those of edit lists
// that are marked DISCARD and hidden VP8/VP9 frames present nothing), with the first frames decoded to see that they do; a decode pass
// where they do not: pictures of single fields, splices, times that are missing or go back, AVI's B-frames, codecs that are not known well.
// A key frame is one with which decoding can really start, not what the container flags: no gradual refreshes; open GOPs are, since their
// leading pictures are presented before the key frame. What headers say of duration and count does not matter.
// INVALID_ARGUMENT with the time and the cure when times are missing, repeated or going back, when size or pixel format change; DATA_LOSS
// when the file ends early or a packet is damaged as far as the container shows it (unless `tolerate`). `progress` gets the share done, 0
// to 1. 24 bytes a frame.
// AVI files with B-frames tell no times but the order of decoding: the n-th frame then has the time of the n-th packet.
Result<VideoIndex> IndexVideo(const std::string& path, const VideoInfo& info, bool tolerate, const CancelToken& cancel,
                              const std::function<void(double share)>& progress);

// Whether the stream or the flags of its first frames say that it holds fields. Frames that are progressive may be among them.
bool IsInterlaced(const VideoInfo& info);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_INDEX_VIDEO_H_
