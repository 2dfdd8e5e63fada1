// A part of a video: open, seek | decode, enhance and encode at once | close the file. Or, where several workers have restored it in
// chunks: open | | decode the chunks and encode them as one.
#ifndef NSIC_WORKER_RUN_SEGMENT_TASK_H_
#define NSIC_WORKER_RUN_SEGMENT_TASK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/status.h"
#include "core/media/byte_source.h"
#include "core/media/video.h"
#include "nsic/v1/work.pb.h"
#include "worker/fetch_source.h"
#include "worker/restore_frames.h"
#include "worker/task.h"

namespace nsic {

class SegmentTask : public Task {
 public:
  SegmentTask(v1::LeasedTask lease, const TaskTools* tools);
  ~SegmentTask() override;
  std::string what() const override;

 private:
  class FirstError;
  class WatchedSource;

  MaybeFailure DoPrepare() override;
  MaybeFailure DoCompute() override;
  MaybeFailure DoFinish() override;
  void DoScore() override;  // frames are scored on their way: only what the video needs is still to be said
  void Drop() override;

  MaybeFailure ReadLease();
  Result<std::unique_ptr<ByteSource>> OpenSource();
  MaybeFailure ReserveMemory();
  // Whether this is the task that says what the file needs, where the recommender chooses no model.
  bool tells_for_file() const {
    return recommends() && !chooses_model() && lease_.segment().frames().first() == lease_.source().video().range().first();
  }
  Result<VideoIndex> FetchIndex();
  Result<Classes> Look(Classifier* classifier);
  MaybeFailure ChooseModel();
  Status OpenJudge();
  void TakeScores(const FrameJudge& judge);
  int network_scale() const { return enhancer_ == nullptr ? 1 : enhancer_->card().scale; }
  bool encodes_only() const { return lease_.segment().step() == v1::SEGMENT_STEP_ENCODE; }
  MaybeFailure OpenVideo(std::unique_ptr<ByteSource> source);
  MaybeFailure OpenChunks();
  MaybeFailure OpenWriter();
  MaybeFailure RunPipeline();
  MaybeFailure SourceFailure() const;
  TaskFailure DecodeFailure(const Status& status) const;
  TaskFailure PipelineFailure(const FramePipeline::Failure& failure) const;

  VideoInfo info_;
  EncodePlan plan_;
  Segment segment_;

  std::unique_ptr<SourceHandle> in_place_;    // null: the source is read in ranges of a blob
  std::shared_ptr<FirstError> source_error_;  // of reading bytes, as against what the bytes say
  FrameStages stages_;
  FrameBuffers buffers_;
  std::unique_ptr<FramePipeline> pipeline_;
};

}  // namespace nsic

#endif  // NSIC_WORKER_RUN_SEGMENT_TASK_H_
