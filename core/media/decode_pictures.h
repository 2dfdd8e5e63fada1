// The pictures that a decoder presents, each under the key of its packet. For the .cc files of this folder alone.
#ifndef NSIC_CORE_MEDIA_DECODE_PICTURES_H_
#define NSIC_CORE_MEDIA_DECODE_PICTURES_H_

#include <functional>
#include <memory>
#include <set>

#include "core/base/cancel.h"
#include "core/base/status.h"
#include "core/media/inspect_packet.h"
#include "core/media/open_video.h"

namespace nsic {

// One thread at a time; `file` outlives it, and nobody else reads from it meanwhile.
class PictureStream {
 public:
  // Sees each packet before it is decoded; false leaves it out, an error ends everything.
  using Accept = std::function<Result<bool>(const AVPacket& packet, const PacketFacts& facts)>;

  // From the packet on at which `file` stands. `threads` 0: all cores. `exact`: frames are decoded one after the other, and each that is
  // damaged says so (IsWhole); else only damaged() tells, of all that were decoded so far.
  static Result<std::unique_ptr<PictureStream>> Make(VideoFile& file, int threads, bool tolerate, bool exact, Accept accept);

  // The next picture in the order of presentation, its pts the key of its packet (VideoFile::Key) or AV_NOPTS_VALUE; null after the last.
  // Without `tolerate` a container that cannot be read on is DATA_LOSS, with it the end, after some attempts. What the decoder refuses is
  // only counted.
  Result<AvOwner<AVFrame>> Next(const CancelToken& cancel);
  // No more packets: Next() gives what the decoder still holds, then null.
  Status Drain();
  int refused() const { return refused_; }  // packets
  bool damaged() const { return reports_ > 0 || refused_ > 0; }

 private:
  PictureStream(VideoFile& file, PacketInspector inspector, bool tolerate, bool exact, Accept accept)
      : file_(file), inspector_(std::move(inspector)), tolerate_(tolerate), exact_(exact), accept_(std::move(accept)) {}
  Status Feed();
  void Attribute();
  void Taint(const PacketFacts& facts);

  VideoFile& file_;
  PacketInspector inspector_;
  const bool tolerate_;
  const bool exact_;
  const Accept accept_;
  DamageReports reports_{0};
  AvOwner<AVCodecContext> decoder_;
  AvOwner<AVPacket> packet_;
  std::set<int64_t> discarded_;  // keys: some decoders present what an edit list leaves out
  // When exact: what is made from a damaged frame is damaged too, though no decoder says so, up to a key frame in the order of decoding,
  // and the leading pictures after that.
  std::set<int64_t> damaged_;          // keys of packets whose frames are to come
  bool broken_ = false;                // a frame that the next ones may refer to is damaged
  bool broken_leading_ = false;        // that was so before the last key frame
  int64_t last_key_ = AV_NOPTS_VALUE;  // key of the last packet with a key frame
  int64_t first_ = AV_NOPTS_VALUE;     // of the first packet: what is presented before it has no references, and is not asked for
  int64_t fed_ = AV_NOPTS_VALUE;       // of the last packet that the decoder got
  bool fed_reference_ = false;
  int attributed_ = 0;  // of reports_ and refused_
  int refused_ = 0;
  bool begun_ = false;  // a picture came out that did not lack its references
  bool drained_ = false;
};

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_DECODE_PICTURES_H_
