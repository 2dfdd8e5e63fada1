#include "core/media/decode_pictures.h"

#include <utility>

namespace nsic {
namespace {

// A damaged container may yield again after some packets that it cannot read; one that only yields errors is at its end.
constexpr int kUnreadable = 64;

}  // namespace

Result<std::unique_ptr<PictureStream>> PictureStream::Make(VideoFile& file, int threads, bool tolerate, Accept accept) {
  NSIC_ASSIGN_OR_RETURN(PacketInspector inspector, PacketInspector::Make(*file.parameters()));
  std::unique_ptr<PictureStream> stream(new PictureStream(file, std::move(inspector), tolerate, std::move(accept)));
  // In decode order a lost picture shifts all that follow, so it must be known before the next one comes.
  NSIC_ASSIGN_OR_RETURN(stream->decoder_, OpenDecoder(file, threads, file.decode_order()));
  NSIC_ASSIGN_OR_RETURN(stream->packet_, NewPacket());
  return stream;
}

Status PictureStream::Drain() {
  if (drained_) return OkStatus();
  drained_ = true;
  const int sent = avcodec_send_packet(decoder_.get(), nullptr);
  return sent < 0 && sent != AVERROR_EOF ? AvError(sent, "cannot decode " + file_.display()) : OkStatus();
}

Status PictureStream::Feed() {
  for (int unreadable = 0;;) {
    Result<bool> more = file_.Read(packet_.get());
    if (!more.ok()) {
      if (!tolerate_ || more.status().code() != StatusCode::kDataLoss) return more.status();
      if (++unreadable < kUnreadable) continue;
    }
    if (!more.ok() || !*more) return Drain();
    unreadable = 0;
    const Result<bool> accepted = accept_(*packet_, inspector_.Inspect(*packet_));
    if (!accepted.ok()) {
      av_packet_unref(packet_.get());
      return accepted.status();
    }
    if (!*accepted) {
      av_packet_unref(packet_.get());
      continue;
    }
    packet_->pts = file_.Key(*packet_);
    if ((packet_->flags & AV_PKT_FLAG_DISCARD) != 0 && packet_->pts != AV_NOPTS_VALUE) discarded_.insert(packet_->pts);
    const int sent = avcodec_send_packet(decoder_.get(), packet_.get());
    av_packet_unref(packet_.get());
    if (sent == AVERROR(ENOMEM)) return AvError(sent, "cannot decode " + file_.display());
    if (sent < 0) ++refused_;
    return OkStatus();
  }
}

Result<AvOwner<AVFrame>> PictureStream::Next(const CancelToken& cancel) {
  NSIC_ASSIGN_OR_RETURN(AvOwner<AVFrame> frame, NewFrame());
  int refused_at_end = 0;
  while (true) {
    const int got = avcodec_receive_frame(decoder_.get(), frame.get());
    if (got == 0) {
      if (!begun_ && (frame->flags & AV_FRAME_FLAG_CORRUPT) != 0) continue;
      begun_ = true;
      if (frame->pts != AV_NOPTS_VALUE && discarded_.erase(frame->pts) > 0) {
        continue;
      }
      return frame;
    }
    if (got == AVERROR_EOF) return AvOwner<AVFrame>();
    if (got == AVERROR(EAGAIN)) {
      NSIC_RETURN_IF_ERROR(cancel.Check());
      NSIC_RETURN_IF_ERROR(Feed());
      continue;
    }
    if (got == AVERROR(ENOMEM)) return AvError(got, "cannot decode " + file_.display());
    ++refused_;
    // Each error takes a packet away, save in a decoder that never ends.
    if (drained_ && ++refused_at_end > kUnreadable) return AvOwner<AVFrame>();
  }
}

}  // namespace nsic
