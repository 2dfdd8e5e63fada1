// Judges videos by some of their frames.
#ifndef NSIC_WORKER_JUDGE_VIDEO_H_
#define NSIC_WORKER_JUDGE_VIDEO_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/cancel.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/infer/engine.h"
#include "core/media/byte_source.h"
#include "core/media/convert_frame.h"
#include "core/media/video.h"
#include "core/media/video_frame.h"
#include "nsic/v1/jobs.pb.h"
#include "worker/judge_pictures.h"

namespace nsic {

// The frames from which a video is classified: up to eight, spread evenly, but each near the key frame before it, so that little has to be
// decoded. A pure function of the index.
std::vector<int> FramesToClassify(const VideoIndex& index);

// The mean over these frames. Errors of VideoReader.
Result<Classes> ClassifyVideo(Classifier* classifier, std::unique_ptr<ByteSource> source, const VideoInfo& info, const VideoIndex& index,
                              const CancelToken& cancel);
int64_t ClassifyVideoBytes(const VideoInfo& info);  // that it takes, at most

// Which frames of a video are scored: every `every`th from `first` on, the number of the job's first frame.
struct FramesToScore {
  int first = 0;
  int every = 1;
  bool Has(int frame) const { return (frame - first) % every == 0; }
};
// As the job wants it; nothing when none are.
std::optional<FramesToScore> ChooseFramesToScore(const v1::RestoreOptions& options, const v1::VideoInfo& video);

// Scores frames of a segment on their way through the pipeline. Wants() from any thread, the rest from one at a time.
class FrameJudge {
 public:
  using Score = std::function<Result<double>(Size picture, const ReadPixels& read)>;

  // `first` is the number of the segment's first frame. `delivered` brings finished frames of `delivered_size` back to RGB. `clock` must
  // outlive this.
  FrameJudge(FramesToScore frames, int first, Size source_size, Size delivered_size, std::unique_ptr<FrameConverter> delivered, Score score,
             const Clock* clock);

  // The `at`th frame of the segment, from 0.
  bool Wants(int at) const { return frames_.Has(first_ + at); }
  // `before`: its RGB, planar floats in [0, 1]. After an error no more frames are scored.
  void Judge(int at, const float* before, const VideoFrame& finished);

  const std::vector<v1::FrameScore>& scores() const { return scores_; }
  const Status& status() const { return status_; }
  double seconds() const { return seconds_; }

 private:
  Result<double> ScorePlanes(Size size, const float* planar) const;
  Status JudgeFrame(int at, const float* before, const VideoFrame& finished);

  const FramesToScore frames_;
  const int first_;
  const Size source_size_;
  const Size delivered_size_;
  const std::unique_ptr<FrameConverter> delivered_;
  const Score score_;
  const Clock* const clock_;
  std::vector<float> after_;
  std::vector<v1::FrameScore> scores_;
  Status status_;
  double seconds_ = 0;
};

}  // namespace nsic

#endif  // NSIC_WORKER_JUDGE_VIDEO_H_
