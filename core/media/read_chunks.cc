#include "core/media/read_chunks.h"

extern "C" {
#include <libavutil/pixdesc.h>
}

#include <optional>
#include <string>
#include <utility>

#include "core/media/open_video.h"

namespace nsic {
namespace {

class ChunkReader : public VideoReader {
 public:
  ChunkReader(std::vector<ChunkFile> chunks, const EncodePlan& plan, int threads)
      : chunks_(std::move(chunks)), plan_(plan), threads_(threads) {}

  Status Seek(const Segment&, const CancelToken&) override { return FailedPreconditionError("chunks are read from their start on"); }

  Result<std::optional<VideoFrame>> Next(const CancelToken& cancel) override {
    while (true) {
      NSIC_RETURN_IF_ERROR(cancel.Check());
      if (decoder_ == nullptr) {
        if (at_ == chunks_.size()) return std::optional<VideoFrame>();
        NSIC_RETURN_IF_ERROR(Open());
      }
      NSIC_ASSIGN_OR_RETURN(AvOwner<AVFrame> frame, Decode());
      if (frame == nullptr) {
        if (read_ != chunks_[at_].frames) return Damaged("holds " + std::to_string(read_) + " frames in place of " + Wanted());
        Close();
        ++at_;
        continue;
      }
      if (++read_ > chunks_[at_].frames) return Damaged("holds more than " + Wanted() + " frames");
      if (!IsWhole(*frame) || reports_ > 0) return Damaged("is damaged");
      if (Size{frame->width, frame->height} != plan_.size || frame->format != av_get_pix_fmt(plan_.pixel_format.c_str())) {
        return Damaged("does not hold frames of the plan's size and pixel format");
      }
      return std::optional<VideoFrame>(VideoFrame(std::shared_ptr<const AVFrame>(frame.release(), FreeAv())));
    }
  }

  const std::vector<int>& concealed() const override { return concealed_; }

 private:
  Status Open() {
    NSIC_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> source, chunks_[at_].open());
    NSIC_ASSIGN_OR_RETURN(file_, VideoFile::Open(std::move(source)));
    NSIC_RETURN_IF_ERROR(file_->Select(0));
    NSIC_ASSIGN_OR_RETURN(decoder_, OpenDecoder(*file_, threads_, /*one_in_one_out=*/false, &reports_));
    NSIC_ASSIGN_OR_RETURN(packet_, NewPacket());
    read_ = 0;
    drained_ = false;
    return OkStatus();
  }

  void Close() {
    decoder_.reset();
    file_.reset();
  }

  // Null at the end of the file.
  Result<AvOwner<AVFrame>> Decode() {
    NSIC_ASSIGN_OR_RETURN(AvOwner<AVFrame> frame, NewFrame());
    while (true) {
      int error = avcodec_receive_frame(decoder_.get(), frame.get());
      if (error == 0) return frame;
      if (error == AVERROR_EOF) return AvOwner<AVFrame>();
      if (error != AVERROR(EAGAIN) || drained_) return AvError(error, "cannot decode " + file_->display());
      NSIC_ASSIGN_OR_RETURN(const bool more, file_->Read(packet_.get()));
      drained_ = !more;
      error = avcodec_send_packet(decoder_.get(), more ? packet_.get() : nullptr);
      if (more) av_packet_unref(packet_.get());
      if (error < 0) return AvError(error, "cannot decode " + file_->display());
    }
  }

  Status Damaged(const std::string& what) const { return DataLossError("the chunk " + file_->display() + " " + what); }
  std::string Wanted() const { return std::to_string(chunks_[at_].frames); }

  const std::vector<ChunkFile> chunks_;
  const EncodePlan plan_;
  const int threads_;
  size_t at_ = 0;
  std::unique_ptr<VideoFile> file_;
  DamageReports reports_{0};
  AvOwner<AVCodecContext> decoder_;  // null: between chunks
  AvOwner<AVPacket> packet_;
  int read_ = 0;  // frames of this chunk
  bool drained_ = false;
  const std::vector<int> concealed_;
};

}  // namespace

std::unique_ptr<VideoReader> ReadChunks(std::vector<ChunkFile> chunks, const EncodePlan& plan, int threads) {
  return std::make_unique<ChunkReader>(std::move(chunks), plan, threads);
}

}  // namespace nsic
