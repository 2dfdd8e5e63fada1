#include "core/rpc/video_messages.h"

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

namespace nsic {
namespace {

constexpr int64_t kMaxTerm = std::numeric_limits<int32_t>::max();  // of a fraction: FFmpeg's are ints
constexpr double kMinFrameRate = 1e-6;
constexpr double kMaxFrameRate = 1e6;
constexpr int kMaxStream = 9999;
constexpr int kMaxCodePoint = 255;     // H.273's tables have 8 bits
constexpr int kMaxChromaLocation = 6;  // bottom
constexpr int kPrimaries = 8;
constexpr int kMaxChromaticity = 65'535;  // 16 bits in ST 2086's bitstream forms, as are light levels
constexpr int64_t kMaxLuminance = std::numeric_limits<uint32_t>::max();
constexpr double kMaxCrf = 63;
constexpr int kMaxEncoderThreads = 64;
constexpr size_t kMaxName = 64;
constexpr std::string_view kEncoders[] = {"libx264", "libx265", "libsvtav1", "ffv1"};
constexpr std::string_view kContainers[] = {"mkv", "mp4", "webm"};

template <typename List>
bool Contains(const List& list, std::string_view value) {
  for (const std::string_view known : list) {
    if (known == value) return true;
  }
  return false;
}

// As FFmpeg names codecs and formats, and encoders their presets.
bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= kMaxName && text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string::npos;
}

std::string Shown(std::string_view text) {
  std::string shown;
  for (const char c : text.substr(0, kMaxName)) shown += c >= ' ' && c <= '~' ? c : '?';
  return "'" + shown + "'";
}

std::string Shown(const v1::Rational& value) { return std::to_string(value.num()) + "/" + std::to_string(value.den()); }

bool IsFraction(const v1::Rational& value, int64_t least) {
  return value.num() >= least && value.num() <= kMaxTerm && value.den() >= 1 && value.den() <= kMaxTerm;
}

bool IsSide(int32_t pixels) { return pixels >= 1 && pixels <= kMaxVideoSide; }

std::string ShownSize(int32_t width, int32_t height) { return std::to_string(width) + "x" + std::to_string(height) + " pixels"; }

std::string ColourFault(const v1::Colour& colour) {
  for (const int32_t code : {colour.matrix(), colour.primaries(), colour.transfer()}) {
    if (code < 0 || code > kMaxCodePoint) return "has the colour code " + std::to_string(code) + ", which H.273 does not know";
  }
  if (colour.chroma_location() < 0 || colour.chroma_location() > kMaxChromaLocation) {
    return "has the unknown chroma location " + std::to_string(colour.chroma_location());
  }
  return "";
}

std::string HdrFault(const v1::HdrMetadata& hdr) {
  if (hdr.primaries_size() != 0 && hdr.primaries_size() != kPrimaries) {
    return "has " + std::to_string(hdr.primaries_size()) + " chromaticities of its mastering display; they are 8";
  }
  for (const int32_t value : hdr.primaries()) {
    if (value < 0 || value > kMaxChromaticity) return "has the chromaticity " + std::to_string(value) + " of its mastering display";
  }
  if (hdr.min_luminance() < 0 || hdr.max_luminance() < hdr.min_luminance() || hdr.max_luminance() > kMaxLuminance) {
    return "has a mastering display with luminances from " + std::to_string(hdr.min_luminance()) + " to " +
           std::to_string(hdr.max_luminance());
  }
  for (const int32_t value : {hdr.max_content_light(), hdr.max_frame_average_light()}) {
    if (value < 0 || value > kMaxChromaticity) return "has the content light level " + std::to_string(value);
  }
  return "";
}

std::string StreamFault(const v1::VideoInfo& video) {
  if (!IsSide(video.width()) || !IsSide(video.height())) return "claims frames of " + ShownSize(video.width(), video.height());
  if (video.stream_index() < 0 || video.stream_index() > kMaxStream)
    return "has its video in stream " + std::to_string(video.stream_index());
  if (!IsName(video.codec())) return "has the codec " + Shown(video.codec());
  if (!IsName(video.pixel_format())) return "has the pixel format " + Shown(video.pixel_format());
  if (!IsFraction(video.time_base(), 1)) return "has a time base of " + Shown(video.time_base());
  const double rate = static_cast<double>(video.frame_rate().num()) / static_cast<double>(video.frame_rate().den());
  if (!IsFraction(video.frame_rate(), 1) || !(rate >= kMinFrameRate && rate <= kMaxFrameRate)) {
    return "has a frame rate of " + Shown(video.frame_rate());
  }
  if (!IsFraction(video.sample_aspect(), 0)) return "has a sample aspect of " + Shown(video.sample_aspect());
  if (std::string fault = ColourFault(video.colour()); !fault.empty()) return fault;
  if (std::string fault = HdrFault(video.hdr()); !fault.empty()) return fault;
  if (!v1::FieldOrder_IsValid(video.field_order())) return "has the unknown field order " + std::to_string(video.field_order());
  return "";
}

std::string PlanFault(const v1::EncodePlan& plan) {
  if (!Contains(kEncoders, plan.encoder())) return "is to be encoded by the unknown encoder " + Shown(plan.encoder());
  if (!(plan.crf() >= 0 && plan.crf() <= kMaxCrf)) return "is to be encoded at CRF " + std::to_string(plan.crf());  // NaN, too
  if (plan.encoder() == "ffv1" ? !plan.preset().empty() : !IsName(plan.preset())) {
    return "is to be encoded by " + plan.encoder() + " with the preset " + Shown(plan.preset());
  }
  if (!IsName(plan.pixel_format())) return "is to be encoded in the pixel format " + Shown(plan.pixel_format());
  if (!IsSide(plan.width()) || !IsSide(plan.height())) return "is to be encoded at " + ShownSize(plan.width(), plan.height());
  if (plan.threads() < 1 || plan.threads() > kMaxEncoderThreads)
    return "is to be encoded by " + std::to_string(plan.threads()) + " threads";
  if (!Contains(kContainers, plan.container())) return "is to be stored in the unknown container " + Shown(plan.container());
  return "";
}

v1::FieldOrder ToMessage(FieldOrder order) {
  switch (order) {
    case FieldOrder::kUnspecified: return v1::FIELD_ORDER_UNSPECIFIED;
    case FieldOrder::kProgressive: return v1::FIELD_ORDER_PROGRESSIVE;
    case FieldOrder::kTopFirst: return v1::FIELD_ORDER_TOP_FIRST;
    case FieldOrder::kBottomFirst: return v1::FIELD_ORDER_BOTTOM_FIRST;
  }
  return v1::FIELD_ORDER_UNSPECIFIED;
}

FieldOrder FromMessage(v1::FieldOrder order) {
  switch (order) {
    case v1::FIELD_ORDER_PROGRESSIVE: return FieldOrder::kProgressive;
    case v1::FIELD_ORDER_TOP_FIRST: return FieldOrder::kTopFirst;
    case v1::FIELD_ORDER_BOTTOM_FIRST: return FieldOrder::kBottomFirst;
    default: return FieldOrder::kUnspecified;  // the others have been refused
  }
}

void ToMessage(const Rational& value, v1::Rational* message) {
  message->set_num(value.num);
  message->set_den(value.den);
}

Rational FromMessage(const v1::Rational& message) { return {message.num(), message.den()}; }

// `add` gets the difference of each to the one before, of the first to 0.
template <typename Values, typename ValueOf, typename Add>
void AddDeltas(const Values& values, const ValueOf& value_of, const Add& add) {
  int64_t before = 0;
  for (const auto& value : values) {
    add(value_of(value) - before);
    before = value_of(value);
  }
}

// Sums up pts_deltas. The first may be anything; empty if one is out of bounds or order, which `fault` says.
template <typename Deltas>
std::vector<int64_t> SumPts(const Deltas& deltas, std::string* fault) {
  std::vector<int64_t> pts;
  pts.reserve(static_cast<size_t>(deltas.size()));
  int64_t sum = 0;
  for (const int64_t delta : deltas) {
    const bool first = pts.empty();
    if (!first && delta <= 0) {
      *fault = "has no increasing time stamp at frame " + std::to_string(pts.size());
      return {};
    }
    if (delta < -kMaxPts || delta > kMaxPts || (sum += delta) < -kMaxPts || sum > kMaxPts) {
      *fault = "has a time stamp out of bounds at frame " + std::to_string(pts.size());
      return {};
    }
    pts.push_back(sum);
  }
  return pts;
}

}  // namespace

void ToMessage(const VideoInfo& info, const EncodePlan& plan, v1::VideoInfo* message) {
  message->set_width(info.size.width);
  message->set_height(info.size.height);
  message->set_stream_index(info.stream_index);
  message->set_codec(info.codec);
  message->set_pixel_format(info.pixel_format);
  ToMessage(info.time_base, message->mutable_time_base());
  ToMessage(info.frame_rate, message->mutable_frame_rate());
  ToMessage(info.sample_aspect, message->mutable_sample_aspect());
  v1::Colour& colour = *message->mutable_colour();
  colour.set_matrix(info.colour.matrix);
  colour.set_primaries(info.colour.primaries);
  colour.set_transfer(info.colour.transfer);
  colour.set_full_range(info.colour.full_range);
  colour.set_chroma_location(info.colour.chroma_location);
  v1::HdrMetadata& hdr = *message->mutable_hdr();
  hdr.clear_primaries();
  for (const int value : info.hdr.primaries) hdr.add_primaries(value);
  hdr.set_max_luminance(info.hdr.max_luminance);
  hdr.set_min_luminance(info.hdr.min_luminance);
  hdr.set_max_content_light(info.hdr.max_content_light);
  hdr.set_max_frame_average_light(info.hdr.max_frame_average_light);
  message->set_field_order(ToMessage(info.field_order));
  message->set_deinterlace(info.deinterlace);
  v1::EncodePlan& encode = *message->mutable_encode();
  encode.set_encoder(plan.encoder);
  encode.set_crf(plan.crf);
  encode.set_preset(plan.preset);
  encode.set_pixel_format(plan.pixel_format);
  encode.set_width(plan.size.width);
  encode.set_height(plan.size.height);
  encode.set_threads(plan.threads);
  encode.set_container(plan.container);
}

void ToMessage(const VideoIndex& index, v1::VideoIndex* message) {
  message->Clear();
  message->mutable_pts_deltas()->Reserve(static_cast<int>(index.pts.size()));
  AddDeltas(
      index.pts, [](int64_t pts) { return pts; }, [&](int64_t delta) { message->add_pts_deltas(delta); });
  AddDeltas(
      index.key_frames, [](const VideoIndex::KeyFrame& key) { return int64_t{key.frame}; },
      [&](int64_t delta) { message->add_key_frames(static_cast<int32_t>(delta)); });
  for (const VideoIndex::KeyFrame& key : index.key_frames) message->add_key_positions(key.position);
}

void ToMessage(const Segment& segment, v1::Segment* message) {
  message->Clear();
  message->mutable_frames()->set_first(segment.first);
  message->mutable_frames()->set_count(static_cast<int>(segment.pts.size()));
  AddDeltas(
      segment.pts, [](int64_t pts) { return pts; }, [&](int64_t delta) { message->add_pts_deltas(delta); });
  for (const Segment::Start& start : segment.starts) {
    v1::StartPoint* const point = message->add_starts();
    point->set_pts(start.pts);
    point->set_position(start.position);
  }
}

Result<VideoMessage> FromMessage(const v1::VideoInfo& message) {
  if (std::string fault = StreamFault(message); !fault.empty()) return InvalidArgumentError(std::move(fault));
  if (std::string fault = PlanFault(message.encode()); !fault.empty()) return InvalidArgumentError(std::move(fault));
  VideoMessage video;
  VideoInfo& info = video.info;
  info.size = {message.width(), message.height()};
  info.stream_index = message.stream_index();
  info.codec = message.codec();
  info.pixel_format = message.pixel_format();
  info.time_base = FromMessage(message.time_base());
  info.frame_rate = FromMessage(message.frame_rate());
  info.sample_aspect = FromMessage(message.sample_aspect());
  const v1::Colour& colour = message.colour();
  info.colour = {colour.matrix(), colour.primaries(), colour.transfer(), colour.full_range(), colour.chroma_location()};
  const v1::HdrMetadata& hdr = message.hdr();
  info.hdr.primaries.assign(hdr.primaries().begin(), hdr.primaries().end());
  info.hdr.max_luminance = hdr.max_luminance();
  info.hdr.min_luminance = hdr.min_luminance();
  info.hdr.max_content_light = hdr.max_content_light();
  info.hdr.max_frame_average_light = hdr.max_frame_average_light();
  info.field_order = FromMessage(message.field_order());
  info.deinterlace = message.deinterlace();
  const v1::EncodePlan& encode = message.encode();
  video.plan.encoder = encode.encoder();
  video.plan.crf = encode.crf();
  video.plan.preset = encode.preset();
  video.plan.pixel_format = encode.pixel_format();
  video.plan.size = {encode.width(), encode.height()};
  video.plan.threads = encode.threads();
  video.plan.container = encode.container();
  return video;
}

Result<VideoIndex> FromMessage(const v1::VideoIndex& message) {
  if (message.pts_deltas().empty()) return InvalidArgumentError("has no frames");
  if (message.pts_deltas_size() > kMaxVideoFrames) {
    return InvalidArgumentError("has " + std::to_string(message.pts_deltas_size()) + " frames; at most " + std::to_string(kMaxVideoFrames) +
                                " can be restored at once");
  }
  if (message.key_frames().empty() || message.key_frames(0) != 0) return InvalidArgumentError("does not begin with a key frame");
  if (message.key_positions_size() != message.key_frames_size()) {
    return InvalidArgumentError("has " + std::to_string(message.key_frames_size()) + " key frames but " +
                                std::to_string(message.key_positions_size()) + " positions of key frames");
  }
  VideoIndex index;
  std::string fault;
  index.pts = SumPts(message.pts_deltas(), &fault);
  if (!fault.empty()) return InvalidArgumentError(std::move(fault));
  // Each is later than the one before, so that there cannot be more of them than frames: checked before memory is taken.
  if (message.key_frames_size() > message.pts_deltas_size()) return InvalidArgumentError("has more key frames than frames");
  index.key_frames.reserve(static_cast<size_t>(message.key_frames_size()));
  int64_t frame = 0;
  for (int i = 0; i < message.key_frames_size(); ++i) {
    const int32_t delta = message.key_frames(i);
    if ((i > 0 && delta <= 0) || (frame += delta) >= message.pts_deltas_size()) {
      return InvalidArgumentError("has key frames out of order or behind its end, at number " + std::to_string(i));
    }
    const int64_t position = message.key_positions(i);
    if (position < -1) return InvalidArgumentError("has a key frame at byte " + std::to_string(position));
    index.key_frames.push_back({static_cast<int>(frame), position});
  }
  return index;
}

Result<Segment> FromMessage(const v1::Segment& message) {
  const v1::FrameRange& frames = message.frames();
  if (frames.count() < 1 || frames.count() > kMaxSegmentFrames || frames.first() < 0 || frames.first() > kMaxVideoFrames - frames.count()) {
    return InvalidArgumentError("has a segment of " + std::to_string(frames.count()) + " frames from number " +
                                std::to_string(frames.first()));
  }
  if (message.pts_deltas_size() != frames.count()) {
    return InvalidArgumentError("has a segment of " + std::to_string(frames.count()) + " frames with " +
                                std::to_string(message.pts_deltas_size()) + " time stamps");
  }
  if (message.starts().empty() || message.starts_size() > kMaxStartPoints) {
    return InvalidArgumentError("has a segment with " + std::to_string(message.starts_size()) + " points to start from");
  }
  Segment segment;
  segment.first = frames.first();
  std::string fault;
  segment.pts = SumPts(message.pts_deltas(), &fault);
  if (!fault.empty()) return InvalidArgumentError(std::move(fault));
  for (const v1::StartPoint& start : message.starts()) {
    const bool earlier = segment.starts.empty() ? start.pts() <= segment.pts.front() : start.pts() < segment.starts.back().pts;
    if (!earlier || start.pts() < -kMaxPts || start.position() < -1) {
      return InvalidArgumentError("has a segment that starts at " + std::to_string(start.pts()) + " or byte " +
                                  std::to_string(start.position()) + ", out of order or bounds");
    }
    segment.starts.push_back({start.pts(), start.position()});
  }
  return segment;
}

}  // namespace nsic
