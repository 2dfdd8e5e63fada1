// Trains an enhancer.
//
// Pairs are made on the device: a random crop, flipped and turned at random, is the target; what the recipe's degradation makes of it is
// the input. The network is not told what was done.
#ifndef NSIC_MODELS_TRAIN_FIT_FIT_H_
#define NSIC_MODELS_TRAIN_FIT_FIT_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "models/train/fit/training_run.h"

namespace nsic {

struct FitOptions : RunOptions {
  std::vector<std::string> data;              // folders of pictures or packed corpora to learn from
  std::vector<std::string> validation;        // the same, to measure on; never learnt from
  std::string recipe = "jpeg";                // as LoadRecipe takes it
  std::string architecture;                   // one of TrainableArchitectures; by default that of `from`, or "light"
  std::map<std::string, int64_t> parameters;  // of the architecture; those that are missing are as `from` or UsualParameters has them
  int64_t patch = 96;                         // side of a crop, which is what a sample is, in pixels: a multiple of 16
};

// Runs until the steps or minutes are over, writing progress lines to `progress` and a row a validation to `<state>/log.csv`, drawn in
// `<state>/curve.svg`. At each validation the pack is written with the averaged weights so far, and the checkpoint, atomically. When `stop`
// becomes true the checkpoint is written and the answer is CANCELLED: the same call goes on from there. With `steps`, the result depends on
// the options, the data and the number of threads only: a run that was stopped and resumed ends with the same weights, bit for bit. Sets
// LibTorch's own thread count to one. INVALID_ARGUMENT for options that make no sense; FAILED_PRECONDITION when the checkpoint belongs to
// other options.
Status Fit(const FitOptions& options, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_FIT_FIT_H_
