#include "core/media/write_segment.h"

extern "C" {
#include <libavutil/cpu.h>
#include <libavutil/mathematics.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
}
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "core/base/files.h"
#include "core/media/convert_frame.h"
#include "core/media/open_video.h"
#include "core/media/segment_file.h"

namespace nsic {
namespace {

// SVT-AV1 writes its settings to the terminal for each encoder, and is told not to by the environment alone: before any thread runs that
// might read it. Who sets it otherwise keeps that.
[[maybe_unused]] const int quiet_svt = ::setenv("SVT_LOG", "1", 0);

constexpr double kKeyFrameSeconds = 5;
constexpr int kMostKeyFrameTicks = 600;

std::string Text(Size size) { return std::to_string(size.width) + "x" + std::to_string(size.height); }

// "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)": the notation of x264, x265 and SVT-AV1, which differ in units.
std::string MasteringDisplay(const HdrMetadata& hdr, bool as_fractions) {
  const auto number = [&](int64_t value, double unit) {
    if (!as_fractions) return std::to_string(value);
    char text[32];
    std::snprintf(text, sizeof text, "%.6f", static_cast<double>(value) / unit);
    return std::string(text);
  };
  const auto point = [&](const char* name, size_t at) {
    return name + ("(" + number(hdr.primaries[at], 50'000) + "," + number(hdr.primaries[at + 1], 50'000) + ")");
  };
  return point("G", 2) + point("B", 4) + point("R", 0) + point("WP", 6) + "L(" + number(hdr.max_luminance, 10'000) + "," +
         number(hdr.min_luminance, 10'000) + ")";
}

bool HasDisplay(const HdrMetadata& hdr) { return hdr.primaries.size() == 8 && hdr.max_luminance > 0; }
bool HasLight(const HdrMetadata& hdr) { return hdr.max_content_light > 0 || hdr.max_frame_average_light > 0; }

class Options {
 public:
  explicit Options(AVCodecContext* context) : context_(context) {}
  void Set(const char* name, const std::string& value) {
    if (error_ == 0) error_ = av_opt_set(context_->priv_data, name, value.c_str(), 0);
    if (error_ < 0 && failed_.empty()) failed_ = std::string(name) + " " + value;
  }
  Status status() const { return error_ < 0 ? AvError(error_, "the encoder does not take " + failed_) : OkStatus(); }

 private:
  AVCodecContext* context_;
  int error_ = 0;
  std::string failed_;
};

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

// Everything that decides a byte is pinned here or in the plan: defaults of the libraries depend on the machine (threads, pools,
// wavefronts, and x265 even writes the processor's features into its headers).
Status SetOptions(const EncodePlan& plan, const HdrMetadata& hdr, AVCodecContext* context) {
  Options options(context);
  const std::string threads = std::to_string(plan.threads);
  if (plan.encoder == "libx264") {
    options.Set("preset", plan.preset);
    options.Set("crf", Number(plan.crf));
    std::string parameters = "open-gop=0";
    // x264's code for AVX-512 reads behind an array that is no multiple of 16 macroblocks wide, and encodes by what it finds there. Its
    // AVX2 code is as fast.
    if ((av_get_cpu_flags() & AV_CPU_FLAG_AVX512) != 0) parameters += ":asm=avx2";
    if (HasDisplay(hdr)) parameters += ":mastering-display=" + MasteringDisplay(hdr, false);
    if (HasLight(hdr)) parameters += ":cll=" + std::to_string(hdr.max_content_light) + "," + std::to_string(hdr.max_frame_average_light);
    options.Set("x264-params", parameters);
  } else if (plan.encoder == "libx265") {
    options.Set("preset", plan.preset);
    options.Set("crf", Number(plan.crf));
    std::string parameters = "open-gop=0:info=0:log-level=none:wpp=1:pools=" + threads + ":frame-threads=" + threads;
    if (HasDisplay(hdr)) parameters += ":master-display=" + MasteringDisplay(hdr, false);
    if (HasLight(hdr))
      parameters += ":max-cll=" + std::to_string(hdr.max_content_light) + "," + std::to_string(hdr.max_frame_average_light);
    options.Set("x265-params", parameters);
  } else if (plan.encoder == "libsvtav1") {
    options.Set("preset", plan.preset);
    options.Set("crf", Number(plan.crf));
    std::string parameters = "irefresh-type=2:pin=0:lp=" + threads;
    if (HasDisplay(hdr)) parameters += ":mastering-display=" + MasteringDisplay(hdr, true);
    if (HasLight(hdr)) {
      parameters += ":content-light=" + std::to_string(hdr.max_content_light) + "," + std::to_string(hdr.max_frame_average_light);
    }
    options.Set("svtav1-params", parameters);
    context->err_recognition |= AV_EF_EXPLODE;  // else a parameter that it does not know is ignored
  } else if (plan.encoder == "ffv1") {
    context->level = 3;
    options.Set("slicecrc", "1");
  } else {
    return InvalidArgumentError("the encoder \"" + plan.encoder + "\" is not known");
  }
  return options.status();
}

Result<AvOwner<AVCodecContext>> OpenEncoder(const VideoInfo& info, const EncodePlan& plan) {
  const AVCodec* const codec = avcodec_find_encoder_by_name(plan.encoder.c_str());
  if (codec == nullptr) return InvalidArgumentError("this build of FFmpeg has no encoder " + plan.encoder);
  AvOwner<AVCodecContext> context(avcodec_alloc_context3(codec));
  if (context == nullptr) return ResourceExhaustedError("no memory for the encoder");
  const AVRational tick = SegmentTick(info);
  const VideoColour colour = OutputColour(info, plan);
  context->width = plan.size.width;
  context->height = plan.size.height;
  context->pix_fmt = av_get_pix_fmt(plan.pixel_format.c_str());
  if (context->pix_fmt == AV_PIX_FMT_NONE) return InvalidArgumentError("the pixel format \"" + plan.pixel_format + "\" is not known");
  context->time_base = tick;
  context->framerate = av_inv_q(tick);
  if (plan.encoder == "libsvtav1") context->framerate = {std::clamp(static_cast<int>(std::lround(av_q2d(context->framerate))), 1, 240), 1};
  const double key_ticks = std::clamp<double>(std::round(kKeyFrameSeconds / av_q2d(tick)), 2, kMostKeyFrameTicks);
  context->gop_size = plan.encoder == "ffv1" ? 1 : static_cast<int>(key_ticks);
  if (info.sample_aspect.num > 0 && info.sample_aspect.den > 0) {
    av_reduce(&context->sample_aspect_ratio.num, &context->sample_aspect_ratio.den, info.sample_aspect.num, info.sample_aspect.den, 65'535);
  }
  context->colorspace = static_cast<AVColorSpace>(colour.matrix);
  context->color_primaries = static_cast<AVColorPrimaries>(colour.primaries);
  context->color_trc = static_cast<AVColorTransferCharacteristic>(colour.transfer);
  context->color_range = colour.full_range ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
  context->chroma_sample_location = static_cast<AVChromaLocation>(colour.chroma_location);
  context->thread_count = plan.threads;
  context->flags |= AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_CLOSED_GOP;
  NSIC_RETURN_IF_ERROR(SetOptions(plan, info.hdr, context.get()));
  const int error = avcodec_open2(context.get(), codec, nullptr);
  if (error < 0) {
    return AvError(error, plan.encoder + " does not encode " + Text(plan.size) + " pixels of " + plan.pixel_format + " with preset \"" +
                              plan.preset + "\", CRF " + Number(plan.crf));
  }
  return context;
}

class NutWriter : public SegmentWriter {
 public:
  explicit NutWriter(std::string path, const VideoInfo& info, const EncodePlan& plan) : path_(std::move(path)), plan_(plan) {
    tick_ = SegmentTick(info);
  }

  ~NutWriter() override {
    if (finished_ || !created_) return;
    if (muxer_->pb != nullptr) avio_closep(&muxer_->pb);
    ::unlink(path_.c_str());
  }

  Status Init(const VideoInfo& info) {
    NSIC_ASSIGN_OR_RETURN(encoder_, OpenEncoder(info, plan_));
    NSIC_ASSIGN_OR_RETURN(packet_, NewPacket());
    NSIC_ASSIGN_OR_RETURN(frame_, NewFrame());
    AVFormatContext* muxer = nullptr;
    int error = avformat_alloc_output_context2(&muxer, nullptr, "nut", nullptr);
    muxer_.reset(muxer);
    AVStream* const stream = error < 0 ? nullptr : avformat_new_stream(muxer, nullptr);
    if (stream == nullptr) return ResourceExhaustedError("no memory for the segment " + path_);
    error = avcodec_parameters_from_context(stream->codecpar, encoder_.get());
    if (error < 0) return AvError(error, "cannot describe the segment " + path_);
    stream->time_base = tick_;
    error = avio_open(&muxer->pb, ("file:" + path_).c_str(), AVIO_FLAG_WRITE);
    if (error < 0) return MuxError(error, "cannot create " + path_);
    created_ = true;
    error = avformat_write_header(muxer, nullptr);
    if (error < 0) return MuxError(error, "cannot write " + path_);
    return OkStatus();
  }

  Status Write(const VideoFrame& frame) override {
    const AVFrame* const in = frame.get();
    if (in == nullptr || in->format != encoder_->pix_fmt || frame.size() != plan_.size) {
      return InvalidArgumentError("a frame of " + Text(frame.size()) + " pixels does not fit the plan of " + Text(plan_.size) + " of " +
                                  plan_.pixel_format);
    }
    av_frame_unref(frame_.get());
    const int error = av_frame_ref(frame_.get(), in);
    if (error < 0) return AvError(error, "cannot take a frame");
    // Nothing that the source's frame says of itself is to lead the encoder: its kind, fields, closed captions.
    while (frame_->nb_side_data > 0) av_frame_remove_side_data(frame_.get(), frame_->side_data[0]->type);
    frame_->pict_type = AV_PICTURE_TYPE_NONE;
    frame_->key_frame = 0;
    frame_->interlaced_frame = 0;
    frame_->top_field_first = 0;
    frame_->repeat_pict = 0;
    frame_->pts = frames_++;
    frame_->pkt_duration = 1;
    return Encode(frame_.get());
  }

  Status Finish() override {
    if (frames_ == 0) return InvalidArgumentError("the segment " + path_ + " has no frames");
    NSIC_RETURN_IF_ERROR(Encode(nullptr));
    const int error = av_write_trailer(muxer_.get());
    if (error < 0) return MuxError(error, "cannot write " + path_);
    NSIC_RETURN_IF_ERROR(CloseFile());
    const UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid() || ::fsync(fd.get()) != 0) return ErrnoError(errno, "cannot sync " + path_);
    NSIC_RETURN_IF_ERROR(Verify());
    finished_ = true;
    return OkStatus();
  }

 private:
  // `frame` null: drains.
  Status Encode(const AVFrame* frame) {
    int error = avcodec_send_frame(encoder_.get(), frame);
    if (error < 0) return AvError(error, plan_.encoder + " cannot encode frame " + std::to_string(frames_) + " of " + path_);
    while (true) {
      error = avcodec_receive_packet(encoder_.get(), packet_.get());
      if (error == AVERROR(EAGAIN) && frame != nullptr) return OkStatus();
      if (error == AVERROR_EOF && frame == nullptr) return OkStatus();
      if (error < 0) return AvError(error, plan_.encoder + " cannot encode " + path_);
      // NUT has no time before 0, and no packet may be decoded later than it is shown: all is shown later by as much as the encoder
      // reorders, which the first packet tells.
      if (packets_ == 0) delay_ = packet_->dts == AV_NOPTS_VALUE ? 0 : std::max<int64_t>(0, packet_->pts - packet_->dts);
      packet_->pts += delay_;
      packet_->dts = packets_++;
      packet_->duration = 1;
      packet_->stream_index = 0;
      if (packet_->pts < packet_->dts) return InternalError(plan_.encoder + " reorders frames more than it says");
      av_packet_rescale_ts(packet_.get(), tick_, muxer_->streams[0]->time_base);
      error = av_write_frame(muxer_.get(), packet_.get());
      av_packet_unref(packet_.get());
      if (error < 0) return MuxError(error, "cannot write " + path_);
    }
  }

  Status CloseFile() {
    const int error = avio_closep(&muxer_->pb);
    return error < 0 ? MuxError(error, "cannot write " + path_) : OkStatus();
  }

  Status Verify() {
    NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<SegmentFile> file, SegmentFile::Open(path_, tick_, frames_));
    while (true) {
      const Result<bool> more = file->Next(packet_.get());
      if (!more.ok()) return InternalError(more.status().message());
      if (!*more) return OkStatus();
    }
  }

  const std::string path_;
  const EncodePlan plan_;
  AVRational tick_ = {};
  AvOwner<AVCodecContext> encoder_;
  AvOwner<AVPacket> packet_;
  AvOwner<AVFrame> frame_;
  MuxerOwner muxer_;
  int frames_ = 0;
  int64_t packets_ = 0;
  int64_t delay_ = 0;  // frames
  bool created_ = false;
  bool finished_ = false;
};

}  // namespace

Result<std::unique_ptr<SegmentWriter>> SegmentWriter::Open(const std::string& path, const VideoInfo& info, const EncodePlan& plan) {
  RouteMessages();
  auto writer = std::make_unique<NutWriter>(path, info, plan);
  NSIC_RETURN_IF_ERROR(writer->Init(info));
  return std::unique_ptr<SegmentWriter>(std::move(writer));
}

}  // namespace nsic
