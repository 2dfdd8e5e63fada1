#include "core/media/open_video.h"

extern "C" {
#include <libavutil/mastering_display_metadata.h>
#include <libavutil/mathematics.h>
#include <libavutil/pixdesc.h>
}

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

namespace nsic {
namespace {

constexpr int kIoBuffer = 64 << 10;

// What FFmpeg's decoders log when a frame's samples are not what was encoded. Other errors that they log (odd headers, unknown messages)
// leave the samples alone.
constexpr const char* kDamagedFrame[] = {"concealing %",
                                         "error while decoding MB",
                                         "CRC mismatch",
                                         "CABAC_MAX_BIN",
                                         "damaged at",
                                         "corrupted at",
                                         "bad vlc",
                                         "error dc",
                                         "corrupted macroblock",
                                         "ac-tex",
                                         "invalid cbp",
                                         "slice mismatch",
                                         "mb incr damaged",
                                         "Error at MB",
                                         "Frame num gap",
                                         "Could not find ref with POC",
                                         "Requested reference",
                                         "Error parsing NAL unit",
                                         "Error decoding slice",
                                         "error count:"};

// What its demuxers log when they skip bytes until they find something that they know again.
constexpr const char* kDamagedContainer[] = {"invalid as first byte of an EBML number", "exceeds containing master element",
                                             "Read error at pos", "Packet mismatch"};

template <size_t N>
bool Holds(const char* format, const char* const (&words)[N]) {
  return std::any_of(std::begin(words), std::end(words), [format](const char* word) { return std::strstr(format, word) != nullptr; });
}

// FFmpeg has one place for messages in a process, and writes them to the terminal, which belongs to the program. What matters to the user
// comes back as errors; only damage is known from messages alone. In core/media a decoder's `opaque` is its
// DamageReports, and a demuxer's its VideoFile.
void TakeMessage(void* from, int level, const char* format, va_list /*arguments*/) {
  if (level > AV_LOG_INFO || from == nullptr) return;
  const AVClass* const kind = *static_cast<const AVClass* const*>(from);
  if (kind == avcodec_get_class()) {
    auto* const reports = static_cast<DamageReports*>(static_cast<AVCodecContext*>(from)->opaque);
    if (reports != nullptr && Holds(format, kDamagedFrame)) reports->fetch_add(1);
  } else if (kind == avformat_get_class() && level <= AV_LOG_ERROR) {
    auto* const file = static_cast<VideoFile*>(static_cast<AVFormatContext*>(from)->opaque);
    if (file != nullptr && Holds(format, kDamagedContainer)) file->NoteDamage();
  }
}

std::string ErrorText(int error) {
  std::array<char, AV_ERROR_MAX_STRING_SIZE> text{};
  av_strerror(error, text.data(), text.size());
  return text.data();
}

Result<std::string> ReadExactly(ByteSource& source, int64_t offset, size_t bytes) {
  std::string data(bytes, '\0');
  size_t have = 0;
  while (have < bytes) {
    NSIC_ASSIGN_OR_RETURN(const size_t got, source.Read(offset + static_cast<int64_t>(have), data.data() + have, bytes - have));
    if (got == 0) break;
    have += got;
  }
  data.resize(have);
  return data;
}

uint64_t BigEndian(const std::string& bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

Status CutOff(const ByteSource& source, int64_t missing) {
  return DataLossError(source.display() + " is cut off: its last " + std::to_string(missing) +
                       " bytes or more are missing; copy or download it again, or restore what is there with --tolerate");
}

Status CheckMp4(ByteSource& source) {
  static constexpr const char* kTypes[] = {"ftyp", "moov", "mdat", "moof", "free", "skip", "wide", "mfra", "uuid",
                                           "udta", "meta", "sidx", "styp", "pnot", "emsg", "prft", "pdin"};
  int64_t at = 0;
  bool moov = false;
  while (at < source.size()) {
    NSIC_ASSIGN_OR_RETURN(const std::string head, ReadExactly(source, at, 16));
    if (head.size() < 8) break;
    const std::string type = head.substr(4, 4);
    // Bytes that some recorders leave behind the last atom say nothing.
    if (std::none_of(std::begin(kTypes), std::end(kTypes), [&type](const char* known) { return type == known; })) break;
    uint64_t size = BigEndian(head, 0, 4);
    if (size == 1 && head.size() == 16) size = BigEndian(head, 8, 8);
    if (size == 0) size = static_cast<uint64_t>(source.size() - at);
    if (size < 8) break;
    const auto left = static_cast<uint64_t>(source.size() - at);
    if (size > left) {
      if (!moov && type != "moov") {
        return DataLossError(source.display() +
                             " is cut off before its index (moov), without which nothing in it can be found; copy or "
                             "download it again");
      }
      return CutOff(source, static_cast<int64_t>(std::min<uint64_t>(size - left, INT64_MAX)));
    }
    moov = moov || type == "moov";
    at += static_cast<int64_t>(size);
  }
  if (moov) return OkStatus();
  return DataLossError(source.display() +
                       " has no index (moov), without which nothing in it can be found: its recording or download did not finish; copy or "
                       "download it again");
}

// Length of an EBML number by its first byte; 0: none is so long.
size_t EbmlLength(uint8_t first) {
  for (size_t length = 1; length <= 8; ++length) {
    if ((first & (0x80 >> (length - 1))) != 0) return length;
  }
  return 0;
}

Status CheckMatroska(ByteSource& source) {
  int64_t at = 0;
  for (int element = 0; element < 8; ++element) {
    NSIC_ASSIGN_OR_RETURN(const std::string head, ReadExactly(source, at, 12));
    if (head.size() < 5) return OkStatus();
    const size_t length = EbmlLength(static_cast<uint8_t>(head[4]));
    if (length == 0 || head.size() < 4 + length) return OkStatus();
    const uint64_t unknown = (uint64_t{1} << (7 * length)) - 1;
    const uint64_t size = BigEndian(head, 4, length) & unknown;
    const bool segment = head.compare(0, 4, "\x18\x53\x80\x67") == 0;
    const int64_t body = at + 4 + static_cast<int64_t>(length);
    if (segment && size == unknown) return OkStatus();  // written as a stream: its length is not told
    const auto left = static_cast<uint64_t>(std::max<int64_t>(source.size() - body, 0));
    if (segment) return size > left ? CutOff(source, static_cast<int64_t>(size - left)) : OkStatus();
    if (head.compare(0, 4, "\x1A\x45\xDF\xA3") != 0 || size > left) return OkStatus();
    at = body + static_cast<int64_t>(size);
  }
  return OkStatus();
}

Status CheckAvi(ByteSource& source) {
  int64_t at = 0;
  while (at < source.size()) {
    NSIC_ASSIGN_OR_RETURN(const std::string head, ReadExactly(source, at, 12));
    if (head.size() < 12 || head.compare(0, 4, "RIFF") != 0) break;
    const auto size =
        static_cast<int64_t>(static_cast<uint8_t>(head[4]) | static_cast<uint8_t>(head[5]) << 8 | static_cast<uint8_t>(head[6]) << 16 |
                             static_cast<uint32_t>(static_cast<uint8_t>(head[7])) << 24);
    if (size == 0) break;  // its recording did not finish; what there is can be read
    if (at + 8 + size > source.size()) return CutOff(source, at + 8 + size - source.size());
    at += 8 + size + (size & 1);
  }
  return OkStatus();
}

void TakeHdr(const AVMasteringDisplayMetadata& display, HdrMetadata* hdr) {
  const auto scaled = [](AVRational value, int64_t unit) {
    return value.den == 0 ? int64_t{0} : av_rescale_rnd(value.num, unit, value.den, AV_ROUND_NEAR_INF);
  };
  if (!display.has_primaries || !display.has_luminance) return;
  hdr->primaries.clear();
  for (const auto& primary : display.display_primaries) {
    for (const AVRational coordinate : primary) hdr->primaries.push_back(static_cast<int>(scaled(coordinate, 50'000)));
  }
  for (const AVRational coordinate : display.white_point) hdr->primaries.push_back(static_cast<int>(scaled(coordinate, 50'000)));
  hdr->max_luminance = scaled(display.max_luminance, 10'000);
  hdr->min_luminance = scaled(display.min_luminance, 10'000);
}

void TakeHdr(const AVContentLightMetadata& light, HdrMetadata* hdr) {
  hdr->max_content_light = static_cast<int>(light.MaxCLL);
  hdr->max_frame_average_light = static_cast<int>(light.MaxFALL);
}

bool Sensible(AVRational rate) { return rate.num > 0 && rate.den > 0 && av_q2d(rate) <= 1000 && av_q2d(rate) >= 0.001; }

}  // namespace

void RouteMessages() {
  static std::once_flag once;
  std::call_once(once, [] { av_log_set_callback(&TakeMessage); });
}

Result<AvOwner<AVPacket>> NewPacket() {
  AvOwner<AVPacket> packet(av_packet_alloc());
  if (packet == nullptr) return ResourceExhaustedError("no memory for a packet");
  return packet;
}

Result<AvOwner<AVFrame>> NewFrame() {
  AvOwner<AVFrame> frame(av_frame_alloc());
  if (frame == nullptr) return ResourceExhaustedError("no memory for a frame");
  return frame;
}

Status AvError(int error, const std::string& what) {
  std::string message = what + ": " + ErrorText(error);
  switch (error) {
    case AVERROR(ENOMEM): return ResourceExhaustedError(std::move(message));
    case AVERROR_INVALIDDATA: return DataLossError(std::move(message));
    case AVERROR_PATCHWELCOME:
    case AVERROR_DECODER_NOT_FOUND:
    case AVERROR_ENCODER_NOT_FOUND:
    case AVERROR_DEMUXER_NOT_FOUND:
    case AVERROR_MUXER_NOT_FOUND:
    case AVERROR_FILTER_NOT_FOUND:
    case AVERROR_BSF_NOT_FOUND:
    case AVERROR(ENOSYS): return UnimplementedError(std::move(message));
    default: return InternalError(std::move(message));
  }
}

std::string TimeText(int64_t pts, AVRational time_base) {
  std::array<char, 48> text{};
  std::snprintf(text.data(), text.size(), "%.3f s", static_cast<double>(pts) * av_q2d(time_base));
  return text.data();
}

int VideoFile::ReadBytes(void* self, uint8_t* buffer, int size) {
  auto* const file = static_cast<VideoFile*>(self);
  auto got = file->source_->Read(file->offset_, reinterpret_cast<char*>(buffer), static_cast<size_t>(size));
  if (!got.ok()) {
    // Demuxers take any error for the end of the file; ReadRaw asks for this one.
    if (file->read_error_.ok()) file->read_error_ = got.status();
    return AVERROR(EIO);
  }
  if (*got == 0) return AVERROR_EOF;
  file->offset_ += static_cast<int64_t>(*got);
  return static_cast<int>(*got);
}

int64_t VideoFile::SeekBytes(void* self, int64_t offset, int whence) {
  auto* const file = static_cast<VideoFile*>(self);
  switch (whence & ~AVSEEK_FORCE) {
    case AVSEEK_SIZE: return file->source_->size();
    case SEEK_SET: break;
    case SEEK_CUR: offset += file->offset_; break;
    case SEEK_END: offset += file->source_->size(); break;
    default: return AVERROR(EINVAL);
  }
  if (offset < 0) return AVERROR(EINVAL);
  return file->offset_ = offset;
}

int VideoFile::RefuseToOpen(AVFormatContext* context, AVIOContext** /*io*/, const char* /*url*/, int /*flags*/,
                            AVDictionary** /*options*/) {
  static_cast<VideoFile*>(context->opaque)->refers_ = true;
  return AVERROR(EPERM);
}

Result<std::unique_ptr<VideoFile>> VideoFile::Open(std::unique_ptr<ByteSource> source) {
  RouteMessages();
  std::unique_ptr<VideoFile> file(new VideoFile(std::move(source)));
  NSIC_RETURN_IF_ERROR(file->OpenFormat());
  return file;
}

VideoFile::~VideoFile() { Close(); }

void VideoFile::Close() {
  first_.reset();
  unpack_.reset();
  format_.reset();
  if (io_ == nullptr) return;
  av_freep(&io_->buffer);
  avio_context_free(&io_);
}

Status VideoFile::OpenFormat() {
  Close();
  offset_ = 0;
  auto* const buffer = static_cast<uint8_t*>(av_malloc(kIoBuffer));
  if (buffer != nullptr) io_ = avio_alloc_context(buffer, kIoBuffer, 0, this, &ReadBytes, nullptr, &SeekBytes);
  if (io_ == nullptr) {
    av_free(buffer);
    return ResourceExhaustedError("no memory to open " + display());
  }
  AVFormatContext* context = avformat_alloc_context();
  if (context == nullptr) return ResourceExhaustedError("no memory to open " + display());
  context->pb = io_;
  context->opaque = this;
  context->io_open = &RefuseToOpen;
  // Not its own name: what a file is is in its bytes, and names lie. On an error FFmpeg frees the context.
  const int opened = avformat_open_input(&context, "video", nullptr, nullptr);
  if (!read_error_.ok()) {
    if (opened >= 0) avformat_close_input(&context);
    return read_error_;
  }
  if (opened < 0 && refers_) {
    return InvalidArgumentError(display() + " is a playlist, which names the videos; give those");
  }
  if (opened == AVERROR_INVALIDDATA || opened == AVERROR(EIO) || opened == AVERROR_EOF) {
    NSIC_RETURN_IF_ERROR(CheckContainerLength(*source_));
    return InvalidArgumentError(display() + " is not a video, or its beginning is damaged beyond recognition");
  }
  if (opened < 0) return AvError(opened, "cannot open " + display());
  format_.reset(context);
  const std::string name = FormatName();
  if (name == "tty" || name == "image2" || (name.size() > 5 && name.compare(name.size() - 5, 5, "_pipe") == 0)) {
    return InvalidArgumentError(display() + " is not a video");
  }
  const int found = avformat_find_stream_info(context, nullptr);
  if (!read_error_.ok()) return read_error_;
  if (found < 0) {
    NSIC_RETURN_IF_ERROR(CheckContainerLength(*source_));
    return AvError(found, "cannot find the streams of " + display());
  }
  return OkStatus();
}

std::string VideoFile::FormatName() const {
  const std::string names = format_->iformat->name;
  return names.substr(0, names.find(','));
}

Status VideoFile::Select(int stream) {
  if (stream < 0 || static_cast<unsigned>(stream) >= format_->nb_streams) {
    return DataLossError(display() + " has no stream " + std::to_string(stream) + ": it has changed since it was examined");
  }
  stream_ = stream;
  for (unsigned i = 0; i < format_->nb_streams; ++i) {
    format_->streams[i]->discard = static_cast<int>(i) == stream ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
  }
  parameters_ = format_->streams[stream]->codecpar;
  if (parameters_->codec_id == AV_CODEC_ID_MPEG4) {
    // DivX in AVI packs a P and a B-frame into one packet and fills the gap with an empty one; packets are then no frames.
    AVBSFContext* context = nullptr;
    int done = av_bsf_alloc(av_bsf_get_by_name("mpeg4_unpack_bframes"), &context);
    unpack_.reset(context);
    if (done >= 0) done = avcodec_parameters_copy(context->par_in, parameters_);
    if (done >= 0) {
      context->time_base_in = time_base();
      done = av_bsf_init(context);
    }
    if (done < 0) return AvError(done, "cannot read the packets of " + display());
    parameters_ = context->par_out;
  }
  if (parameters_->codec_id == AV_CODEC_ID_MPEG1VIDEO || parameters_->codec_id == AV_CODEC_ID_MPEG2VIDEO) {
    // Program streams stamp only some packets. Where a B-frame is one by its header, the others' times follow from the order of decoding.
    format_->flags |= AVFMT_FLAG_GENPTS;
  }
  NSIC_ASSIGN_OR_RETURN(auto packet, NewPacket());
  NSIC_ASSIGN_OR_RETURN(const bool any, Read(packet.get()));
  if (!any) return OkStatus();
  decode_order_ = packet->pts == AV_NOPTS_VALUE && packet->dts != AV_NOPTS_VALUE;
  first_ = std::move(packet);
  return OkStatus();
}

Result<bool> VideoFile::ReadRaw(AVPacket* packet) {
  while (true) {
    const int got = av_read_frame(format_.get(), packet);
    if (!read_error_.ok()) {
      av_packet_unref(packet);
      return read_error_;
    }
    if (got == AVERROR(EAGAIN)) continue;
    if (got == AVERROR_EOF) return false;
    if (got < 0) return AvError(got, "cannot read on in " + display());
    // A packet without bytes (AVI's dropped frames) presents nothing, and decoders would take it for the end.
    if (packet->stream_index == stream_ && packet->size > 0) return true;
    av_packet_unref(packet);
  }
}

Result<bool> VideoFile::Read(AVPacket* packet) {
  if (first_ != nullptr) {
    av_packet_move_ref(packet, first_.get());
    first_.reset();
    return true;
  }
  if (unpack_ == nullptr) return ReadRaw(packet);
  while (true) {
    const int got = av_bsf_receive_packet(unpack_.get(), packet);
    if (got == 0) return true;
    if (got == AVERROR_EOF) return false;
    if (got != AVERROR(EAGAIN)) return AvError(got, "cannot read on in " + display());
    NSIC_ASSIGN_OR_RETURN(const bool more, ReadRaw(packet));
    const int sent = av_bsf_send_packet(unpack_.get(), more ? packet : nullptr);
    if (sent < 0) return AvError(sent, "cannot read on in " + display());
  }
}

void VideoFile::Forget() {
  first_.reset();
  if (unpack_ != nullptr) av_bsf_flush(unpack_.get());
}

bool VideoFile::SeekTime(int64_t pts) {
  Forget();
  return av_seek_frame(format_.get(), stream_, pts, AVSEEK_FLAG_BACKWARD) >= 0;
}

bool VideoFile::SeekByte(int64_t position) {
  Forget();
  return position >= 0 && av_seek_frame(format_.get(), stream_, position, AVSEEK_FLAG_BYTE) >= 0;
}

Status VideoFile::Rewind() {
  const int stream = stream_;
  NSIC_RETURN_IF_ERROR(OpenFormat());
  return Select(stream);
}

bool VideoFile::PrefersBytes() const {
  const std::string name = FormatName();
  return name == "mpegts" || name == "mpeg";
}

Result<AvOwner<AVCodecContext>> OpenDecoder(VideoFile& file, int threads, bool one_in_one_out, DamageReports* reports) {
  const AVCodecParameters& parameters = *file.parameters();
  const AVCodec* const codec = avcodec_find_decoder(parameters.codec_id);
  const std::string what = "cannot decode the " + std::string(avcodec_get_name(parameters.codec_id)) + " video of " + file.display();
  if (codec == nullptr) return UnimplementedError(what + ": this FFmpeg has no decoder for it");
  AvOwner<AVCodecContext> context(avcodec_alloc_context3(codec));
  if (context == nullptr) return ResourceExhaustedError("no memory to decode " + file.display());
  const int copied = avcodec_parameters_to_context(context.get(), &parameters);
  if (copied < 0) return AvError(copied, what);
  context->pkt_timebase = file.time_base();
  context->opaque = reports;
  // One thread, not several on the slices of a frame: FFmpeg's H.264 decoder does not look for errors in slices that it decodes at once.
  context->thread_count = one_in_one_out ? 1 : threads;
  context->thread_type = FF_THREAD_FRAME | FF_THREAD_SLICE;
  // A frame that is made up from its neighbours is no frame of the video.
  context->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER;
  // FFmpeg's H.264 decoder keeps back what lacks references when decoding starts at an open GOP, but at the end of a file it then takes
  // the first such picture for the last of all. With this flag it gives them, marked; PictureStream leaves them out.
  if (parameters.codec_id == AV_CODEC_ID_H264) context->flags |= AV_CODEC_FLAG_OUTPUT_CORRUPT;
  const int opened = avcodec_open2(context.get(), codec, nullptr);
  if (opened < 0) return AvError(opened, what);
  return context;
}

bool IsWhole(const AVFrame& frame) { return frame.decode_error_flags == 0 && (frame.flags & AV_FRAME_FLAG_CORRUPT) == 0; }

AVPixelFormat PlainFormat(int format, bool* full_range) {
  *full_range = true;
  switch (format) {
    case AV_PIX_FMT_YUVJ420P: return AV_PIX_FMT_YUV420P;
    case AV_PIX_FMT_YUVJ422P: return AV_PIX_FMT_YUV422P;
    case AV_PIX_FMT_YUVJ444P: return AV_PIX_FMT_YUV444P;
    case AV_PIX_FMT_YUVJ440P: return AV_PIX_FMT_YUV440P;
    case AV_PIX_FMT_YUVJ411P: return AV_PIX_FMT_YUV411P;
    default: *full_range = false; return static_cast<AVPixelFormat>(format);
  }
}

VideoInfo DescribeVideo(VideoFile& file, const AVFrame& first) {
  AVStream* const stream = file.stream();
  const AVCodecParameters& parameters = *stream->codecpar;
  VideoInfo info;
  info.size = {first.width, first.height};
  info.stream_index = stream->index;
  info.codec = avcodec_get_name(parameters.codec_id);
  bool full_range = false;
  const AVPixelFormat format = PlainFormat(first.format, &full_range);
  const char* const format_name = av_get_pix_fmt_name(format);
  info.pixel_format = format_name == nullptr ? "" : format_name;
  info.time_base = FromAv(stream->time_base);
  for (const AVRational rate : {stream->avg_frame_rate, stream->r_frame_rate, AVRational{25, 1}}) {
    if (!Sensible(rate)) continue;
    info.frame_rate = FromAv(rate);
    break;
  }
  const AVRational aspect = av_guess_sample_aspect_ratio(file.format(), stream, const_cast<AVFrame*>(&first));
  if (aspect.num > 0 && aspect.den > 0) info.sample_aspect = FromAv(aspect);

  // The bitstream's own word, which the frame carries, else the container's.
  const auto told = [](int frame, int container) { return frame != 2 ? frame : container; };
  info.colour.matrix = told(first.colorspace, parameters.color_space);
  info.colour.primaries = told(first.color_primaries, parameters.color_primaries);
  info.colour.transfer = told(first.color_trc, parameters.color_trc);
  const int range = first.color_range != AVCOL_RANGE_UNSPECIFIED ? first.color_range : parameters.color_range;
  const AVPixFmtDescriptor* const descriptor = av_pix_fmt_desc_get(format);
  const bool rgb = descriptor != nullptr && (descriptor->flags & AV_PIX_FMT_FLAG_RGB) != 0;
  info.colour.full_range = full_range || range == AVCOL_RANGE_JPEG || (rgb && range == AVCOL_RANGE_UNSPECIFIED);
  info.colour.chroma_location = first.chroma_location != AVCHROMA_LOC_UNSPECIFIED ? first.chroma_location : parameters.chroma_location;

  // A frame's side data is the bitstream's (SEI); the container's stands where there is none.
  size_t size = 0;
  const auto* display =
      reinterpret_cast<const AVMasteringDisplayMetadata*>(av_stream_get_side_data(stream, AV_PKT_DATA_MASTERING_DISPLAY_METADATA, &size));
  if (display != nullptr && size >= sizeof(*display)) TakeHdr(*display, &info.hdr);
  const auto* light =
      reinterpret_cast<const AVContentLightMetadata*>(av_stream_get_side_data(stream, AV_PKT_DATA_CONTENT_LIGHT_LEVEL, &size));
  if (light != nullptr && size >= sizeof(*light)) TakeHdr(*light, &info.hdr);
  if (const auto* data = av_frame_get_side_data(&first, AV_FRAME_DATA_MASTERING_DISPLAY_METADATA); data != nullptr) {
    TakeHdr(*reinterpret_cast<const AVMasteringDisplayMetadata*>(data->data), &info.hdr);
  }
  if (const auto* data = av_frame_get_side_data(&first, AV_FRAME_DATA_CONTENT_LIGHT_LEVEL); data != nullptr) {
    TakeHdr(*reinterpret_cast<const AVContentLightMetadata*>(data->data), &info.hdr);
  }
  return info;
}

Status CheckContainerLength(ByteSource& source) {
  NSIC_ASSIGN_OR_RETURN(const std::string head, ReadExactly(source, 0, 12));
  if (head.size() < 12) return OkStatus();
  const std::string type = head.substr(4, 4);
  if (type == "ftyp" || type == "moov" || type == "mdat" || type == "wide" || type == "styp") return CheckMp4(source);
  if (head.compare(0, 4, "\x1A\x45\xDF\xA3") == 0) return CheckMatroska(source);
  if (head.compare(0, 4, "RIFF") == 0 && head.compare(8, 4, "AVI ") == 0) return CheckAvi(source);
  return OkStatus();
}

}  // namespace nsic
