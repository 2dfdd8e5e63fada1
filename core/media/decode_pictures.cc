#include "core/media/decode_pictures.h"

#include <utility>

namespace nsic {
namespace {

// A damaged container may yield again after some packets that it cannot read; one that only yields errors is at its end.
constexpr int kUnreadable = 64;

}  // namespace

Result<std::unique_ptr<PictureStream>> PictureStream::Make(VideoFile& file, int threads, bool tolerate, bool exact, Accept accept) {
  NSIC_ASSIGN_OR_RETURN(PacketInspector inspector, PacketInspector::Make(*file.parameters()));
  std::unique_ptr<PictureStream> stream(new PictureStream(file, std::move(inspector), tolerate, exact, std::move(accept)));
  // In decode order a lost picture shifts all that follow, so it must be known before the next one comes.
  NSIC_ASSIGN_OR_RETURN(stream->decoder_, OpenDecoder(file, threads, exact || file.decode_order(), &stream->reports_));
  NSIC_ASSIGN_OR_RETURN(stream->packet_, NewPacket());
  return stream;
}

Status PictureStream::Drain() {
  if (drained_) return OkStatus();
  drained_ = true;
  const int sent = avcodec_send_packet(decoder_.get(), nullptr);
  if (sent == AVERROR(ENOMEM)) return AvError(sent, "cannot decode " + file_.display());
  if (sent < 0) ++refused_;  // of what it still held
  return OkStatus();
}

// What was reported since the last packet went in is about that packet.
void PictureStream::Attribute() {
  if (!exact_ || reports_ + refused_ == attributed_) return;
  attributed_ = reports_ + refused_;
  if (fed_ == AV_NOPTS_VALUE || (!file_.decode_order() && fed_ < first_)) return;
  damaged_.insert(fed_);
  broken_ = broken_ || fed_reference_;
}

// Before a packet goes in: whether its frame refers to damaged ones.
void PictureStream::Taint(const PacketFacts& facts) {
  if (!exact_) return;
  if (facts.key) {
    broken_leading_ = broken_;
    broken_ = false;
    last_key_ = fed_;
    return;
  }
  const bool leading = file_.decode_order() ? !facts.reference : fed_ < last_key_;
  if (file_.decode_order() && facts.reference) broken_leading_ = false;
  if (broken_ || (broken_leading_ && leading)) damaged_.insert(fed_);
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
    const PacketFacts facts = inspector_.Inspect(*packet_);
    const Result<bool> accepted = accept_(*packet_, facts);
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
    fed_ = packet_->pts;
    fed_reference_ = facts.reference;
    if (first_ == AV_NOPTS_VALUE) first_ = fed_;
    Taint(facts);
    const int sent = avcodec_send_packet(decoder_.get(), packet_.get());
    av_packet_unref(packet_.get());
    if (sent == AVERROR(ENOMEM)) return AvError(sent, "cannot decode " + file_.display());
    if (sent < 0) ++refused_;
    Attribute();
    return OkStatus();
  }
}

Result<AvOwner<AVFrame>> PictureStream::Next(const CancelToken& cancel) {
  NSIC_ASSIGN_OR_RETURN(AvOwner<AVFrame> frame, NewFrame());
  int refused_at_end = 0;
  while (true) {
    const int got = avcodec_receive_frame(decoder_.get(), frame.get());
    if (got < 0 && got != AVERROR(EAGAIN) && got != AVERROR_EOF && got != AVERROR(ENOMEM)) ++refused_;
    Attribute();
    if (got == 0) {
      if (!begun_ && (frame->flags & AV_FRAME_FLAG_CORRUPT) != 0) continue;
      begun_ = true;
      if (damaged_.erase(frame->pts) > 0) frame->decode_error_flags |= FF_DECODE_ERROR_CONCEALMENT_ACTIVE;
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
    // Each error takes a packet away, save in a decoder that never ends.
    if (drained_ && ++refused_at_end > kUnreadable) return AvOwner<AVFrame>();
  }
}

}  // namespace nsic
