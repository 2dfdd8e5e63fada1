// Trains the models that judge pictures: the scorer ("tile-iqa") and the classifier that recommends a pack ("tile-c").
//
// The scorer learns ReferenceQuality of tiles, and, of two tiles that are one crop spoilt to two degrees, which is better and by how much:
// the order of two versions of one picture is what people ask it for. The classifier learns which of JudgeLabels a tile is.
#ifndef NSIC_MODELS_TRAIN_FIT_JUDGE_H_
#define NSIC_MODELS_TRAIN_FIT_JUDGE_H_

#include <atomic>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "models/io/model_pack.h"

namespace nsic {

struct FitJudgeOptions {
  ModelTask task = ModelTask::kScore;              // or kClassify
  std::vector<std::string> photographs;            // folders of pictures or packed corpora to learn from
  std::vector<std::string> drawings;               // the same
  std::vector<std::string> photograph_validation;  // the same, to measure on; never learnt from
  std::vector<std::string> drawing_validation;
  std::string state;                   // folder of the checkpoint, the log and packed folders; training resumes from what is there
  std::string out;                     // folder of the pack
  std::string name;                    // of the pack
  std::string source;                  // for the card: where data without sources of its own is from, and under which licences
  std::string licence = "Apache-2.0";  // of the pack
  int64_t features = 16;               // of the network
  int64_t steps = 0;                   // the learning rate falls to zero over so many steps,
  double minutes = 0;                  // or over so many minutes of training, resumed runs included. One of the two.
  int64_t batch = 32;                  // samples a step
  double learning_rate = 2e-3;
  uint64_t seed = 1;
  std::string device = "cpu";   // or "cuda:0"
  int64_t threads = 1;          // each works on its part of the batch; 1 on a GPU
  bool bfloat16 = false;        // run the convolutions in bf16
  double validate_minutes = 5;  // between validations
};

// As Fit (fit.h) runs: the same lines to `progress`, the same files in `state`, the same words on stopping, resuming and equal results.
Status FitJudge(const FitJudgeOptions& options, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_FIT_JUDGE_H_
