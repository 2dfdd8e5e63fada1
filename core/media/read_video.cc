#include "core/media/read_video.h"

extern "C" {
#include <libavutil/pixdesc.h>
}

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "core/media/decode_pictures.h"
#include "core/media/deinterlace.h"
#include "core/media/inspect_packet.h"
#include "core/media/open_video.h"

namespace nsic {
namespace {

using Frames = PacketFacts::Frames;

// A place in the order of presentation: a frame, or null where one should be and is not.
struct Picture {
  int64_t pts = 0;
  AvOwner<AVFrame> frame;
  bool whole = false;
};

// Everything that a decoder presents from a start on, with what is missing or damaged marked.
class PictureRun {
 public:
  enum class Way { kTime, kByte, kBeginning };

  // Goes to `start` in one way. NOT_FOUND when its packet does not turn up. `exact` as in PictureStream.
  static Result<std::unique_ptr<PictureRun>> Make(VideoFile& file, const Segment::Start& start, Way way, bool exact,
                                                  const ReadVideoOptions& options) {
    std::unique_ptr<PictureRun> run(new PictureRun(file, start, way, options));
    switch (way) {
      case Way::kTime:
        if (!file.SeekTime(start.pts)) return run->NotFound();
        break;
      case Way::kByte:
        if (!file.SeekByte(start.position)) return run->NotFound();
        break;
      case Way::kBeginning: NSIC_RETURN_IF_ERROR(file.Rewind()); break;
    }
    PictureRun* const self = run.get();
    NSIC_ASSIGN_OR_RETURN(run->pictures_, PictureStream::Make(file, options.threads, options.tolerate, exact,
                                                              [self](const AVPacket& packet, const PacketFacts& facts) {
                                                                return self->Take(packet, facts);
                                                              }));
    return run;
  }

  // Strictly increasing pts, all at least the start's; nothing after the last.
  Result<std::optional<Picture>> Next(const CancelToken& cancel) {
    while (ready_.empty() && !ended_) NSIC_RETURN_IF_ERROR(Advance(cancel));
    if (ready_.empty()) return std::optional<Picture>();
    Picture picture = std::move(ready_.front());
    ready_.pop_front();
    return std::optional<Picture>(std::move(picture));
  }

  // Some frame so far is damaged, and unless the run is exact, which one is not known.
  bool damaged() const { return pictures_->damaged(); }

  // In decode order, where a lost frame shifts those after it: whether every packet so far gave its frame. Ends the run.
  Result<bool> Complete(const CancelToken& cancel) {
    if (!file_.decode_order()) return true;
    if (ended_) return true;  // what was missing has been told
    draining_ = true;
    NSIC_RETURN_IF_ERROR(pictures_->Drain());
    while (!ended_) NSIC_RETURN_IF_ERROR(Advance(cancel));
    return due_.empty();
  }

 private:
  struct Sent {
    bool key;
    bool reference;
    bool corrupt;
  };

  PictureRun(VideoFile& file, const Segment::Start& start, Way way, const ReadVideoOptions& options)
      : file_(file), start_(start), options_(options), started_(way == Way::kBeginning) {}

  Status NotFound() const {
    return NotFoundError(file_.display() + ": no packet starts at " + TimeText(start_.pts, file_.time_base()) +
                         "; the file has changed since it was indexed, or is damaged there");
  }

  Result<bool> Take(const AVPacket& packet, const PacketFacts& facts) {
    const int64_t key = file_.Key(packet);
    if (!started_) {
      // In decode order a frame's pts is another packet's dts; there the position names the packet.
      const bool found = file_.decode_order() ? packet.pos == start_.position && start_.position >= 0 : key == start_.pts;
      if (found && facts.key) {
        started_ = true;
        start_key_ = key;
      } else if (packet.dts != AV_NOPTS_VALUE && packet.dts > start_.pts) {
        return NotFound();
      } else {
        return false;
      }
    }
    if (facts.frames == Frames::kNone || key == AV_NOPTS_VALUE) return true;
    if (file_.decode_order()) {
      due_.push_back(key);
    } else if (key >= start_.pts && facts.frames == Frames::kOne) {
      sent_[key] = {facts.key, facts.reference, (packet.flags & AV_PKT_FLAG_CORRUPT) != 0};
    }
    if (facts.key && facts.frames == Frames::kUnknown) unsure_keys_.push_back(key);
    return true;
  }

  void Lose(int64_t pts, bool reference) {
    damaged_ = damaged_ || reference;
    ready_.push_back({pts, nullptr, false});
  }

  Status Advance(const CancelToken& cancel) {
    auto next = pictures_->Next(cancel);
    if (!next.ok()) return next.status();
    AvOwner<AVFrame> frame = *std::move(next);
    const bool refused = pictures_->refused() > refused_;
    refused_ = pictures_->refused();
    if (frame == nullptr) {
      ended_ = true;
      if (!started_) return NotFound();
      for (const auto& [key, sent] : sent_) Lose(key, sent.reference);
      sent_.clear();
      if (!draining_) {
        for (const int64_t pts : due_) Lose(pts, true);
        due_.clear();
      }
      return OkStatus();
    }
    return file_.decode_order() ? TakeInDecodeOrder(std::move(frame), refused) : TakeByTime(std::move(frame), refused);
  }

  Status TakeByTime(AvOwner<AVFrame> frame, bool refused) {
    const int64_t pts = frame->pts;
    if (pts == AV_NOPTS_VALUE) {
      if (!options_.tolerate) return InvalidArgumentError(file_.display() + ": a frame after " + Last() + " has no time stamp");
      return OkStatus();
    }
    if (pts < start_.pts) return OkStatus();  // a leading picture, which belongs to an earlier start
    if (pts <= last_) {
      if (!options_.tolerate) return InvalidArgumentError(file_.display() + ": time stamps go back after " + Last());
      return OkStatus();
    }
    // Frames come out in order, so those of packets with smaller pts never will.
    while (!sent_.empty() && sent_.begin()->first < pts) {
      Lose(sent_.begin()->first, sent_.begin()->second.reference);
      sent_.erase(sent_.begin());
    }
    const auto found = sent_.find(pts);
    bool whole = IsWhole(*frame);
    bool key = false;
    bool reference = true;
    if (found != sent_.end()) {
      whole = whole && !found->second.corrupt;
      key = found->second.key;
      reference = found->second.reference;
      sent_.erase(found);
    } else {
      // Packets are no frames here (fields): what the decoder refused may be missing anywhere.
      if (refused) damaged_ = true;
      const auto known = std::find(unsure_keys_.begin(), unsure_keys_.end(), pts);
      key = known != unsure_keys_.end();
      if (key) unsure_keys_.erase(unsure_keys_.begin(), known + 1);
    }
    Append(pts, std::move(frame), whole, key, reference);
    return OkStatus();
  }

  // The n-th presented frame has the n-th packet's dts.
  Status TakeInDecodeOrder(AvOwner<AVFrame> frame, bool refused) {
    const int64_t key = frame->pts;
    if (!shown_start_) {
      if (start_key_ != AV_NOPTS_VALUE && key != start_key_) return OkStatus();  // a leading picture
      shown_start_ = true;
      while (!due_.empty() && due_.front() < start_.pts) due_.pop_front();
    } else if (refused && due_.size() > 1) {
      Lose(due_.front(), true);
      due_.pop_front();
    }
    if (due_.empty()) return DataLossError(file_.display() + ": a frame after " + Last() + " belongs to no packet");
    const int64_t pts = due_.front();
    due_.pop_front();
    const bool whole = IsWhole(*frame);
    const bool is_key = frame->key_frame != 0;
    Append(pts, std::move(frame), whole, is_key, true);
    return OkStatus();
  }

  void Append(int64_t pts, AvOwner<AVFrame> frame, bool whole, bool key, bool reference) {
    // What is made from a damaged frame is damaged too, though no decoder says so, up to a frame that is made from none.
    if (whole && key) damaged_ = false;
    if (!whole && reference) damaged_ = true;
    last_ = pts;
    frame->pts = pts;
    ready_.push_back({pts, std::move(frame), whole && !damaged_});
  }

  std::string Last() const { return TimeText(last_ == INT64_MIN ? start_.pts : last_, file_.time_base()); }

  VideoFile& file_;
  const Segment::Start start_;
  const ReadVideoOptions options_;
  bool started_;                        // its packet came
  int64_t start_key_ = AV_NOPTS_VALUE;  // of its packet
  bool shown_start_ = false;            // in decode order: its frame came
  std::unique_ptr<PictureStream> pictures_;
  std::map<int64_t, Sent> sent_;      // by pts: packets from the start on whose frames are still to come
  std::deque<int64_t> due_;           // in decode order: pts that frames to come will have
  std::vector<int64_t> unsure_keys_;  // pts of key packets that are not in sent_
  std::deque<Picture> ready_;
  int64_t last_ = INT64_MIN;
  int refused_ = 0;
  bool damaged_ = false;
  bool draining_ = false;
  bool ended_ = false;
};

// Only the samples, their colour and their fields go on: encoders would write the rest (captions, user data, picture types) a second time
// or take it for orders.
Result<std::shared_ptr<const AVFrame>> Strip(AvOwner<AVFrame> frame) {
  while (frame->nb_side_data > 0) av_frame_remove_side_data(frame.get(), frame->side_data[0]->type);
  av_dict_free(&frame->metadata);
  frame->pict_type = AV_PICTURE_TYPE_NONE;
  frame->key_frame = 0;
  bool full_range = false;
  frame->format = PlainFormat(frame->format, &full_range);
  if (full_range) frame->color_range = AVCOL_RANGE_JPEG;
  return std::shared_ptr<const AVFrame>(frame.release(), FreeAv());
}

class Reader : public VideoReader {
 public:
  Reader(std::unique_ptr<VideoFile> file, const VideoInfo& info, const ReadVideoOptions& options)
      : file_(std::move(file)), info_(info), options_(options) {}

  Status Seek(const Segment& segment, const CancelToken& cancel) override {
    if (segment.pts.empty() || segment.starts.empty()) return InvalidArgumentError("a segment without frames or starts");
    segment_ = segment;
    concealed_.clear();
    deinterlacer_.reset();
    next_ = 0;
    taken_ = 0;
    attempts_.clear();
    attempt_ = 0;
    exact_ = false;
    for (const auto& start : segment.starts) {
      // The frame before the first must come out too where it is needed for the fields.
      const bool very_first = &start == &segment.starts.back();
      if (info_.deinterlace && segment.first > 0 && !very_first && start.pts == segment.pts.front()) continue;
      for (const auto way : Ways(start, very_first)) attempts_.push_back({start, way});
    }
    return Locate(segment.pts.front(), cancel);
  }

  Result<std::optional<VideoFrame>> Next(const CancelToken& cancel) override {
    if (run_ == nullptr) return FailedPreconditionError("a reader that stands nowhere");
    if (next_ == segment_.pts.size()) return std::optional<VideoFrame>();
    const bool last = next_ + 1 == segment_.pts.size();
    std::shared_ptr<const AVFrame> frame;
    if (!info_.deinterlace) {
      NSIC_ASSIGN_OR_RETURN(frame, TakeNext(cancel));
    } else {
      NSIC_ASSIGN_OR_RETURN(frame, Deinterlaced(cancel));
    }
    if (last) {
      NSIC_ASSIGN_OR_RETURN(const bool complete, run_->Complete(cancel));
      if (!complete && !options_.tolerate) return Damaged(segment_.pts.front());
    }
    ++next_;
    return std::optional<VideoFrame>(VideoFrame(std::move(frame)));
  }

  const std::vector<int>& concealed() const override { return concealed_; }

 private:
  static bool Retriable(const Status& status) {
    return status.code() == StatusCode::kNotFound || status.code() == StatusCode::kDataLoss ||
           status.code() == StatusCode::kInvalidArgument;
  }

  struct Attempt {
    Segment::Start start;
    PictureRun::Way way;
  };

  // What to try for a start, the surest first. The very first start is where decoding begins when nothing else is found.
  std::vector<PictureRun::Way> Ways(const Segment::Start& start, bool very_first) const {
    using Way = PictureRun::Way;
    std::vector<Way> ways = file_->PrefersBytes() ? std::vector<Way>{Way::kByte, Way::kTime} : std::vector<Way>{Way::kTime};
    if (start.position < 0 && file_->PrefersBytes()) ways.erase(ways.begin());
    if (very_first) ways.push_back(Way::kBeginning);
    return ways;
  }

  Status Damaged(int64_t pts) const {
    return DataLossError(file_->display() + ": the frame at " + TimeText(pts, file_->time_base()) +
                         " cannot be decoded whole, the file is damaged there; copy or download it again, or let the frame before stand in "
                         "for it with --tolerate");
  }

  // Stands before the frame at `pts`, which comes out whole. With `tolerate` and when no start shows it, where one before it does, or any.
  Status Locate(int64_t pts, const CancelToken& cancel) {
    Status first_error;
    for (; attempt_ < attempts_.size(); ++attempt_) {
      const Result<bool> whole = Begin(attempts_[attempt_], pts, cancel);
      if (whole.ok() && *whole) return OkStatus();
      if (!whole.ok() && !Retriable(whole.status())) return whole.status();
      if (!whole.ok() && first_error.ok()) first_error = whole.status();
    }
    if (first_error.ok()) first_error = Damaged(pts);
    if (first_error.code() == StatusCode::kNotFound) first_error = DataLossError(first_error.message());
    if (!options_.tolerate) return first_error;
    for (const bool need_before : {true, false}) {
      for (const Attempt& attempt : attempts_) {
        const Result<bool> whole = Begin(attempt, pts, cancel);
        if (whole.ok() && (last_good_ != nullptr || !need_before)) return OkStatus();
        if (!whole.ok() && !Retriable(whole.status())) return whole.status();
      }
    }
    return first_error;
  }

  // Decodes up to the frame at `pts`, and says whether that comes out whole.
  Result<bool> Begin(const Attempt& attempt, int64_t pts, const CancelToken& cancel) {
    run_.reset();
    peeked_.reset();
    last_good_.reset();
    NSIC_ASSIGN_OR_RETURN(run_, PictureRun::Make(*file_, attempt.start, attempt.way, exact_, options_));
    while (true) {
      NSIC_RETURN_IF_ERROR(Peek(cancel));
      if (run_->damaged() && !exact_) {
        exact_ = true;
        return Begin(attempt, pts, cancel);
      }
      if (!peeked_) return false;
      if (peeked_->pts >= pts) return peeked_->pts == pts && peeked_->whole;
      if (peeked_->whole) last_good_ = std::shared_ptr<const AVFrame>(peeked_->frame.release(), FreeAv());
      peeked_.reset();
    }
  }

  Status Peek(const CancelToken& cancel) {
    if (peeked_) return OkStatus();
    NSIC_ASSIGN_OR_RETURN(peeked_, run_->Next(cancel));
    return OkStatus();
  }

  // The segment's next frame as it is in the file, or what stands in for it.
  Result<std::shared_ptr<const AVFrame>> TakeNext(const CancelToken& cancel) {
    const int64_t wanted = segment_.pts[taken_];
    while (true) {
      NSIC_RETURN_IF_ERROR(Peek(cancel));
      if (!peeked_ || peeked_->pts >= wanted) break;
      // A frame that the index does not know; one that is missing and unknown is what the index says.
      if (peeked_->frame != nullptr && !options_.tolerate) {
        return DataLossError(file_->display() + " shows a frame at " + TimeText(peeked_->pts, file_->time_base()) +
                             " that it did not hold when it was indexed: it has changed since; submit it again");
      }
      peeked_.reset();
    }
    if (run_->damaged() && !exact_) {
      exact_ = true;
      NSIC_RETURN_IF_ERROR(Locate(wanted, cancel));
      return TakeNext(cancel);
    }
    const bool whole = peeked_ && peeked_->pts == wanted && peeked_->whole;
    if (!whole && attempt_ < attempts_.size()) {
      // Flags of key frames can be wrong: what one start leaves broken may come out whole from an earlier one.
      ++attempt_;
      NSIC_RETURN_IF_ERROR(Locate(wanted, cancel));
      return TakeNext(cancel);
    }
    ++taken_;
    if (peeked_ && peeked_->pts == wanted) {
      Picture picture = *std::move(peeked_);
      peeked_.reset();
      if (picture.whole) {
        NSIC_RETURN_IF_ERROR(CheckFormat(*picture.frame));
        NSIC_ASSIGN_OR_RETURN(last_good_, Strip(std::move(picture.frame)));
        return last_good_;
      }
    }
    if (!options_.tolerate) return Damaged(wanted);
    concealed_.push_back(segment_.first + static_cast<int>(taken_) - 1);
    return StandIn(wanted, cancel);
  }

  // The frame before, under the pts of the one that it stands in for; where there is none yet, the next that is whole.
  Result<std::shared_ptr<const AVFrame>> StandIn(int64_t pts, const CancelToken& cancel) {
    if (last_good_ == nullptr) {
      while (true) {
        NSIC_RETURN_IF_ERROR(Peek(cancel));
        if (!peeked_) return Damaged(pts);
        if (peeked_->whole) break;
        peeked_.reset();
      }
    }
    AvOwner<AVFrame> copy(av_frame_clone(last_good_ != nullptr ? last_good_.get() : peeked_->frame.get()));
    if (copy == nullptr) return ResourceExhaustedError("no memory for a frame of " + file_->display());
    copy->pts = pts;
    NSIC_RETURN_IF_ERROR(CheckFormat(*copy));
    return Strip(std::move(copy));
  }

  Result<std::shared_ptr<const AVFrame>> Deinterlaced(const CancelToken& cancel) {
    if (deinterlacer_ == nullptr) {
      std::shared_ptr<const AVFrame> before = last_good_;
      NSIC_ASSIGN_OR_RETURN(current_, TakeNext(cancel));
      // A video's first frame is its own neighbour.
      if (segment_.first == 0 || before == nullptr) before = current_;
      NSIC_RETURN_IF_ERROR(CheckFormat(*before));
      NSIC_ASSIGN_OR_RETURN(deinterlacer_, Deinterlacer::Make(info_, *current_, options_.threads, file_->display()));
      NSIC_RETURN_IF_ERROR(deinterlacer_->Begin(*before));
      NSIC_RETURN_IF_ERROR(deinterlacer_->Next(*current_).status());
    }
    std::shared_ptr<const AVFrame> after;
    if (taken_ < segment_.pts.size()) {
      NSIC_ASSIGN_OR_RETURN(after, TakeNext(cancel));
    } else {
      NSIC_ASSIGN_OR_RETURN(after, TakeAfter(cancel));
    }
    NSIC_ASSIGN_OR_RETURN(AvOwner<AVFrame> frame, deinterlacer_->Next(*after));
    frame->pts = current_->pts;
    current_ = std::move(after);
    return Strip(std::move(frame));
  }

  // The frame after the segment's last, for its fields; the video's last frame is its own neighbour.
  Result<std::shared_ptr<const AVFrame>> TakeAfter(const CancelToken& cancel) {
    NSIC_RETURN_IF_ERROR(Peek(cancel));
    if (!peeked_) return current_;
    if (!peeked_->whole) {
      if (!options_.tolerate) return Damaged(peeked_->pts);
      return current_;
    }
    NSIC_RETURN_IF_ERROR(CheckFormat(*peeked_->frame));
    return Strip(std::move(peeked_->frame));
  }

  Status CheckFormat(const AVFrame& frame) const {
    bool full_range = false;
    const char* const name = av_get_pix_fmt_name(PlainFormat(frame.format, &full_range));
    if (Size{frame.width, frame.height} == info_.size && name != nullptr && info_.pixel_format == name) return OkStatus();
    return InvalidArgumentError(file_->display() + " changes from " + std::to_string(info_.size.width) + "x" +
                                std::to_string(info_.size.height) + " pixels of " + info_.pixel_format + " to " +
                                std::to_string(frame.width) + "x" + std::to_string(frame.height) + " of " + (name == nullptr ? "?" : name) +
                                " at " + TimeText(frame.pts, file_->time_base()) + "; cut it there and submit the parts");
  }

  const std::unique_ptr<VideoFile> file_;
  const VideoInfo info_;
  const ReadVideoOptions options_;
  Segment segment_;
  std::vector<Attempt> attempts_;  // the best first
  size_t attempt_ = 0;             // the one that run_ is; attempts_.size(): all fail somewhere
  bool exact_ = false;             // frames are decoded one by one, since some are damaged
  std::unique_ptr<PictureRun> run_;
  std::optional<Picture> peeked_;
  std::shared_ptr<const AVFrame> last_good_;  // the last whole frame before the next
  std::shared_ptr<const AVFrame> current_;    // the last that the deinterlacer took
  std::unique_ptr<Deinterlacer> deinterlacer_;
  size_t taken_ = 0;  // of the segment's frames, from the run
  size_t next_ = 0;   // handed out
  std::vector<int> concealed_;
};

}  // namespace

Result<std::unique_ptr<VideoReader>> VideoReader::Open(std::unique_ptr<ByteSource> source, const VideoInfo& info,
                                                       const ReadVideoOptions& options) {
  NSIC_ASSIGN_OR_RETURN(auto file, VideoFile::Open(std::move(source)));
  NSIC_RETURN_IF_ERROR(file->Select(info.stream_index));
  const char* const codec = avcodec_get_name(file->parameters()->codec_id);
  const AVRational time_base = file->time_base();
  if (info.codec != codec || time_base.num * info.time_base.den != time_base.den * info.time_base.num) {
    return DataLossError(file->display() + " holds another video than when it was indexed: it has changed since; submit it again");
  }
  return std::unique_ptr<VideoReader>(std::make_unique<Reader>(std::move(file), info, options));
}

Segment SegmentOfFrame(const VideoIndex& index, int frame) {
  constexpr size_t kStarts = 5;
  Segment segment;
  segment.first = frame;
  segment.pts = {index.pts[static_cast<size_t>(frame)]};
  for (auto key = index.key_frames.rbegin(); key != index.key_frames.rend(); ++key) {
    const bool wanted = segment.starts.size() + 1 < kStarts || key->frame == 0;
    if (key->frame <= frame && wanted) segment.starts.push_back({index.pts[static_cast<size_t>(key->frame)], key->position});
  }
  return segment;
}

}  // namespace nsic
