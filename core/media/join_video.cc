#include "core/media/join_video.h"

extern "C" {
#include <libavutil/avstring.h>
#include <libavutil/mastering_display_metadata.h>
#include <libavutil/mathematics.h>
#include <libavutil/mem.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
}
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <set>
#include <utility>

#include "core/base/digest.h"
#include "core/base/files.h"
#include "core/media/convert_frame.h"
#include "core/media/describe_stream.h"
#include "core/media/open_video.h"
#include "core/media/plan_encode.h"
#include "core/media/segment_file.h"
#include "core/media/verify_video.h"

namespace nsic {
namespace {

constexpr double kVerifyShare = 0.25;  // of the progress
constexpr size_t kPrimingBytes = 8;    // of Matroska's element for a codec delay

struct DictionaryOwner {
  ~DictionaryOwner() { av_dict_free(&entries); }
  AVDictionary* entries = nullptr;
};

bool IsPicture(const AVStream& stream) { return (stream.disposition & AV_DISPOSITION_ATTACHED_PIC) != 0; }

// What an entry of a stream's metadata says of the video that was, not of the one that is.
bool IsStale(std::string_view key) {
  for (const std::string_view prefix : {"BPS", "NUMBER_OF_", "_STATISTICS_", "DURATION", "SOURCE_ID"}) {
    if (key.substr(0, prefix.size()) == prefix) return true;
  }
  return key == "encoder" || key == "rotate";  // the display matrix turns the picture; twice would be once too often
}

// ---- The restored video

// The packets of all segments, with their times in the source.
class VideoPackets {
 public:
  explicit VideoPackets(const JoinPlan& plan) : plan_(plan), tick_(SegmentTick(plan.info)), time_base_(ToAv(plan.info.time_base)) {}

  // Looks into all segments, and stands before the first packet of the first.
  Status Open() {
    NSIC_ASSIGN_OR_RETURN(packet_, NewPacket());
    parameters_.reset(avcodec_parameters_alloc());
    for (size_t i = plan_.segments.size(); i-- > 0;) {
      NSIC_RETURN_IF_ERROR(OpenSegment(i));
      if (i + 1 == plan_.segments.size()) {
        if (parameters_ == nullptr || avcodec_parameters_copy(parameters_.get(), &file_->parameters()) < 0) {
          return ResourceExhaustedError("no memory for the joined video");
        }
      }
      NSIC_RETURN_IF_ERROR(CompareWithLast());
      NSIC_RETURN_IF_ERROR(file_->Next(packet_.get()).status());
      delay_ = std::max<int64_t>(delay_, file_->delay());
    }
    return Stamp();
  }

  const AVCodecParameters& parameters() const { return *parameters_; }
  AVPacket* packet() { return done_ ? nullptr : packet_.get(); }  // times in info.time_base
  int64_t written() const { return decoded_; }

  Status Advance() {
    while (true) {
      NSIC_ASSIGN_OR_RETURN(const bool more, file_->Next(packet_.get()));
      if (more) return Stamp();
      first_ += plan_.segment_frames[segment_];
      if (segment_ + 1 == plan_.segments.size()) {
        done_ = true;
        return OkStatus();
      }
      NSIC_RETURN_IF_ERROR(OpenSegment(segment_ + 1));
    }
  }

 private:
  struct FreeParameters {
    void operator()(AVCodecParameters* parameters) const { avcodec_parameters_free(&parameters); }
  };

  Status OpenSegment(size_t number) {
    segment_ = number;
    NSIC_ASSIGN_OR_RETURN(file_, SegmentFile::Open(plan_.segments[number], tick_, plan_.segment_frames[number]));
    return OkStatus();
  }

  Status CompareWithLast() const {
    const AVCodecParameters& now = file_->parameters();
    const bool same =
        now.codec_id == parameters_->codec_id && now.width == parameters_->width && now.height == parameters_->height &&
        now.extradata_size == parameters_->extradata_size &&
        (now.extradata_size == 0 || std::memcmp(now.extradata, parameters_->extradata, static_cast<size_t>(now.extradata_size)) == 0);
    if (same) return OkStatus();
    return DataLossError("the segments " + plan_.segments[segment_] + " and " + plan_.segments.back() +
                         " were made by different encoders and cannot be joined; let workers of one version restore the video again");
  }

  // A packet is decoded when a frame is shown that lies as many frames back as the encoder reorders: over the whole video, so that
  // these times rise from one segment to the next however uneven frames are.
  Status Stamp() {
    const size_t frame = static_cast<size_t>(first_ + packet_->pts);
    packet_->pts = plan_.pts[frame];
    packet_->duration = DurationOf(frame);
    const int64_t shown = decoded_++ - delay_;
    packet_->dts = shown >= 0 ? plan_.pts[static_cast<size_t>(shown)] : plan_.pts[0] + shown * DurationOf(0);
    if (packet_->dts > packet_->pts) {
      return DataLossError("the segment " + plan_.segments[segment_] + " reorders its frames more than it says");
    }
    return OkStatus();
  }

  int64_t DurationOf(size_t frame) const {
    if (frame + 1 < plan_.pts.size()) return plan_.pts[frame + 1] - plan_.pts[frame];
    if (frame > 0) return plan_.pts[frame] - plan_.pts[frame - 1];
    return std::max<int64_t>(1, av_rescale_q(1, tick_, time_base_));
  }

  const JoinPlan& plan_;
  const AVRational tick_, time_base_;
  std::unique_ptr<AVCodecParameters, FreeParameters> parameters_;
  std::unique_ptr<SegmentFile> file_;
  AvOwner<AVPacket> packet_;
  size_t segment_ = 0;
  int64_t first_ = 0;    // frame of the segment
  int64_t decoded_ = 0;  // packets so far
  int64_t delay_ = 0;    // frames by which the encoder reorders
  bool done_ = false;
};

// ---- Subtitles of QuickTime for Matroska

class SubtitleConverter {
 public:
  static Result<std::unique_ptr<SubtitleConverter>> Make(const AVStream& in) {
    std::unique_ptr<SubtitleConverter> converter(new SubtitleConverter);
    const AVCodec* const decoder = avcodec_find_decoder(in.codecpar->codec_id);
    const AVCodec* const encoder = avcodec_find_encoder(AV_CODEC_ID_SUBRIP);
    if (decoder == nullptr || encoder == nullptr) return UnimplementedError("this build of FFmpeg cannot make SubRip subtitles");
    converter->decoder_.reset(avcodec_alloc_context3(decoder));
    converter->encoder_.reset(avcodec_alloc_context3(encoder));
    AVCodecContext* const from = converter->decoder_.get();
    AVCodecContext* const to = converter->encoder_.get();
    if (from == nullptr || to == nullptr) return ResourceExhaustedError("no memory for subtitles");
    int error = avcodec_parameters_to_context(from, in.codecpar);
    from->pkt_timebase = in.time_base;
    if (error >= 0) error = avcodec_open2(from, decoder, nullptr);
    if (error >= 0 && from->subtitle_header_size > 0) {
      to->subtitle_header = static_cast<uint8_t*>(av_mallocz(static_cast<size_t>(from->subtitle_header_size) + 1));
      if (to->subtitle_header == nullptr) return ResourceExhaustedError("no memory for subtitles");
      std::memcpy(to->subtitle_header, from->subtitle_header, static_cast<size_t>(from->subtitle_header_size));
      to->subtitle_header_size = from->subtitle_header_size;
    }
    to->time_base = {1, 1000};
    if (error >= 0) error = avcodec_open2(to, encoder, nullptr);
    if (error < 0) return AvError(error, "cannot convert subtitles");
    return converter;
  }

  // Replaces what the packet holds; false when it shows nothing.
  Result<bool> Convert(AVPacket* packet) {
    AVSubtitle subtitle = {};
    int got = 0;
    int error = avcodec_decode_subtitle2(decoder_.get(), &subtitle, &got, packet);
    if (error >= 0 && got != 0 && subtitle.num_rects > 0) {
      text_.resize(size_t{1} << 16);
      error = avcodec_encode_subtitle(encoder_.get(), text_.data(), static_cast<int>(text_.size()), &subtitle);
    } else if (error >= 0) {
      error = 0;
    }
    avsubtitle_free(&subtitle);
    if (error < 0) return AvError(error, "cannot convert a subtitle");
    if (error == 0) return false;
    AvOwner<AVPacket> converted(av_packet_alloc());
    if (converted == nullptr || av_new_packet(converted.get(), error) < 0) return ResourceExhaustedError("no memory for a subtitle");
    std::memcpy(converted->data, text_.data(), static_cast<size_t>(error));
    converted->pts = packet->pts;
    converted->dts = packet->dts;
    converted->duration = packet->duration;
    converted->stream_index = packet->stream_index;
    converted->flags = packet->flags;
    av_packet_unref(packet);
    av_packet_move_ref(packet, converted.get());
    return true;
  }

 private:
  SubtitleConverter() = default;
  AvOwner<AVCodecContext> decoder_, encoder_;
  std::vector<uint8_t> text_;
};

// ---- The join

// What becomes of a stream of the source.
struct Track {
  int out = -1;  // stream of the output; -1: left out
  bool restored = false;
  bool picture = false;  // stands whole in the header
  std::unique_ptr<SubtitleConverter> converter;
  std::string title, room;            // of a Matroska track, and what follows it until WritePriming()
  int64_t priming = 0;                // added to the times that are written, in the source's time base
  int64_t next_dts = AV_NOPTS_VALUE;  // in the source's time base: where a packet without a time belongs
  int64_t last_dts = AV_NOPTS_VALUE;  // written, in the output's
  bool mended = false;
};

class Joiner {
 public:
  Joiner(const JoinPlan& plan, const std::string& path, const CancelToken& cancel, const std::function<void(double share)>& progress)
      : plan_(plan), path_(path), cancel_(cancel), progress_(progress), video_(plan), time_base_(ToAv(plan.info.time_base)) {}

  ~Joiner() {
    if (muxer_ != nullptr && muxer_->pb != nullptr) avio_closep(&muxer_->pb);
  }

  Result<JoinedVideo> Run() {
    NSIC_RETURN_IF_ERROR(CheckPlan());
    NSIC_RETURN_IF_ERROR(video_.Open());
    NSIC_RETURN_IF_ERROR(OpenSource());
    NSIC_RETURN_IF_ERROR(OpenOutput());
    NSIC_RETURN_IF_ERROR(Copy());
    NSIC_RETURN_IF_ERROR(Close());
    NSIC_RETURN_IF_ERROR(VerifyVideo(path_, expected_, cancel_, [this](double share) { progress_(1 - kVerifyShare * (1 - share)); }));
    struct stat info {};
    if (::stat(path_.c_str(), &info) != 0) return ErrnoError(errno, "cannot examine " + path_);
    joined_.bytes = info.st_size;
    joined_.size = plan_.encode.size;
    joined_.frames = static_cast<int64_t>(plan_.pts.size());
    return joined_;
  }

 private:
  Status CheckPlan() const {
    int64_t frames = 0;
    for (const int count : plan_.segment_frames) {
      if (count < 1) return InvalidArgumentError("a segment cannot have " + std::to_string(count) + " frames");
      frames += count;
    }
    if (plan_.segments.empty() || plan_.segments.size() != plan_.segment_frames.size() ||
        frames != static_cast<int64_t>(plan_.pts.size())) {
      return InvalidArgumentError("the segments of " + plan_.source_path + " hold " + std::to_string(frames) + " frames instead of " +
                                  std::to_string(plan_.pts.size()));
    }
    for (size_t i = 1; i < plan_.pts.size(); ++i) {
      if (plan_.pts[i] > plan_.pts[i - 1]) continue;
      return InvalidArgumentError("frame " + std::to_string(i) + " of " + plan_.source_path + " is not later than the one before");
    }
    if (plan_.info.time_base.num < 1 || plan_.info.time_base.den < 1) return InvalidArgumentError("the video has no time base");
    return OkStatus();
  }

  Status OpenSource() {
    NSIC_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> source, OpenFileSource(plan_.source_path));
    NSIC_ASSIGN_OR_RETURN(source_, VideoFile::Open(std::move(source)));
    AVFormatContext& format = *source_->format();
    const int restored = plan_.info.stream_index;
    if (restored < 0 || static_cast<unsigned>(restored) >= format.nb_streams ||
        format.streams[restored]->codecpar->codec_type != AVMEDIA_TYPE_VIDEO) {
      return DataLossError(plan_.source_path + " has changed since it was examined: its stream " + std::to_string(restored) +
                           " is no video; submit it again");
    }
    // Matroska has no time before 0.
    if (plan_.encode.container != "mp4") shift_ = std::max<int64_t>(0, -plan_.pts.front());
    if (plan_.excerpt) {
      shift_ = -plan_.pts.front();
      const int64_t tick = std::max<int64_t>(1, av_rescale_q(1, SegmentTick(plan_.info), time_base_));
      const int64_t last = plan_.pts.size() > 1 ? plan_.pts.back() - plan_.pts[plan_.pts.size() - 2] : tick;
      end_ = plan_.pts.back() + last;
      // Only to read less: what lies before is dropped by its time.
      av_seek_frame(&format, restored, plan_.pts.front(), AVSEEK_FLAG_BACKWARD);
    }
    tracks_.resize(format.nb_streams);
    for (unsigned i = 0; i < format.nb_streams; ++i) {
      const bool wanted = static_cast<int>(i) != restored && !IsDropped(static_cast<int>(i));
      format.streams[i]->discard = wanted ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
    }
    return OkStatus();
  }

  bool IsDropped(int stream) const {
    return std::find(plan_.dropped_streams.begin(), plan_.dropped_streams.end(), stream) != plan_.dropped_streams.end();
  }

  // ---- The header

  Status OpenOutput() {
    const std::string& container = plan_.encode.container;
    const char* const name = container == "mkv" ? "matroska" : container.c_str();
    if (container != "mkv" && container != "mp4" && container != "webm") {
      return InvalidArgumentError("the container \"" + container + "\" is not known; choose mkv, mp4 or webm");
    }
    AVFormatContext* muxer = nullptr;
    const int error = avformat_alloc_output_context2(&muxer, nullptr, name, nullptr);
    if (error < 0) return AvError(error, "cannot write " + container);
    muxer_.reset(muxer);
    muxer->avoid_negative_ts = 0;  // times are not to be shifted behind our back

    AVFormatContext& source = *source_->format();
    VideoProbe probe;  // what ContainerFaults wants to know
    probe.info = plan_.info;
    for (unsigned i = 0; i < source.nb_streams; ++i) probe.streams.push_back(DescribeStream(*source.streams[i]));
    probe.turned = IsTurned(*source.streams[plan_.info.stream_index]);
    for (const ContainerFault& fault : ContainerFaults(probe, plan_.encode)) {
      if (!IsDropped(fault.stream)) return InvalidArgumentError(plan_.source_path + ": " + fault.what);
    }
    NSIC_RETURN_IF_ERROR(FindAudioStarts());
    for (unsigned i = 0; i < source.nb_streams; ++i) {
      NSIC_RETURN_IF_ERROR(AddTrack(*source.streams[i], probe.streams[i]));
    }
    NSIC_RETURN_IF_ERROR(AddChapters());
    CopyFormatMetadata();
    return WriteHeader();
  }

  Status AddTrack(AVStream& in, const StreamFacts& facts) {
    Track& track = tracks_[static_cast<size_t>(in.index)];
    track.restored = in.index == plan_.info.stream_index;
    if (!track.restored && (IsDropped(in.index) || IsCarriedOtherwise(facts))) {
      in.discard = AVDISCARD_ALL;
      return OkStatus();
    }
    if (in.codecpar->codec_type == AVMEDIA_TYPE_AUDIO && in.codecpar->sample_rate <= 0) {
      joined_.notes.push_back("audio stream " + std::to_string(in.index) + " has no content and is left out");
      in.discard = AVDISCARD_ALL;
      return OkStatus();
    }
    AVStream* const out = avformat_new_stream(muxer_.get(), nullptr);
    if (out == nullptr) return ResourceExhaustedError("no memory to write " + path_);
    track.out = out->index;
    out->disposition = in.disposition;
    av_dict_copy(&out->metadata, in.metadata, 0);
    ExpectedStream expected;
    if (const AVDictionaryEntry* const language = av_dict_get(in.metadata, "language", nullptr, 0)) expected.language = language->value;
    if (track.restored) {
      NSIC_RETURN_IF_ERROR(DescribeRestored(in, out));
      expected_.restored = static_cast<int>(expected_.streams.size());
    } else if (IsPicture(in)) {
      track.picture = true;
      NSIC_RETURN_IF_ERROR(DescribePicture(in, out));
    } else {
      NSIC_RETURN_IF_ERROR(DescribeCopied(in, out, &track));
    }
    expected.type = IsPicture(in) ? AVMEDIA_TYPE_ATTACHMENT : out->codecpar->codec_type;
    expected.codec = out->codecpar->codec_id;
    expected_.streams.push_back(expected);
    return OkStatus();
  }

  Status DescribeRestored(const AVStream& in, AVStream* out) {
    AVCodecParameters& parameters = *out->codecpar;
    if (avcodec_parameters_copy(&parameters, &video_.parameters()) < 0) return ResourceExhaustedError("no memory to write " + path_);
    const VideoInfo& info = plan_.info;
    const VideoColour colour = OutputColour(info, plan_.encode);
    if (Size{parameters.width, parameters.height} != plan_.encode.size) {
      return DataLossError("the segment " + plan_.segments[0] + " has another size than the plan");
    }
    // Apple's players want the tag that says that parameters stand in the header alone.
    parameters.codec_tag = parameters.codec_id == AV_CODEC_ID_HEVC && plan_.encode.container == "mp4" ? MKTAG('h', 'v', 'c', '1') : 0;
    parameters.format = av_get_pix_fmt(plan_.encode.pixel_format.c_str());
    parameters.color_range = colour.full_range ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
    parameters.color_space = static_cast<AVColorSpace>(colour.matrix);
    parameters.color_primaries = static_cast<AVColorPrimaries>(colour.primaries);
    parameters.color_trc = static_cast<AVColorTransferCharacteristic>(colour.transfer);
    parameters.chroma_location = static_cast<AVChromaLocation>(colour.chroma_location);
    parameters.field_order = AV_FIELD_PROGRESSIVE;
    if (info.sample_aspect.num > 0 && info.sample_aspect.den > 0) {
      av_reduce(&parameters.sample_aspect_ratio.num, &parameters.sample_aspect_ratio.den, info.sample_aspect.num, info.sample_aspect.den,
                std::numeric_limits<int>::max());
      out->sample_aspect_ratio = parameters.sample_aspect_ratio;
    }
    out->time_base = time_base_;
    if (IsConstantRate()) out->avg_frame_rate = out->r_frame_rate = ToAv(info.frame_rate);
    std::vector<std::string> stale;
    for (const AVDictionaryEntry* entry = nullptr; (entry = av_dict_get(out->metadata, "", entry, AV_DICT_IGNORE_SUFFIX)) != nullptr;) {
      if (IsStale(entry->key)) stale.emplace_back(entry->key);
    }
    for (const std::string& key : stale) av_dict_set(&out->metadata, key.c_str(), nullptr, 0);
    if (plan_.encode.container == "mp4") {  // elsewhere the user gave it up
      NSIC_RETURN_IF_ERROR(CopySideData(in, AV_PKT_DATA_DISPLAYMATRIX, out));
    }
    for (const AVPacketSideDataType type : {AV_PKT_DATA_SPHERICAL, AV_PKT_DATA_STEREO3D}) NSIC_RETURN_IF_ERROR(CopySideData(in, type, out));
    return AddHdr(info.hdr, out);
  }

  Status AddHdr(const HdrMetadata& hdr, AVStream* out) const {
    const auto add = [&](AVPacketSideDataType type, auto* data, size_t bytes) -> Status {
      if (data == nullptr || av_stream_add_side_data(out, type, reinterpret_cast<uint8_t*>(data), bytes) < 0) {
        av_free(data);
        return ResourceExhaustedError("no memory to write " + path_);
      }
      return OkStatus();
    };
    if (hdr.primaries.size() == 8 && hdr.max_luminance > 0) {
      AVMasteringDisplayMetadata* const display = av_mastering_display_metadata_alloc();
      if (display != nullptr) {
        for (size_t i = 0; i < 6; ++i) display->display_primaries[i / 2][i % 2] = {hdr.primaries[i], 50'000};
        for (size_t i = 0; i < 2; ++i) display->white_point[i] = {hdr.primaries[6 + i], 50'000};
        display->max_luminance = {static_cast<int>(hdr.max_luminance), 10'000};
        display->min_luminance = {static_cast<int>(hdr.min_luminance), 10'000};
        display->has_primaries = display->has_luminance = 1;
      }
      NSIC_RETURN_IF_ERROR(add(AV_PKT_DATA_MASTERING_DISPLAY_METADATA, display, sizeof *display));
    }
    if (hdr.max_content_light > 0 || hdr.max_frame_average_light > 0) {
      size_t bytes = 0;
      AVContentLightMetadata* const light = av_content_light_metadata_alloc(&bytes);
      if (light != nullptr) {
        light->MaxCLL = static_cast<unsigned>(hdr.max_content_light);
        light->MaxFALL = static_cast<unsigned>(hdr.max_frame_average_light);
      }
      NSIC_RETURN_IF_ERROR(add(AV_PKT_DATA_CONTENT_LIGHT_LEVEL, light, bytes));
    }
    return OkStatus();
  }

  Status CopySideData(const AVStream& in, AVPacketSideDataType type, AVStream* out) const {
    size_t bytes = 0;
    const uint8_t* const data = av_stream_get_side_data(&in, type, &bytes);
    if (data == nullptr) return OkStatus();
    uint8_t* const copy = av_stream_new_side_data(out, type, bytes);
    if (copy == nullptr) return ResourceExhaustedError("no memory to write " + path_);
    std::memcpy(copy, data, bytes);
    return OkStatus();
  }

  // A frame rate is only claimed where every frame keeps to it.
  bool IsConstantRate() const {
    const Rational& rate = plan_.info.frame_rate;
    if (rate.num < 1 || rate.den < 1) return false;
    const double step = static_cast<double>(rate.den) / static_cast<double>(rate.num) / av_q2d(time_base_);
    for (size_t i = 0; i < plan_.pts.size(); ++i) {
      if (std::abs(static_cast<double>(plan_.pts[i] - plan_.pts[0]) - static_cast<double>(i) * step) > 1.5) return false;
    }
    return true;
  }

  // In Matroska a picture is an attached file, elsewhere a stream of one packet.
  Status DescribePicture(const AVStream& in, AVStream* out) {
    if (in.attached_pic.size <= 0) return DataLossError("the attached picture of " + plan_.source_path + " is empty");
    if (avcodec_parameters_copy(out->codecpar, in.codecpar) < 0) return ResourceExhaustedError("no memory to write " + path_);
    out->codecpar->codec_tag = 0;
    if (plan_.encode.container != "mkv") {
      out->time_base = in.time_base;
      return OkStatus();
    }
    struct Kind {
      AVCodecID codec;
      const char* mime;
      const char* name;
    };
    static constexpr Kind kKinds[] = {{AV_CODEC_ID_MJPEG, "image/jpeg", "cover.jpg"}, {AV_CODEC_ID_PNG, "image/png", "cover.png"},
                                      {AV_CODEC_ID_BMP, "image/bmp", "cover.bmp"},    {AV_CODEC_ID_GIF, "image/gif", "cover.gif"},
                                      {AV_CODEC_ID_WEBP, "image/webp", "cover.webp"}, {AV_CODEC_ID_TIFF, "image/tiff", "cover.tiff"}};
    const auto* const kind =
        std::find_if(std::begin(kKinds), std::end(kKinds), [&](const Kind& k) { return k.codec == in.codecpar->codec_id; });
    if (kind == std::end(kKinds)) return InternalError("a picture of unknown kind");
    AVCodecParameters& parameters = *out->codecpar;
    av_freep(&parameters.extradata);
    parameters.extradata = static_cast<uint8_t*>(av_mallocz(static_cast<size_t>(in.attached_pic.size) + AV_INPUT_BUFFER_PADDING_SIZE));
    if (parameters.extradata == nullptr) return ResourceExhaustedError("no memory to write " + path_);
    std::memcpy(parameters.extradata, in.attached_pic.data, static_cast<size_t>(in.attached_pic.size));
    parameters.extradata_size = in.attached_pic.size;
    parameters.codec_type = AVMEDIA_TYPE_ATTACHMENT;
    out->disposition = 0;
    if (av_dict_get(out->metadata, "mimetype", nullptr, 0) == nullptr) av_dict_set(&out->metadata, "mimetype", kind->mime, 0);
    if (av_dict_get(out->metadata, "filename", nullptr, 0) == nullptr) av_dict_set(&out->metadata, "filename", kind->name, 0);
    return OkStatus();
  }

  Status DescribeCopied(const AVStream& in, AVStream* out, Track* track) {
    AVCodecParameters& parameters = *out->codecpar;
    out->time_base = in.time_base;
    if (in.codecpar->codec_id == AV_CODEC_ID_MOV_TEXT && plan_.encode.container == "mkv") {
      NSIC_ASSIGN_OR_RETURN(track->converter, SubtitleConverter::Make(in));
      parameters.codec_type = AVMEDIA_TYPE_SUBTITLE;
      parameters.codec_id = AV_CODEC_ID_SUBRIP;
      return OkStatus();
    }
    if (avcodec_parameters_copy(&parameters, in.codecpar) < 0) return ResourceExhaustedError("no memory to write " + path_);
    // The tag of one container means nothing, or something else, in another.
    const AVCodecTag* const* const tags = muxer_->oformat->codec_tag;
    unsigned tag = 0;
    if (tags != nullptr && av_codec_get_id(tags, parameters.codec_tag) != parameters.codec_id &&
        av_codec_get_tag2(tags, parameters.codec_id, &tag) != 0) {
      parameters.codec_tag = 0;
    }
    out->avg_frame_rate = in.avg_frame_rate;
    out->r_frame_rate = in.r_frame_rate;
    out->sample_aspect_ratio = in.sample_aspect_ratio;
    for (int i = 0; i < in.nb_side_data; ++i) NSIC_RETURN_IF_ERROR(CopySideData(in, in.side_data[i].type, out));
    if (parameters.codec_type == AVMEDIA_TYPE_AUDIO && plan_.encode.container != "mp4") DescribePriming(in, &parameters, track);
    return OkStatus();
  }

  // Matroska has no time before 0. Samples that only prime the decoder are its "codec delay": players take it from the times of the
  // packets, to which FFmpeg 5.1 leaves it to us to add it. It writes the delay for Opus alone; elsewhere room for it is made at the end of
  // the track's name, where WritePriming() puts it.
  void DescribePriming(const AVStream& in, AVCodecParameters* parameters, Track* track) {
    const AVRational sample = {1, parameters->sample_rate};
    if (plan_.excerpt && parameters->codec_id != AV_CODEC_ID_OPUS) parameters->initial_padding = 0;  // it begins in the middle
    const int64_t start = audio_starts_[static_cast<size_t>(in.index)];
    if (start != AV_NOPTS_VALUE) {
      const int64_t before = av_rescale_q(-(start + Shift(in.time_base)), in.time_base, sample);
      const int64_t rounding = parameters->sample_rate * 3 / 2000;  // 1.5 ms
      if (before > parameters->initial_padding + rounding) parameters->initial_padding = static_cast<int>(before);
    }
    track->priming = av_rescale_q(parameters->initial_padding, sample, in.time_base);
    if (track->priming == 0 || parameters->codec_id == AV_CODEC_ID_OPUS) return;
    const AVDictionaryEntry* const title = av_dict_get(in.metadata, "title", nullptr, 0);
    track->title = title != nullptr ? title->value : "";
    // An empty title has no element: the room is then the whole of it, of which the head takes three bytes.
    track->room = RandomHex(kPrimingBytes).substr(0, track->title.empty() ? kPrimingBytes - 3 : kPrimingBytes);
    av_dict_set(&muxer_->streams[track->out]->metadata, "title", (track->title + track->room).c_str(), 0);
  }

  // Puts codec delays into the room that was made for them. The file is closed.
  Status WritePriming() {
    for (size_t i = 0; i < tracks_.size(); ++i) {
      const Track& track = tracks_[i];
      if (track.room.empty()) continue;
      constexpr size_t kMostHeader = size_t{16} << 20;  // attached pictures and fonts stand behind the tracks
      const UniqueFd fd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
      if (!fd.valid()) return ErrnoError(errno, "cannot open " + path_);
      std::string header(kMostHeader, '\0');
      size_t have = 0;
      while (have < header.size()) {
        NSIC_ASSIGN_OR_RETURN(const size_t got, ReadSome(fd.get(), header.data() + have, header.size() - have, path_));
        if (got == 0) break;
        have += got;
      }
      header.resize(have);
      const std::string text = track.title + track.room;
      const size_t at = header.find(text);
      // The element of a name: two bytes that say so, then one byte or two of its length.
      const size_t lengths = text.size() < 127 ? 1 : 2;
      if (at == std::string::npos || at < lengths + 2 || header.compare(at - lengths - 2, 2, "\x53\x6E") != 0 || text.size() > 16'000) {
        return InternalError("no room for the codec delay of stream " + std::to_string(i) + " in " + path_);
      }
      const int64_t delay = av_rescale_q(track.priming, source_->format()->streams[i]->time_base, {1, 1'000'000'000});
      std::string element = "\x56\xAA\x85";
      for (int shift = 32; shift >= 0; shift -= 8) element += static_cast<char>(delay >> shift & 0xff);
      if (!track.title.empty()) {
        element += "\x53\x6E";
        if (lengths == 1) {
          element += static_cast<char>(0x80 | track.title.size());
        } else {
          element += static_cast<char>(0x40 | track.title.size() >> 8);
          element += static_cast<char>(track.title.size() & 0xff);
        }
        element += track.title;
      }
      if (::lseek(fd.get(), static_cast<off_t>(at - lengths - 2), SEEK_SET) < 0) return ErrnoError(errno, "cannot write " + path_);
      NSIC_RETURN_IF_ERROR(WriteAll(fd.get(), element, path_));
    }
    return OkStatus();
  }

  Status AddChapters() {
    const AVFormatContext& source = *source_->format();
    AVFormatContext& muxer = *muxer_;
    if (source.nb_chapters == 0) return OkStatus();
    muxer.chapters = static_cast<AVChapter**>(av_calloc(source.nb_chapters, sizeof(AVChapter*)));
    if (muxer.chapters == nullptr) return ResourceExhaustedError("no memory to write " + path_);
    for (unsigned i = 0; i < source.nb_chapters; ++i) {
      const AVChapter& in = *source.chapters[i];
      int64_t start = in.start, end = in.end;
      if (plan_.excerpt) {
        start = std::max(start, av_rescale_q(plan_.pts.front(), time_base_, in.time_base));
        end = std::min(end, av_rescale_q(end_, time_base_, in.time_base));
        if (start >= end) continue;
      }
      auto* const out = static_cast<AVChapter*>(av_mallocz(sizeof(AVChapter)));
      if (out == nullptr) return ResourceExhaustedError("no memory to write " + path_);
      muxer.chapters[muxer.nb_chapters++] = out;
      out->id = in.id;
      out->time_base = in.time_base;
      out->start = start + Shift(in.time_base);
      out->end = end + Shift(in.time_base);
      av_dict_copy(&out->metadata, in.metadata, 0);
    }
    expected_.chapters = muxer.nb_chapters;
    return OkStatus();
  }

  void CopyFormatMetadata() {
    av_dict_copy(&muxer_->metadata, source_->format()->metadata, 0);
    for (const char* const key : {"major_brand", "minor_version", "compatible_brands", "encoder"}) {  // of the old file, not of the video
      av_dict_set(&muxer_->metadata, key, nullptr, 0);
    }
  }

  Status WriteHeader() {
    DictionaryOwner options;
    if (plan_.encode.container == "mp4") {
      // Where a track begins is told in units of the movie: as fine as the frames' own, so that none is moved.
      int64_t scale = plan_.info.time_base.den;
      while (scale < 10'000) scale *= 2;
      av_dict_set_int(&options.entries, "movie_timescale", scale, 0);
      // Apple's keys ("com.apple.quicktime.location.ISO6709") have no place among iTunes' tags.
      if (av_dict_get(muxer_->metadata, "com.", nullptr, AV_DICT_IGNORE_SUFFIX) != nullptr) {
        av_dict_set(&options.entries, "movflags", "use_metadata_tags", 0);
      }
    }
    for (const Track& track : tracks_) {
      if (!track.room.empty()) av_dict_set(&options.entries, "write_crc32", "0", 0);  // it would not hold after WritePriming()
    }
    int error = avio_open(&muxer_->pb, ("file:" + path_).c_str(), AVIO_FLAG_WRITE);
    if (error < 0) return MuxError(error, "cannot create " + path_);
    error = avformat_write_header(muxer_.get(), &options.entries);
    if (error < 0) return MuxError(error, "cannot write " + path_ + " as " + plan_.encode.container);
    // Frames that the container cannot tell apart would be shown at once.
    const AVRational time_base = RestoredStream()->time_base;
    for (size_t i = 1; i < plan_.pts.size(); ++i) {
      if (av_rescale_q(plan_.pts[i] + shift_, time_base_, time_base) > av_rescale_q(plan_.pts[i - 1] + shift_, time_base_, time_base))
        continue;
      return InvalidArgumentError(plan_.source_path + ": the frames at " + TimeText(plan_.pts[i], time_base_) +
                                  " are less than a millisecond apart, which " + plan_.encode.container +
                                  " cannot tell; choose --container mp4");
    }
    expected_.size = plan_.encode.size;
    expected_.pixel_format = av_get_pix_fmt(plan_.encode.pixel_format.c_str());
    expected_.time_base = time_base_;
    for (const int64_t pts : plan_.pts) expected_.pts.push_back(pts + shift_);
    int frame = 0;
    for (size_t i = 0; i + 1 < plan_.segment_frames.size(); ++i) expected_.joins.push_back(frame += plan_.segment_frames[i]);
    for (size_t i = 0; i < tracks_.size(); ++i) {
      if (!tracks_[i].picture || plan_.encode.container == "mkv") continue;
      NSIC_ASSIGN_OR_RETURN(const AvOwner<AVPacket> packet, NewPacket());
      if (av_packet_ref(packet.get(), &source_->format()->streams[i]->attached_pic) < 0) {
        return ResourceExhaustedError("no memory to write " + path_);
      }
      packet->stream_index = tracks_[i].out;
      packet->pts = packet->dts = 0;
      packet->duration = 0;
      error = av_interleaved_write_frame(muxer_.get(), packet.get());
      if (error < 0) return MuxError(error, "cannot write " + path_);
    }
    return OkStatus();
  }

  AVStream* RestoredStream() { return muxer_->streams[tracks_[static_cast<size_t>(plan_.info.stream_index)].out]; }

  // ---- The packets

  // By how much times are moved, in `time_base`.
  int64_t Shift(AVRational time_base) const { return av_rescale_q(shift_, time_base_, time_base); }

  // Where each audio stream begins, which headers do not tell. What is read for it is kept for Copy().
  Status FindAudioStarts() {
    AVFormatContext& format = *source_->format();
    audio_starts_.assign(format.nb_streams, AV_NOPTS_VALUE);
    if (plan_.encode.container == "mp4") return OkStatus();
    constexpr size_t kMostPackets = 2000;
    int unknown = 0;
    for (unsigned i = 0; i < format.nb_streams; ++i) {
      if (format.streams[i]->codecpar->codec_type == AVMEDIA_TYPE_AUDIO && format.streams[i]->discard != AVDISCARD_ALL) ++unknown;
    }
    while (unknown > 0 && ahead_.size() < kMostPackets) {
      NSIC_ASSIGN_OR_RETURN(AvOwner<AVPacket> packet, ReadSource());
      if (packet == nullptr) break;
      const size_t stream = static_cast<size_t>(packet->stream_index);
      if (format.streams[stream]->codecpar->codec_type == AVMEDIA_TYPE_AUDIO && audio_starts_[stream] == AV_NOPTS_VALUE) {
        audio_starts_[stream] = packet->pts;
        --unknown;
      }
      ahead_.push_back(std::move(packet));
    }
    return OkStatus();
  }

  // The next packet that is copied, its times those of the source; null at the end.
  Result<AvOwner<AVPacket>> ReadSource() {
    AVFormatContext& format = *source_->format();
    while (true) {
      NSIC_RETURN_IF_ERROR(cancel_.Check());
      NSIC_ASSIGN_OR_RETURN(AvOwner<AVPacket> packet, NewPacket());
      const int error = av_read_frame(&format, packet.get());
      if (error == AVERROR(EAGAIN)) continue;
      if (format.pb->error < 0) return MuxError(format.pb->error, "cannot read " + plan_.source_path);
      if (error == AVERROR_EOF) return AvOwner<AVPacket>();
      if (error < 0) return AvError(error, "cannot read " + plan_.source_path);
      const size_t stream = static_cast<size_t>(packet->stream_index);
      if (stream >= tracks_.size()) {
        if (late_streams_.insert(packet->stream_index).second) {
          joined_.notes.push_back("stream " + std::to_string(stream) + " begins in the middle of " + plan_.source_path +
                                  " and is left out");
        }
        continue;
      }
      if (format.streams[stream]->discard == AVDISCARD_ALL || IsPicture(*format.streams[stream])) continue;
      FillTimes(*format.streams[stream], packet.get());
      if (IsHidden(*format.streams[stream], packet.get())) continue;
      if (plan_.excerpt) {
        const AVRational time_base = format.streams[stream]->time_base;
        if (av_compare_ts(packet->pts, time_base, plan_.pts.front(), time_base_) < 0) continue;
        if (av_compare_ts(packet->pts, time_base, end_, time_base_) >= 0) continue;
      }
      return packet;
    }
  }

  // Whether an edit list hides a subtitle whole, which begins before the video does. What shows of one that goes on is cut to that.
  // (Sound that is hidden primes the decoder and is carried.)
  static bool IsHidden(const AVStream& stream, AVPacket* packet) {
    if (stream.codecpar->codec_type != AVMEDIA_TYPE_SUBTITLE || (packet->flags & AV_PKT_FLAG_DISCARD) == 0) return false;
    if (packet->pts >= 0 || packet->pts + packet->duration <= 0) return true;
    packet->duration += packet->pts;
    packet->pts = packet->dts = 0;
    packet->flags &= ~AV_PKT_FLAG_DISCARD;
    return false;
  }

  // A packet without times follows the one before.
  void FillTimes(const AVStream& stream, AVPacket* packet) {
    Track& track = tracks_[static_cast<size_t>(stream.index)];
    if (packet->dts == AV_NOPTS_VALUE) packet->dts = packet->pts;
    if (packet->dts == AV_NOPTS_VALUE) packet->dts = track.next_dts == AV_NOPTS_VALUE ? 0 : track.next_dts;
    if (packet->pts == AV_NOPTS_VALUE) packet->pts = packet->dts;
    track.next_dts = packet->dts + packet->duration;
  }

  Result<AvOwner<AVPacket>> NextOther() {
    while (true) {
      AvOwner<AVPacket> packet;
      if (!ahead_.empty()) {
        packet = std::move(ahead_.front());
        ahead_.pop_front();
      } else {
        NSIC_ASSIGN_OR_RETURN(packet, ReadSource());
      }
      if (packet == nullptr) return packet;
      const Track& track = tracks_[static_cast<size_t>(packet->stream_index)];
      if (track.out < 0) continue;  // found to be left out after it was read ahead
      if (track.converter == nullptr) return packet;
      NSIC_ASSIGN_OR_RETURN(const bool shows, track.converter->Convert(packet.get()));
      if (shows) return packet;
    }
  }

  Status Copy() {
    AVFormatContext& source = *source_->format();
    NSIC_ASSIGN_OR_RETURN(AvOwner<AVPacket> other, NextOther());
    NSIC_ASSIGN_OR_RETURN(const AvOwner<AVPacket> copy, NewPacket());
    while (video_.packet() != nullptr || other != nullptr) {
      NSIC_RETURN_IF_ERROR(cancel_.Check());
      AVPacket* const video = video_.packet();
      const bool take_video = video != nullptr && (other == nullptr || av_compare_ts(video->dts, time_base_, other->dts,
                                                                                     source.streams[other->stream_index]->time_base) <= 0);
      if (take_video) {
        if (av_packet_ref(copy.get(), video) < 0) return ResourceExhaustedError("no memory for a packet");
        NSIC_RETURN_IF_ERROR(WritePacket(copy.get(), plan_.info.stream_index, time_base_));
        NSIC_RETURN_IF_ERROR(video_.Advance());
        if (video_.written() % 64 == 0) {
          progress_((1 - kVerifyShare) * static_cast<double>(video_.written()) / static_cast<double>(plan_.pts.size()));
        }
      } else {
        const int stream = other->stream_index;
        NSIC_RETURN_IF_ERROR(WritePacket(other.get(), stream, source.streams[stream]->time_base));
        NSIC_ASSIGN_OR_RETURN(other, NextOther());
      }
    }
    return OkStatus();
  }

  // `time_base` of the packet's times. Takes what the packet holds.
  Status WritePacket(AVPacket* packet, int stream, AVRational time_base) {
    Track& track = tracks_[static_cast<size_t>(stream)];
    AVStream* const out = muxer_->streams[track.out];
    packet->stream_index = track.out;
    packet->pos = -1;
    packet->pts += Shift(time_base) + track.priming;
    packet->dts += Shift(time_base) + track.priming;
    const int64_t priming = av_rescale_q(track.priming, time_base, out->time_base);
    av_packet_rescale_ts(packet, time_base, out->time_base);
    if (!track.restored) MendTimes(stream, out->time_base, &track, packet);
    track.last_dts = packet->dts;

    ExpectedStream& expected = expected_.streams[static_cast<size_t>(track.out)];
    const bool empty = packet->size == 0 || (out->codecpar->codec_id == AV_CODEC_ID_MOV_TEXT && packet->size <= 2);
    if (!empty) {
      const double time = static_cast<double>(packet->pts - priming) * av_q2d(out->time_base);
      if (expected.packets++ == 0) expected.first = expected.last = time;
      expected.first = std::min(expected.first, time);
      expected.last = std::max(expected.last, time);
    }
    const int error = av_interleaved_write_frame(muxer_.get(), packet);
    if (error >= 0) return OkStatus();
    return MuxError(error, "cannot write " + path_ + " (" + (track.restored ? "video" : "stream " + std::to_string(stream)) + " at " +
                               TimeText(track.last_dts, out->time_base) + ")");
  }

  // No muxer takes times of decoding that go back, which broadcasts have.
  void MendTimes(int stream, AVRational time_base, Track* track, AVPacket* packet) {
    if (track->last_dts != AV_NOPTS_VALUE) {
      const int64_t least = track->last_dts + ((muxer_->oformat->flags & AVFMT_TS_NONSTRICT) != 0 ? 0 : 1);
      if (packet->dts < least) {
        if (!track->mended) {
          joined_.notes.push_back("time stamps of stream " + std::to_string(stream) + " go back at " + TimeText(packet->dts, time_base) +
                                  " and are mended");
        }
        track->mended = true;
        packet->dts = least;
      }
    }
    packet->pts = std::max(packet->pts, packet->dts);
  }

  Status Close() {
    int error = av_write_trailer(muxer_.get());
    if (error < 0) return MuxError(error, "cannot write " + path_);
    error = avio_closep(&muxer_->pb);
    if (error < 0) return MuxError(error, "cannot write " + path_);
    NSIC_RETURN_IF_ERROR(WritePriming());
    const UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid() || ::fsync(fd.get()) != 0) return ErrnoError(errno, "cannot sync " + path_);
    return OkStatus();
  }

  const JoinPlan& plan_;
  const std::string& path_;
  const CancelToken& cancel_;
  const std::function<void(double)>& progress_;
  VideoPackets video_;
  const AVRational time_base_;  // of plan_.pts
  std::unique_ptr<VideoFile> source_;
  MuxerOwner muxer_;
  std::vector<Track> tracks_;  // one a stream of the source
  std::vector<int64_t> audio_starts_;
  std::deque<AvOwner<AVPacket>> ahead_;
  std::set<int> late_streams_;
  int64_t shift_ = 0;  // added to all times, in time_base_
  int64_t end_ = 0;    // of an excerpt, in time_base_
  ExpectedVideo expected_;
  JoinedVideo joined_;
};

}  // namespace

Result<JoinedVideo> JoinVideo(const JoinPlan& plan, const std::string& output_path, const CancelToken& cancel,
                              const std::function<void(double share)>& progress) {
  struct stat source {
  }, output{};
  if (::stat(plan.source_path.c_str(), &source) == 0 && ::stat(output_path.c_str(), &output) == 0 && source.st_dev == output.st_dev &&
      source.st_ino == output.st_ino) {
    return InvalidArgumentError(output_path + " is the source itself, which is never written");
  }
  Result<JoinedVideo> joined = Joiner(plan, output_path, cancel, progress).Run();
  if (!joined.ok()) ::unlink(output_path.c_str());
  return joined;
}

}  // namespace nsic
