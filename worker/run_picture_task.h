// A picture, or a tile of one: fetch, load, decode | compute | finish | score. Or, where nothing is to be restored: fetch, decode | judge |
// write down what was found.
#ifndef NSIC_WORKER_RUN_PICTURE_TASK_H_
#define NSIC_WORKER_RUN_PICTURE_TASK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/geometry.h"
#include "core/base/status.h"
#include "core/media/picture.h"
#include "nsic/v1/work.pb.h"
#include "worker/fetch_source.h"
#include "worker/task.h"

namespace nsic {

// Whether a decoder can go through this file row by row. False for progressive JPEG, interlaced PNG and the formats that are always decoded
// whole; also when the file cannot be read or makes no sense, which decoding will tell.
bool DecodesByRows(const std::string& path);

// Bytes that a task holds at its peak, the engine's own apart: the decoded window, the 16-bit result, and what a decoder that cannot go row
// by row keeps of the whole picture.
int64_t TaskMemoryBytes(const v1::PictureInfo& picture, bool by_rows, const Rect& window, const Rect& region, int network_scale);

class PictureTask : public Task {
 public:
  PictureTask(v1::LeasedTask lease, const TaskTools* tools);
  std::string what() const override;

 private:
  MaybeFailure DoPrepare() override;
  MaybeFailure DoCompute() override;
  MaybeFailure DoFinish() override;
  void DoScore() override;
  void Drop() override;

  bool assesses() const { return lease_.options().assess(); }
  Size picture_size() const { return {lease_.source().picture().width(), lease_.source().picture().height()}; }
  MaybeFailure FetchSource();
  MaybeFailure CheckRegion() const;
  MaybeFailure Decode();
  Result<Classes> Look(Classifier* classifier);
  MaybeFailure ChooseModel();
  MaybeFailure Enhance();
  MaybeFailure Copy();
  MaybeFailure Assess();
  Result<double> ScoreBefore();
  Result<double> ScoreAfter();
  Status ScoreBoth();
  TaskFailure Failure(v1::FailureClass failure_class, const Status& status) const;

  const bool whole_;
  Rect region_;  // in source pixels

  std::unique_ptr<SourceHandle> source_;
  std::unique_ptr<PictureReader> reader_;
  std::unique_ptr<WorkingPicture> working_;
  Classes classes_;  // of an assessment, as is its score
};

}  // namespace nsic

#endif  // NSIC_WORKER_RUN_PICTURE_TASK_H_
