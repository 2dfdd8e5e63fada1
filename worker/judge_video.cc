#include "worker/judge_video.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/media/read_video.h"
#include "core/media/video_memory.h"
#include "worker/stopwatch.h"

namespace nsic {
namespace {

constexpr int kFramesToClassify = 8;
constexpr int kFarthestFromKey = 24;  // frames that are decoded for one that is looked at
constexpr int kDecoderThreads = 2;
constexpr double kSecondsApart = 2;  // of scored frames, unless the job says otherwise

VideoIndex::KeyFrame KeyBefore(const VideoIndex& index, int frame) {
  const auto after = std::upper_bound(index.key_frames.begin(), index.key_frames.end(), frame,
                                      [](int wanted, const VideoIndex::KeyFrame& key) { return wanted < key.frame; });
  return after == index.key_frames.begin() ? index.key_frames.front() : *std::prev(after);
}

// Reads parts of a picture in memory.
ReadPixels ReadPlanes(Size size, const float* planar) {
  return [size, planar](const Rect& rect, float* out) {
    for (int channel = 0; channel < 3; ++channel) {
      const float* const plane = planar + static_cast<size_t>(channel) * static_cast<size_t>(size.area());
      for (int y = rect.y; y < rect.y + rect.height; ++y) {
        const float* const row = plane + static_cast<size_t>(y) * static_cast<size_t>(size.width) + rect.x;
        out = std::copy(row, row + rect.width, out);
      }
    }
    return OkStatus();
  };
}

}  // namespace

std::vector<int> FramesToClassify(const VideoIndex& index) {
  std::vector<int> frames;
  const auto count = static_cast<int64_t>(index.pts.size());
  for (int i = 0; i < kFramesToClassify; ++i) {
    const int middle = static_cast<int>((2 * i + 1) * count / (2 * kFramesToClassify));  // of this eighth of the video
    const int frame = std::min(middle, KeyBefore(index, middle).frame + kFarthestFromKey);
    if (frames.empty() || frames.back() < frame) frames.push_back(frame);
  }
  return frames;
}

Result<Classes> ClassifyVideo(Classifier* classifier, std::unique_ptr<ByteSource> source, const VideoInfo& info, const VideoIndex& index,
                              const CancelToken& cancel) {
  ReadVideoOptions options;
  options.tolerate = true;  // a damaged frame is no reason not to know the others; restoring will tell
  options.threads = kDecoderThreads;
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<VideoReader> reader, VideoReader::Open(std::move(source), info, options));
  EncodePlan plan;  // as the source is: only the way to RGB is taken
  plan.pixel_format = info.pixel_format;
  plan.size = info.size;
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<FrameConverter> converter, FrameConverter::Make(info, plan, FrameOptions()));
  std::vector<float> planar(static_cast<size_t>(info.size.area()) * 3);
  std::vector<Classes> parts;
  for (const int frame : FramesToClassify(index)) {
    NSIC_RETURN_IF_ERROR(cancel.Check());
    NSIC_RETURN_IF_ERROR(reader->Seek(SegmentOfFrame(index, frame), cancel));
    NSIC_ASSIGN_OR_RETURN(const std::optional<VideoFrame> decoded, reader->Next(cancel));
    if (!decoded) return DataLossError("frame " + std::to_string(frame + 1) + " cannot be decoded");
    NSIC_RETURN_IF_ERROR(converter->ToRgb(*decoded, planar.data()));
    NSIC_ASSIGN_OR_RETURN(Classes classes,
                          ClassifyPicture(classifier, SampleCrops(info.size), ReadPlanes(info.size, planar.data()), std::nullopt, cancel));
    parts.push_back(std::move(classes));
  }
  return MeanOfClasses(parts);
}

int64_t ClassifyVideoBytes(const VideoInfo& info) {
  return DecoderBytes(info, kDecoderThreads) + 2 * 3 * int64_t{sizeof(float)} * info.size.area();
}

std::optional<FramesToScore> ChooseFramesToScore(const v1::RestoreOptions& options, const v1::VideoInfo& video) {
  FramesToScore frames;
  frames.first = video.range().first();
  if (options.has_score_every()) {
    if (options.score_every() < 1) return std::nullopt;
    frames.every = options.score_every();
    return frames;
  }
  const double rate = static_cast<double>(video.frame_rate().num()) / static_cast<double>(std::max<int64_t>(1, video.frame_rate().den()));
  frames.every = static_cast<int>(std::lround(std::clamp(kSecondsApart * rate, 1.0, 1e6)));
  return frames;
}

FrameJudge::FrameJudge(FramesToScore frames, int first, Size source_size, Size delivered_size, std::unique_ptr<FrameConverter> delivered,
                       Score score, const Clock* clock)
    : frames_(frames),
      first_(first),
      source_size_(source_size),
      delivered_size_(delivered_size),
      delivered_(std::move(delivered)),
      score_(std::move(score)),
      clock_(clock) {}

Result<double> FrameJudge::ScorePlanes(Size size, const float* planar) const { return score_(size, ReadPlanes(size, planar)); }

Status FrameJudge::JudgeFrame(int at, const float* before, const VideoFrame& finished) {
  v1::FrameScore score;
  score.set_frame(first_ + at);
  NSIC_ASSIGN_OR_RETURN(const double score_before, ScorePlanes(source_size_, before));
  score.set_before(score_before);
  after_.resize(static_cast<size_t>(delivered_size_.area()) * 3);
  NSIC_RETURN_IF_ERROR(delivered_->ToRgb(finished, after_.data()));
  NSIC_ASSIGN_OR_RETURN(const double score_after, ScorePlanes(delivered_size_, after_.data()));
  score.set_after(score_after);
  scores_.push_back(std::move(score));
  return OkStatus();
}

void FrameJudge::Judge(int at, const float* before, const VideoFrame& finished) {
  if (!status_.ok()) return;
  const Stopwatch watch(clock_);
  status_ = JudgeFrame(at, before, finished);
  seconds_ += watch.seconds();
}

}  // namespace nsic
