// Reads the files that SegmentWriter makes. For the .cc files of this folder alone: FFmpeg's types are seen here.
#ifndef NSIC_CORE_MEDIA_SEGMENT_FILE_H_
#define NSIC_CORE_MEDIA_SEGMENT_FILE_H_

#include <memory>
#include <string>
#include <vector>

#include "core/media/open_video.h"

namespace nsic {

// An error of writing a file with FFmpeg, with what was attempted.
Status MuxError(int error, const std::string& what);

struct FreeMuxer {  // not the bytes' AVIOContext
  void operator()(AVFormatContext* context) const { avformat_free_context(context); }
};
using MuxerOwner = std::unique_ptr<AVFormatContext, FreeMuxer>;

// What the encoder and the file count time in: one frame is one tick.
AVRational SegmentTick(const VideoInfo& info);

// Packets of one segment in decode order. One thread at a time.
class SegmentFile {
 public:
  // Reads the header. DATA_LOSS: no such file.
  static Result<std::unique_ptr<SegmentFile>> Open(const std::string& path, AVRational tick, int frames);

  const AVCodecParameters& parameters() const { return *format_->streams[0]->codecpar; }
  // By how many frames the encoder reorders at most. After the first packet.
  int delay() const { return delay_; }
  // The next packet, its pts the number of its frame in the segment, its dts the number of packets before it; false at the end. DATA_LOSS
  // unless the first packet is a key frame and shows frame 0, and each of the frames comes once.
  Result<bool> Next(AVPacket* packet);

 private:
  SegmentFile(std::string path, AVRational tick, int frames)
      : path_(std::move(path)), tick_(tick), seen_(static_cast<size_t>(frames), false) {}

  const std::string path_;
  const AVRational tick_;
  AvOwner<AVFormatContext> format_;
  std::vector<bool> seen_;  // frames
  int64_t first_pts_ = 0;
  int delay_ = 0;
  int read_ = 0;
};

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_SEGMENT_FILE_H_
