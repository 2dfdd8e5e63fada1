// Trains the models that judge pictures: the scorer ("tile-iqa") and the classifier that recommends a pack ("tile-c").
//
// The scorer learns ReferenceQuality of tiles, and, of two tiles that are one crop spoilt to two degrees, which is better and by how much:
// the order of two versions of one picture is what people ask it for. The classifier learns which of JudgeLabels a picture is
// that a few tiles are from.
#ifndef NSIC_MODELS_TRAIN_FIT_FIT_JUDGE_H_
#define NSIC_MODELS_TRAIN_FIT_FIT_JUDGE_H_

#include <atomic>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "models/io/model_pack.h"
#include "models/train/fit/training_run.h"

namespace nsic {

struct FitJudgeOptions : RunOptions {
  FitJudgeOptions() {
    batch = 32;
    learning_rate = 2e-3;
  }

  ModelTask task = ModelTask::kScore;              // or kClassify
  std::vector<std::string> photographs;            // folders of pictures or packed corpora to learn from
  std::vector<std::string> drawings;               // the same
  std::vector<std::string> photograph_validation;  // the same, to measure on; never learnt from
  std::vector<std::string> drawing_validation;
  std::string architecture = "tile";  // or, to compare with, "ns-iqa": the original's scorer
  int64_t features = 16;              // of the former
};

// As Fit (fit.h) runs: the same lines to `progress`, the same files in `state`, the same words on stopping, resuming and equal results.
// INVALID_ARGUMENT for options that make no sense.
Status FitJudge(const FitJudgeOptions& options, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_FIT_FIT_JUDGE_H_
