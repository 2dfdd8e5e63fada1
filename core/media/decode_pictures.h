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

  // From the packet on at which `file` stands. `threads` 0: all cores.
  static Result<std::unique_ptr<PictureStream>> Make(VideoFile& file, int threads, bool tolerate, Accept accept);

  // The next picture in the order of presentation, its pts the key of its packet (VideoFile::Key) or AV_NOPTS_VALUE; null after the last.
  // Without `tolerate` a container that cannot be read on is DATA_LOSS, with it the end, after some attempts. What the decoder refuses is
  // only counted.
  Result<AvOwner<AVFrame>> Next(const CancelToken& cancel);
  // No more packets: Next() gives what the decoder still holds, then null.
  Status Drain();
  int refused() const { return refused_; }  // packets

 private:
  PictureStream(VideoFile& file, PacketInspector inspector, bool tolerate, Accept accept)
      : file_(file), inspector_(std::move(inspector)), tolerate_(tolerate), accept_(std::move(accept)) {}
  Status Feed();

  VideoFile& file_;
  PacketInspector inspector_;
  const bool tolerate_;
  const Accept accept_;
  AvOwner<AVCodecContext> decoder_;
  AvOwner<AVPacket> packet_;
  std::set<int64_t> discarded_;  // keys: some decoders present what an edit list leaves out
  int refused_ = 0;
  bool begun_ = false;  // a picture came out that did not lack its references
  bool drained_ = false;
};

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_DECODE_PICTURES_H_
