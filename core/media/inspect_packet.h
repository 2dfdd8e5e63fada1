// What a video packet holds, seen without decoding it. For the .cc files of this folder alone.
#ifndef NSIC_CORE_MEDIA_INSPECT_PACKET_H_
#define NSIC_CORE_MEDIA_INSPECT_PACKET_H_

#include <string>

#include "core/base/geometry.h"
#include "core/media/open_video.h"

namespace nsic {

struct PacketFacts {
  enum class Frames { kNone, kOne, kUnknown };  // that a decoder presents for it
  Frames frames = Frames::kUnknown;
  bool key = false;       // decoding can start with it, and shows its frame and all that are presented after it whole
  bool reference = true;  // later frames may be made from it
  Size size;              // of its frames, where it says so; else 0x0
  int pixel_format = -1;  // an AVPixelFormat, where it says so
};

// Packets of one stream, in the order of decoding.
class PacketInspector {
 public:
  // `parameters` (VideoFile::parameters()) outlive it.
  static Result<PacketInspector> Make(const AVCodecParameters& parameters);
  PacketFacts Inspect(const AVPacket& packet);

 private:
  explicit PacketInspector(const AVCodecParameters& parameters) : parameters_(&parameters) {}
  PacketFacts InspectH264(const AVPacket& packet);
  PacketFacts InspectHevc(const AVPacket& packet);
  void Parse(const AVPacket& packet, PacketFacts* facts);

  const AVCodecParameters* parameters_;
  AvOwner<AVCodecContext> context_;  // for the parser; never opened
  AvOwner<AVCodecParserContext> parser_;
  int nal_length_ = 0;           // bytes before each NAL unit that tell its length; 0: start codes part them
  bool sequence_ended_ = false;  // HEVC: an end of sequence came; a CRA picture that follows drops its leading pictures
};

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_INSPECT_PACKET_H_
