// FFmpeg's demuxers and decoders over a ByteSource: owners of FFmpeg's types, and their errors as Status. For the .cc files of this folder
// alone: FFmpeg's types are seen here.
#ifndef NSIC_CORE_MEDIA_OPEN_VIDEO_H_
#define NSIC_CORE_MEDIA_OPEN_VIDEO_H_

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavcodec/bsf.h>
#include <libavformat/avformat.h>
}

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "core/base/status.h"
#include "core/media/byte_source.h"
#include "core/media/video.h"

namespace nsic {

struct FreeAv {
  void operator()(AVFormatContext* context) const { avformat_close_input(&context); }
  void operator()(AVCodecContext* context) const { avcodec_free_context(&context); }
  void operator()(AVCodecParserContext* context) const { av_parser_close(context); }
  void operator()(AVBSFContext* context) const { av_bsf_free(&context); }
  void operator()(AVPacket* packet) const { av_packet_free(&packet); }
  void operator()(AVFrame* frame) const { av_frame_free(&frame); }
};
template <typename T>
using AvOwner = std::unique_ptr<T, FreeAv>;

// Takes FFmpeg's messages from the terminal. Whoever opens a codec or file calls it before.
void RouteMessages();

// RESOURCE_EXHAUSTED when there is no memory.
Result<AvOwner<AVPacket>> NewPacket();
Result<AvOwner<AVFrame>> NewFrame();

// `error` (negative, from FFmpeg) with what was attempted: "cannot read x.mp4". Out of memory: RESOURCE_EXHAUSTED; invalid data:
// DATA_LOSS; no decoder and the like: UNIMPLEMENTED; else INTERNAL.
Status AvError(int error, const std::string& what);

// "12.345 s"
std::string TimeText(int64_t pts, AVRational time_base);
inline AVRational ToAv(const Rational& value) { return {static_cast<int>(value.num), static_cast<int>(value.den)}; }
inline Rational FromAv(AVRational value) { return {value.num, value.den}; }

// A file that holds a video. One thread at a time.
class VideoFile {
 public:
  // Reads the headers and as much of the streams as their parameters take. Nothing but `source` is ever read: playlists and references to
  // other files are refused. INVALID_ARGUMENT: not a video; DATA_LOSS: damaged.
  static Result<std::unique_ptr<VideoFile>> Open(std::unique_ptr<ByteSource> source);
  ~VideoFile();

  AVFormatContext* format() { return format_.get(); }
  const std::string& display() const { return source_->display(); }
  ByteSource& source() { return *source_; }
  // FFmpeg's first name of the container: "matroska", "mov", "mpegts".
  std::string FormatName() const;

  // From now on packets are of this stream alone.
  Status Select(int stream);
  AVStream* stream() { return format_->streams[stream_]; }
  AVRational time_base() { return stream()->time_base; }
  // What the decoder is to be opened with; after Select().
  const AVCodecParameters* parameters() const { return parameters_; }

  // Some containers (AVI, Video-for-Windows tracks of Matroska) only say in which order frames are decoded: no packet of theirs has a
  // usable pts. The n-th presented frame then has the n-th packet's dts. After Select().
  bool decode_order() const { return decode_order_; }
  // A packet's name by which its frame is found again: its pts, or in decode_order its dts. AV_NOPTS_VALUE: it has none.
  int64_t Key(const AVPacket& packet) const { return decode_order_ ? packet.dts : packet.pts; }

  // Bytes of the container were skipped, and with them perhaps packets.
  bool damaged() const { return damaged_; }
  void NoteDamage() { damaged_ = true; }

  // The next packet of the selected stream; false at the end.
  Result<bool> Read(AVPacket* packet);

  // The next packet is then one at or before `pts`, or false when the container cannot do it.
  bool SeekTime(int64_t pts);
  bool SeekByte(int64_t position);
  // The next packet is then the first.
  Status Rewind();
  // Whether positions are better than times for this container: where times are found by bisection between clock references.
  bool PrefersBytes() const;

 private:
  explicit VideoFile(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {}
  static int ReadBytes(void* self, uint8_t* buffer, int size);
  static int64_t SeekBytes(void* self, int64_t offset, int whence);
  static int RefuseToOpen(AVFormatContext* context, AVIOContext** io, const char* url, int flags, AVDictionary** options);
  Status OpenFormat();
  void Close();
  Result<bool> ReadRaw(AVPacket* packet);
  void Forget();

  const std::unique_ptr<ByteSource> source_;
  int64_t offset_ = 0;
  Status read_error_;  // of source_, once there was one
  bool damaged_ = false;
  bool refers_ = false;  // to other files, as playlists do
  AVIOContext* io_ = nullptr;
  AvOwner<AVFormatContext> format_;
  int stream_ = -1;
  AvOwner<AVBSFContext> unpack_;  // makes MPEG-4's packed B-frames packets of their own
  const AVCodecParameters* parameters_ = nullptr;
  bool decode_order_ = false;
  AvOwner<AVPacket> first_;  // read by Select(), not yet handed out
};

// Times that a decoder said that it made samples up, or decoded them from damaged data. Its frames do not say so: where FFmpeg decodes
// several at once the flag is set on a copy that is not handed out, and some decoders have none. Counted while frames are decoded, before
// they come out. Thread-safe.
using DamageReports = std::atomic<int>;

// `threads` 0: all cores. `one_in_one_out`: a packet is decoded before the next one is taken, at the price of frames decoded one after the
// other. `reports` outlives the decoder.
Result<AvOwner<AVCodecContext>> OpenDecoder(VideoFile& file, int threads, bool one_in_one_out, DamageReports* reports = nullptr);

// Whether a frame's samples are all as they were encoded.
bool IsWhole(const AVFrame& frame);

// FFmpeg's old names for full-range formats ("yuvj420p") as the format that they are, with its range in the frame.
AVPixelFormat PlainFormat(int format, bool* full_range);

// Facts of the stream as far as the container and the first frame tell.
VideoInfo DescribeVideo(VideoFile& file, const AVFrame& first);

// The truth about the bytes of the containers that state their own length (MP4, Matroska, AVI): whether some are missing at the end, or
// the header that MP4 keeps at either end. OK for others. DATA_LOSS says what is missing.
Status CheckContainerLength(ByteSource& source);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_OPEN_VIDEO_H_
