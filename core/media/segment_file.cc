#include "core/media/segment_file.h"

extern "C" {
#include <libavutil/mathematics.h>
}

namespace nsic {

Status MuxError(int error, const std::string& what) {
  constexpr int kLastErrno = 4095;  // FFmpeg's own errors are beyond
  return error >= -kLastErrno ? ErrnoError(AVUNERROR(error), what) : AvError(error, what);
}

AVRational SegmentTick(const VideoInfo& info) {
  AVRational tick = {1, 25};
  // Encoders take no larger numbers, and need the rate for their rate control alone.
  if (info.frame_rate.num > 0 && info.frame_rate.den > 0) av_reduce(&tick.num, &tick.den, info.frame_rate.den, info.frame_rate.num, 65'535);
  if (tick.num < 1 || tick.den < 1) tick = {1, 25};
  return tick;
}

Result<std::unique_ptr<SegmentFile>> SegmentFile::Open(const std::string& path, AVRational tick, int frames) {
  std::unique_ptr<SegmentFile> file(new SegmentFile(path, tick, frames));
  AVFormatContext* format = nullptr;
  // The file: protocol, so that no name is taken for an address.
  const int error = avformat_open_input(&format, ("file:" + path).c_str(), av_find_input_format("nut"), nullptr);
  if (error < 0) return DataLossError(AvError(error, "cannot read the segment " + path).message());
  file->format_.reset(format);
  if (format->nb_streams != 1 || format->streams[0]->codecpar->codec_type != AVMEDIA_TYPE_VIDEO) {
    return DataLossError("the segment " + path + " does not hold one video");
  }
  return file;
}

Result<bool> SegmentFile::Next(AVPacket* packet) {
  av_packet_unref(packet);
  const int error = av_read_frame(format_.get(), packet);
  const auto damaged = [this](const std::string& what) { return DataLossError("the segment " + path_ + " " + what); };
  if (error == AVERROR_EOF && read_ == static_cast<int>(seen_.size())) return false;
  if (error == AVERROR_EOF) {
    return damaged("holds " + std::to_string(read_) + " instead of " + std::to_string(seen_.size()) + " frames");
  }
  if (error < 0) return DataLossError(AvError(error, "cannot read the segment " + path_).message());
  if (packet->pts == AV_NOPTS_VALUE || (packet->flags & AV_PKT_FLAG_CORRUPT) != 0) return damaged("is damaged");
  if (read_ == 0) {
    if ((packet->flags & AV_PKT_FLAG_KEY) == 0) return damaged("does not begin with a key frame");
    first_pts_ = packet->pts;  // of frame 0: nothing is presented before the first packet of a closed GOP
    delay_ = static_cast<int>(av_rescale_q(first_pts_, format_->streams[0]->time_base, tick_));
  }
  const int64_t frame = av_rescale_q(packet->pts - first_pts_, format_->streams[0]->time_base, tick_);
  if (frame < 0 || frame >= static_cast<int64_t>(seen_.size()) || seen_[static_cast<size_t>(frame)]) {
    return damaged("holds more than its " + std::to_string(seen_.size()) + " frames");
  }
  seen_[static_cast<size_t>(frame)] = true;
  packet->pts = frame;
  packet->dts = read_++;
  packet->duration = 1;
  return true;
}

}  // namespace nsic
