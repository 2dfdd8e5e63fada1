#include "core/media/plan_encode.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavutil/pixdesc.h>
}

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string_view>

#include "core/media/convert_frame.h"

namespace nsic {
namespace {

constexpr int kMaxSide = 16'384;  // pixels: what the encoders and the wire take

struct Encoder {
  std::string_view option;  // of --codec
  const char* name;         // FFmpeg's
  std::string_view codec;
  double crf, least_crf, most_crf;  // 0, 0, 0: it has none
  bool whole_crf;
  std::string_view preset;  // its default; empty: it has none
  int least_side;           // pixels
  bool whole_chroma;        // takes only sizes of whole chroma samples
};

constexpr std::array<Encoder, 4> kEncoders = {{
    {"x264", "libx264", "h264", 18, 0, 51, false, "medium", 1, true},
    {"x265", "libx265", "hevc", 20, 0, 51, false, "medium", 16, true},
    {"av1", "libsvtav1", "av1", 28, 1, 63, true, "8", 64, true},  // FFmpeg takes 0 for "not set"
    {"ffv1", "ffv1", "ffv1", 0, 0, 0, false, "", 1, false},
}};
constexpr std::array<std::string_view, 10> kNamedPresets = {"ultrafast", "superfast", "veryfast", "faster",   "fast",
                                                            "medium",    "slow",      "slower",   "veryslow", "placebo"};
constexpr int kLastAv1Preset = 13;

std::string Text(Size size) { return std::to_string(size.width) + "x" + std::to_string(size.height); }

std::string Text(double value) {
  std::string text = std::to_string(value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

template <typename List>
std::string Joined(const List& list) {
  std::string text;
  for (const auto& item : list) text += (text.empty() ? "" : ", ") + std::string(item);
  return text;
}

// ---- Pixel formats

bool IsRgb(const AVPixFmtDescriptor& format) { return (format.flags & AV_PIX_FMT_FLAG_RGB) != 0; }
bool IsGrey(const AVPixFmtDescriptor& format) { return format.nb_components == 1; }

// Those that FrameConverter makes; the range is said apart from the format.
std::vector<const AVPixFmtDescriptor*> FormatsOf(const Encoder& encoder) {
  std::vector<const AVPixFmtDescriptor*> formats;
  const AVCodec* const codec = avcodec_find_encoder_by_name(encoder.name);
  if (codec == nullptr) return formats;
  for (const AVPixelFormat* format = codec->pix_fmts; format != nullptr && *format != AV_PIX_FMT_NONE; ++format) {
    const AVPixFmtDescriptor* const descriptor = av_pix_fmt_desc_get(*format);
    const std::string_view name = descriptor->name;
    const bool semi_planar = name.substr(0, 2) == "nv";
    if (semi_planar || name.substr(0, 4) == "yuvj" || !CheckPixelFormat(descriptor->name, AVCOL_SPC_UNSPECIFIED).ok()) continue;
    formats.push_back(descriptor);
  }
  return formats;
}

bool FitsSize(const Encoder& encoder, const AVPixFmtDescriptor& format, Size size) {
  return !encoder.whole_chroma || (size.width % (1 << format.log2_chroma_w) == 0 && size.height % (1 << format.log2_chroma_h) == 0);
}

// The format that loses nothing of `source` and has the least that it does not need; null: none.
const AVPixFmtDescriptor* ChooseFormat(const Encoder& encoder, const AVPixFmtDescriptor& source, Size size) {
  const AVPixFmtDescriptor* best = nullptr;
  int best_cost = std::numeric_limits<int>::max();
  for (const AVPixFmtDescriptor* format : FormatsOf(encoder)) {
    const bool grey_to_yuv = IsGrey(source) && !IsGrey(*format) && !IsRgb(*format);
    const bool rgb_to_yuv = IsRgb(source) && !IsGrey(*format) && !IsRgb(*format);
    const bool same_family = IsGrey(source) == IsGrey(*format) && IsRgb(source) == IsRgb(*format);
    if (!same_family && !grey_to_yuv && !rgb_to_yuv) continue;
    const int bits = format->comp[0].depth - source.comp[0].depth;
    const int columns = grey_to_yuv ? 2 - format->log2_chroma_w : source.log2_chroma_w - format->log2_chroma_w;
    const int rows = grey_to_yuv ? 2 - format->log2_chroma_h : source.log2_chroma_h - format->log2_chroma_h;
    if (bits < 0 || columns < 0 || rows < 0 || !FitsSize(encoder, *format, size)) continue;
    const int cost = (same_family ? 0 : 10'000) + 100 * (columns + rows) + bits;
    if (cost < best_cost) {
      best = format;
      best_cost = cost;
    }
  }
  return best;
}

Result<std::string> PlanFormat(const Encoder& encoder, const std::string& source_name, const std::string& asked, Size size) {
  const AVPixFmtDescriptor* const source = av_pix_fmt_desc_get(av_get_pix_fmt(source_name.c_str()));
  const std::string encoder_text = "the encoder " + std::string(encoder.option);
  if (asked.empty()) {
    const AVPixFmtDescriptor* const chosen = ChooseFormat(encoder, *source, size);
    if (chosen != nullptr) return std::string(chosen->name);
    const bool odd = size.width % 2 != 0 || size.height % 2 != 0;
    return InvalidArgumentError(encoder_text + " cannot hold " + Text(size) + " pixels of " + source_name +
                                " without loss of bits or colour resolution; choose --codec ffv1, " + (odd ? "an even --size, " : "") +
                                "or say by --pix-fmt what it shall be");
  }
  std::vector<std::string_view> names;
  for (const AVPixFmtDescriptor* format : FormatsOf(encoder)) {
    names.emplace_back(format->name);
    if (asked != format->name) continue;
    if (!FitsSize(encoder, *format, size)) {
      return InvalidArgumentError(encoder_text + " takes no odd sizes (" + Text(size) + ") of " + asked +
                                  "; choose an even --size, --pix-fmt yuv444p or --codec ffv1");
    }
    return asked;
  }
  return InvalidArgumentError(encoder_text + " does not take the pixel format \"" + asked + "\"; choose one of " + Joined(names));
}

// ---- The rest of the plan

Result<const Encoder*> ChooseEncoder(const VideoProbe& probe, const EncodeOptions& options, const std::string& container, Size size) {
  const auto named = [](std::string_view option) {
    return std::find_if(kEncoders.begin(), kEncoders.end(), [&](const Encoder& encoder) { return encoder.option == option; });
  };
  if (!options.codec.empty()) {
    const auto found = named(options.codec);
    if (found == kEncoders.end()) {
      return InvalidArgumentError("the codec \"" + options.codec + "\" is not known; choose x264, x265, av1 or ffv1");
    }
    return &*found;
  }
  const std::string& format = options.pixel_format.empty() ? probe.info.pixel_format : options.pixel_format;
  const AVPixFmtDescriptor* const descriptor = av_pix_fmt_desc_get(av_get_pix_fmt(format.c_str()));
  if (container == "webm") {
    const Encoder& av1 = *named("av1");
    const bool fits =
        descriptor != nullptr && ChooseFormat(av1, *descriptor, size) != nullptr && std::min(size.width, size.height) >= av1.least_side;
    // What AV1 cannot take is kept whole in another codec, and so in another container, unless the user wants this one.
    if (fits || options.container == "webm") return &av1;
  }
  return &*named(descriptor != nullptr && descriptor->comp[0].depth > 8 ? "x265" : "x264");
}

Result<double> PlanCrf(const Encoder& encoder, double asked) {
  if (asked < 0) return encoder.crf;
  const std::string name(encoder.option);
  if (encoder.most_crf == 0) return InvalidArgumentError("the encoder " + name + " is lossless and has no CRF; leave --crf away");
  if (asked < encoder.least_crf || asked > encoder.most_crf || (encoder.whole_crf && asked != std::floor(asked))) {
    return InvalidArgumentError("the CRF of " + name + " must be " + (encoder.whole_crf ? "a whole number " : "") + "between " +
                                Text(encoder.least_crf) + " and " + Text(encoder.most_crf) + ", not " + Text(asked));
  }
  return asked;
}

Result<std::string> PlanPreset(const Encoder& encoder, const std::string& asked) {
  if (asked.empty()) return std::string(encoder.preset);
  const std::string name(encoder.option);
  if (encoder.preset.empty()) return InvalidArgumentError("the encoder " + name + " has no presets; leave --preset away");
  if (encoder.option == "av1") {
    const bool number = asked.size() <= 2 && asked.find_first_not_of("0123456789") == std::string::npos;
    if (number && std::atoi(asked.c_str()) <= kLastAv1Preset) return std::to_string(std::atoi(asked.c_str()));
    return InvalidArgumentError("the preset of av1 must be a number from 0 (slow) to " + std::to_string(kLastAv1Preset) + ", not \"" +
                                asked + "\"");
  }
  if (std::find(kNamedPresets.begin(), kNamedPresets.end(), asked) != kNamedPresets.end()) return asked;
  return InvalidArgumentError("the preset \"" + asked + "\" is not known to " + name + "; choose one of " + Joined(kNamedPresets));
}

Result<std::string> PlanContainer(const std::string& own, const std::string& asked) {
  for (const std::string_view known : {"mkv", "mp4", "webm"}) {
    if (asked == known) return asked;
    if (asked == "keep" && own == known) return own;
  }
  if (asked == "keep") return std::string(own == "mov" ? "mp4" : "mkv");
  return InvalidArgumentError("the container \"" + asked + "\" is not known; choose keep, mkv, mp4 or webm");
}

Result<Size> PlanSize(Size source, const EncodeOptions& options, int network_scale) {
  Size size = options.size;
  if (size == Size{}) {
    const double scale = options.scale > 0 ? options.scale : network_scale;
    const auto scaled = [scale](int side) {
      const double exact = std::min(side * scale, 1e9);
      return side % 2 == 0 ? std::max(2, 2 * static_cast<int>(std::lround(exact / 2))) : std::max(1, static_cast<int>(std::lround(exact)));
    };
    size = {scaled(source.width), scaled(source.height)};
  }
  if (size.width < 1 || size.height < 1) return InvalidArgumentError("a video cannot have " + Text(size) + " pixels");
  if (size.width > kMaxSide || size.height > kMaxSide) {
    return InvalidArgumentError("the output would have " + Text(size) + " pixels, and a side of a video has at most " +
                                std::to_string(kMaxSide) + "; choose a smaller --scale or --size");
  }
  return size;
}

// ---- Containers

// What FFmpeg's muxers store so that its demuxers, and players, get it back.
constexpr std::string_view kMkvAudio[] = {"aac",           "mp2",       "mp3",       "ac3",       "eac3",      "dts",       "truehd",
                                          "mlp",           "flac",      "alac",      "opus",      "vorbis",    "tta",       "wavpack",
                                          "pcm_u8",        "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be",
                                          "pcm_f32le",     "pcm_f64le", "pcm_alaw",  "pcm_mulaw", "wmav1",     "wmav2",     "adpcm_ms",
                                          "adpcm_ima_wav", "cook",      "ra_144",    "ra_288"};
constexpr std::string_view kMkvSubtitles[] = {
    "subrip",  "ass", "ssa", "webvtt", "text", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle", "hdmv_text_subtitle",
    "mov_text"};  // the last becomes SubRip
constexpr std::string_view kMkvVideo[] = {"h264",  "hevc",  "av1",    "vp8",    "vp9",      "ffv1", "mpeg1video", "mpeg2video",
                                          "mpeg4", "mjpeg", "theora", "prores", "rawvideo", "vc1",  "wmv3",       "png"};
constexpr std::string_view kMp4Audio[] = {"aac", "mp2", "mp3", "ac3", "eac3", "dts", "alac", "flac", "opus", "vorbis"};
constexpr std::string_view kMp4Subtitles[] = {"mov_text", "dvd_subtitle"};
constexpr std::string_view kMp4Video[] = {"h264", "hevc", "av1", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "mjpeg"};
constexpr std::string_view kWebmAudio[] = {"opus", "vorbis"};
constexpr std::string_view kWebmSubtitles[] = {"webvtt"};
constexpr std::string_view kWebmVideo[] = {"av1", "vp8", "vp9"};
constexpr std::string_view kPictures[] = {"mjpeg", "png", "bmp", "gif", "webp", "tiff"};
constexpr std::string_view kMp4Pictures[] = {"mjpeg", "png", "bmp"};

template <size_t n>
bool Has(const std::string_view (&list)[n], const std::string& codec) {
  return std::find(std::begin(list), std::end(list), codec) != std::end(list);
}

bool Holds(const std::string& container, const StreamFacts& stream) {
  const bool mkv = container == "mkv", mp4 = container == "mp4";
  if (stream.attached_picture) return mkv ? Has(kPictures, stream.codec) : mp4 && Has(kMp4Pictures, stream.codec);
  if (stream.kind == "audio") {
    return mkv ? Has(kMkvAudio, stream.codec) : mp4 ? Has(kMp4Audio, stream.codec) : Has(kWebmAudio, stream.codec);
  }
  if (stream.kind == "subtitle") {
    return mkv ? Has(kMkvSubtitles, stream.codec) : mp4 ? Has(kMp4Subtitles, stream.codec) : Has(kWebmSubtitles, stream.codec);
  }
  if (stream.kind == "video") {
    return mkv ? Has(kMkvVideo, stream.codec) : mp4 ? Has(kMp4Video, stream.codec) : Has(kWebmVideo, stream.codec);
  }
  return stream.kind == "attachment" && mkv;
}

}  // namespace

Result<EncodePlan> PlanEncode(const VideoProbe& probe, const EncodeOptions& options, int network_scale) {
  NSIC_RETURN_IF_ERROR(CheckPixelFormat(probe.info.pixel_format, probe.info.colour.matrix));
  EncodePlan plan;
  NSIC_ASSIGN_OR_RETURN(plan.container, PlanContainer(probe.container, options.container));
  NSIC_ASSIGN_OR_RETURN(plan.size, PlanSize(probe.info.size, options, network_scale));
  NSIC_ASSIGN_OR_RETURN(const Encoder* encoder, ChooseEncoder(probe, options, plan.container, plan.size));
  plan.encoder = encoder->name;
  if (avcodec_find_encoder_by_name(encoder->name) == nullptr) {
    return InvalidArgumentError("this build of FFmpeg has no encoder " + plan.encoder + "; choose another --codec");
  }
  if (std::min(plan.size.width, plan.size.height) < encoder->least_side) {
    return InvalidArgumentError("the encoder " + std::string(encoder->option) + " takes sizes from " +
                                Text({encoder->least_side, encoder->least_side}) + " on, not " + Text(plan.size) +
                                "; choose --codec x264 or ffv1");
  }
  NSIC_ASSIGN_OR_RETURN(plan.crf, PlanCrf(*encoder, options.crf));
  NSIC_ASSIGN_OR_RETURN(plan.preset, PlanPreset(*encoder, options.preset));
  NSIC_ASSIGN_OR_RETURN(plan.pixel_format, PlanFormat(*encoder, probe.info.pixel_format, options.pixel_format, plan.size));
  return plan;
}

bool IsCarriedOtherwise(const StreamFacts& stream) { return stream.kind == "data" && (stream.codec == "text" || stream.codec == "tmcd"); }

std::vector<ContainerFault> ContainerFaults(const VideoProbe& probe, const EncodePlan& plan) {
  std::vector<ContainerFault> faults;
  for (const StreamFacts& stream : probe.streams) {
    if (stream.index == probe.info.stream_index) {
      const auto encoder = std::find_if(kEncoders.begin(), kEncoders.end(), [&](const Encoder& e) { return plan.encoder == e.name; });
      const std::string codec(encoder != kEncoders.end() ? encoder->codec : plan.encoder);
      if (!Holds(plan.container, StreamFacts{stream.index, "video", codec})) {
        faults.push_back({stream.index, "the restored video (" + codec + ") cannot be stored in " + plan.container});
      } else if (probe.turned && plan.container != "mp4") {
        faults.push_back({stream.index, "that players turn the video cannot be stored in " + plan.container});
      }
      continue;
    }
    if (IsCarriedOtherwise(stream) || Holds(plan.container, stream)) continue;
    const std::string kind = stream.attached_picture ? "attached picture" : stream.kind + " stream";
    faults.push_back({stream.index, kind + " " + std::to_string(stream.index) + " (" + (stream.codec.empty() ? "unknown" : stream.codec) +
                                        ") cannot be stored in " + plan.container});
  }
  return faults;
}

}  // namespace nsic
