#include "core/media/inspect_packet.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace nsic {
namespace {

using Frames = PacketFacts::Frames;

struct Bytes {
  const uint8_t* data = nullptr;
  size_t size = 0;
  Bytes From(size_t at) const { return at < size ? Bytes{data + at, size - at} : Bytes{data + size, 0}; }
};

// Where the next 00 00 01 begins, at or after `at`; bytes.size: nowhere.
size_t FindStartCode(Bytes bytes, size_t at) {
  while (at + 3 <= bytes.size) {
    const auto* const one = static_cast<const uint8_t*>(std::memchr(bytes.data + at + 2, 1, bytes.size - at - 2));
    if (one == nullptr) return bytes.size;
    const auto found = static_cast<size_t>(one - bytes.data);
    if (one[-1] == 0 && one[-2] == 0) return found - 2;
    at = found - 1;
  }
  return bytes.size;
}

// Calls `visit(nal)` for each NAL unit until it returns false.
template <typename Visit>
void ForEachNal(Bytes bytes, int nal_length, const Visit& visit) {
  if (nal_length > 0) {
    const auto prefix = static_cast<size_t>(nal_length);
    for (size_t at = 0; at + prefix < bytes.size;) {
      size_t size = 0;
      for (size_t i = 0; i < prefix; ++i) size = size << 8 | bytes.data[at + i];
      at += prefix;
      size = std::min(size, bytes.size - at);
      if (size > 0 && !visit(Bytes{bytes.data + at, size})) return;
      at += size;
    }
    return;
  }
  size_t at = FindStartCode(bytes, 0);
  while (at < bytes.size) {
    const size_t next = FindStartCode(bytes, at + 3);
    if (next > at + 3 && !visit(Bytes{bytes.data + at + 3, next - at - 3})) return;
    at = next;
  }
}

// Reads bits of a NAL unit, over its emulation prevention bytes. Zeros after the end.
class BitReader {
 public:
  explicit BitReader(Bytes bytes) : bytes_(bytes) {}
  int Bit() {
    if (left_ == 0) {
      if (at_ + 2 < bytes_.size && at_ >= 2 && bytes_.data[at_] == 3 && bytes_.data[at_ - 1] == 0 && bytes_.data[at_ - 2] == 0) ++at_;
      current_ = at_ < bytes_.size ? bytes_.data[at_] : 0;
      ++at_;
      left_ = 8;
    }
    return current_ >> --left_ & 1;
  }
  uint32_t Bits(int count) {
    uint32_t value = 0;
    for (int i = 0; i < count; ++i) value = value << 1 | static_cast<uint32_t>(Bit());
    return value;
  }
  uint32_t ExpGolomb() {
    int zeros = 0;
    while (zeros < 31 && !AtEnd() && Bit() == 0) ++zeros;
    return (1u << zeros) - 1 + Bits(zeros);
  }
  bool AtEnd() const { return at_ > bytes_.size; }

 private:
  const Bytes bytes_;
  size_t at_ = 0;
  int current_ = 0;
  int left_ = 0;
};

// H.264's recovery point SEI with recovery_frame_cnt 0: this very picture is exact when decoding starts with it. A count above 0 announces
// a gradual refresh, which containers flag as a key frame too, though frames come out broken for a while.
bool HasExactRecoveryPoint(Bytes nal) {
  BitReader reader(nal.From(1));
  while (!reader.AtEnd()) {
    const auto varied = [&reader] {
      uint32_t value = 0;
      uint32_t byte = 255;
      while (byte == 255 && !reader.AtEnd()) value += byte = reader.Bits(8);
      return value;
    };
    const uint32_t type = varied();
    const uint32_t size = varied();
    if (reader.AtEnd() || size > nal.size) return false;
    if (type == 6) return reader.ExpGolomb() == 0;
    for (uint32_t i = 0; i < size; ++i) reader.Bits(8);
  }
  return false;
}

PacketFacts InspectMpeg12(Bytes bytes, bool header_elsewhere) {
  PacketFacts facts;
  bool header = header_elsewhere;
  int pictures = 0;
  int fields = 0;
  int type = 0;
  for (size_t at = FindStartCode(bytes, 0); at + 4 < bytes.size; at = FindStartCode(bytes, at + 3)) {
    const Bytes unit = bytes.From(at + 3);
    const uint8_t code = unit.data[0];
    if (code == 0xB3 && unit.size >= 4) {
      header = true;
      facts.size = {unit.data[1] << 4 | unit.data[2] >> 4, (unit.data[2] & 15) << 8 | unit.data[3]};
    } else if (code == 0 && unit.size >= 3) {
      if (pictures++ == 0) type = unit.data[2] >> 3 & 7;
    } else if (code == 0xB5 && unit.size >= 4 && unit.data[1] >> 4 == 8) {
      if ((unit.data[3] & 3) != 3) ++fields;
    } else if (code >= 1 && code <= 0xAF && fields == 0) {
      break;  // slices of a whole picture: nothing else comes
    }
  }
  // Both fields of a frame that was coded as fields lie in one packet.
  const bool one = fields == 0 ? pictures == 1 : pictures == 2 && fields == 2;
  facts.frames = one ? Frames::kOne : Frames::kUnknown;
  facts.key = type == 1 && header;
  facts.reference = type != 3;
  return facts;
}

PacketFacts InspectMpeg4(Bytes bytes) {
  PacketFacts facts;
  int pictures = 0;
  for (size_t at = FindStartCode(bytes, 0); at + 4 < bytes.size; at = FindStartCode(bytes, at + 3)) {
    if (bytes.data[at + 3] != 0xB6) continue;
    const int type = bytes.data[at + 4] >> 6;
    facts.key = type == 0;
    facts.reference = type != 2;
    ++pictures;
    // A VOP of a few bytes may be one that is not coded, for which decoders present nothing.
    facts.frames = pictures == 1 && bytes.size - at > 12 ? Frames::kOne : Frames::kUnknown;
  }
  return facts;
}

// Shown frames of a VP9 packet, which may be a superframe with hidden ones.
PacketFacts InspectVp9(Bytes bytes, bool key) {
  std::vector<Bytes> parts{bytes};
  const uint8_t marker = bytes.data[bytes.size - 1];
  if ((marker & 0xE0) == 0xC0) {
    const size_t count = (marker & 7) + size_t{1};
    const size_t width = (marker >> 3 & 3) + size_t{1};
    const size_t index = 2 + count * width;
    if (bytes.size >= index && bytes.data[bytes.size - index] == marker) {
      parts.clear();
      const uint8_t* sizes = bytes.data + bytes.size - index + 1;
      size_t at = 0;
      for (size_t i = 0; i < count; ++i) {
        size_t size = 0;
        for (size_t b = 0; b < width; ++b) size |= static_cast<size_t>(*sizes++) << (8 * b);
        if (size > bytes.size - index - at) return {};
        if (size > 0) parts.push_back({bytes.data + at, size});
        at += size;
      }
    }
  }
  int shown = 0;
  for (const Bytes part : parts) {
    BitReader reader(part);
    if (reader.Bits(2) != 2) return {};
    const uint32_t profile = reader.Bits(1) | reader.Bits(1) << 1;
    if (profile == 3) reader.Bit();
    if (reader.Bit() == 1) {  // shows a frame that was decoded before
      ++shown;
      continue;
    }
    reader.Bit();  // key or not
    shown += reader.Bit();
  }
  PacketFacts facts;
  facts.frames = shown == 0 ? Frames::kNone : shown == 1 ? Frames::kOne : Frames::kUnknown;
  facts.key = key;
  return facts;
}

}  // namespace

Result<PacketInspector> PacketInspector::Make(const AVCodecParameters& parameters) {
  PacketInspector inspector(parameters);
  const AVCodecID codec = parameters.codec_id;
  const uint8_t* const extra = parameters.extradata;
  if (codec == AV_CODEC_ID_H264 && parameters.extradata_size >= 7 && extra[0] == 1) inspector.nal_length_ = (extra[4] & 3) + 1;
  if (codec == AV_CODEC_ID_HEVC && parameters.extradata_size >= 23 && (extra[0] != 0 || extra[1] != 0 || extra[2] > 1)) {
    inspector.nal_length_ = (extra[21] & 3) + 1;
  }
  if (codec == AV_CODEC_ID_H264 || codec == AV_CODEC_ID_HEVC || codec == AV_CODEC_ID_AV1) {
    inspector.parser_.reset(av_parser_init(codec));
    inspector.context_.reset(avcodec_alloc_context3(nullptr));
    if (inspector.parser_ == nullptr || inspector.context_ == nullptr) return ResourceExhaustedError("no memory for a parser");
    const int copied = avcodec_parameters_to_context(inspector.context_.get(), &parameters);
    if (copied < 0) return AvError(copied, "cannot take a stream's parameters");
    inspector.parser_->flags |= PARSER_FLAG_COMPLETE_FRAMES;
  }
  return inspector;
}

void PacketInspector::Parse(const AVPacket& packet, PacketFacts* facts) {
  uint8_t* out = nullptr;
  int out_size = 0;
  av_parser_parse2(parser_.get(), context_.get(), &out, &out_size, packet.data, packet.size, packet.pts, packet.dts, packet.pos);
  if (parser_->width > 0 && parser_->height > 0) facts->size = {parser_->width, parser_->height};
  facts->pixel_format = parser_->format;
}

PacketFacts PacketInspector::InspectH264(const AVPacket& packet) {
  PacketFacts facts;
  bool recovery = false;
  bool slice = false;
  ForEachNal({packet.data, static_cast<size_t>(packet.size)}, nal_length_, [&](Bytes nal) {
    const int type = nal.data[0] & 31;
    if (type == 6) recovery = recovery || HasExactRecoveryPoint(nal);
    if (type < 1 || type > 5) return true;
    slice = true;
    BitReader reader({nal.data + 1, std::min<size_t>(nal.size - 1, 16)});
    reader.ExpGolomb();  // first macroblock
    const bool intra = reader.ExpGolomb() % 5 == 2;
    facts.key = type == 5 || (recovery && intra);
    facts.reference = (nal.data[0] >> 5 & 3) != 0;
    return false;
  });
  Parse(packet, &facts);
  // Fields that are pictures of their own may come two in a packet or one.
  facts.frames = slice && parser_->picture_structure == AV_PICTURE_STRUCTURE_FRAME ? Frames::kOne : Frames::kUnknown;
  return facts;
}

PacketFacts PacketInspector::InspectHevc(const AVPacket& packet) {
  PacketFacts facts;
  ForEachNal({packet.data, static_cast<size_t>(packet.size)}, nal_length_, [&](Bytes nal) {
    if (nal.size < 2 || ((nal.data[0] & 1) << 5 | nal.data[1] >> 3) != 0) return true;  // of another layer
    const int type = nal.data[0] >> 1 & 63;
    if (type == 36 || type == 37) sequence_ended_ = true;
    if (type > 31 || facts.frames == Frames::kOne) return true;
    facts.key = type >= 16 && type <= 21;
    // After a splice (BLA, or CRA after an end of sequence) the leading pictures refer to what is gone and are not presented.
    const bool splice = type == 16 || type == 17 || (type == 21 && sequence_ended_);
    if (!splice) facts.frames = Frames::kOne;
    sequence_ended_ = false;
    return true;
  });
  Parse(packet, &facts);
  return facts;
}

PacketFacts PacketInspector::Inspect(const AVPacket& packet) {
  const Bytes bytes{packet.data, static_cast<size_t>(std::max(packet.size, 0))};
  PacketFacts facts;
  if (bytes.size == 0) return facts;
  const bool key = (packet.flags & AV_PKT_FLAG_KEY) != 0;
  switch (parameters_->codec_id) {
    case AV_CODEC_ID_H264: facts = InspectH264(packet); break;
    case AV_CODEC_ID_HEVC: facts = InspectHevc(packet); break;
    case AV_CODEC_ID_MPEG1VIDEO:
    case AV_CODEC_ID_MPEG2VIDEO: facts = InspectMpeg12(bytes, parameters_->extradata_size > 0); break;
    case AV_CODEC_ID_MPEG4: facts = InspectMpeg4(bytes); break;
    case AV_CODEC_ID_VP8:
      // The alternate reference frame is a packet that is not shown.
      facts.frames = (bytes.data[0] & 0x10) != 0 ? Frames::kOne : Frames::kNone;
      facts.key = (bytes.data[0] & 1) == 0;
      break;
    case AV_CODEC_ID_VP9: facts = InspectVp9(bytes, key); break;
    case AV_CODEC_ID_AV1:
      // A packet is a temporal unit, and each shows one frame.
      facts.frames = Frames::kOne;
      facts.key = key;
      Parse(packet, &facts);
      break;
    case AV_CODEC_ID_FFV1:
      facts.frames = Frames::kOne;
      facts.key = key;
      break;
    default: {
      const AVCodecDescriptor* const descriptor = avcodec_descriptor_get(parameters_->codec_id);
      const bool intra = descriptor != nullptr && (descriptor->props & AV_CODEC_PROP_INTRA_ONLY) != 0;
      facts.frames = intra ? Frames::kOne : Frames::kUnknown;
      facts.key = intra || key;
      facts.reference = !intra;
    }
  }
  if ((packet.flags & AV_PKT_FLAG_DISCARD) != 0) facts.frames = Frames::kNone;
  return facts;
}

}  // namespace nsic
