// Trains an enhancer.
//
// Pairs are made on the device: a random crop, flipped and turned at random, is the target; what the recipe's degradation makes of it is
// the input. The network is not told what was done.
#ifndef NSIC_MODELS_TRAIN_FIT_H_
#define NSIC_MODELS_TRAIN_FIT_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"

namespace nsic {

struct FitOptions {
  std::vector<std::string> data;              // folders of pictures or packed corpora to learn from
  std::vector<std::string> validation;        // the same, to measure on; never learnt from
  std::string state;                          // folder of the checkpoint, the log and packed folders; training resumes from what is there
  std::string out;                            // folder of the pack
  std::string name;                           // of the pack
  std::string source;                         // for the card: where data without sources of its own is from, and under which licences
  std::string licence = "Apache-2.0";         // of the pack
  std::string recipe = "jpeg";                // as LoadRecipe takes it
  std::string architecture = "light";         // one of TrainableArchitectures
  std::map<std::string, int64_t> parameters;  // of the architecture; those that are missing are as UsualParameters has them
  std::string from;                           // folder of a pack to start from, of the same architecture and parameters; or empty
  int64_t steps = 0;                          // the learning rate falls to zero over so many steps,
  double minutes = 0;                         // or over so many minutes of training, resumed runs included. One of the two.
  int64_t batch = 8;                          // crops a step
  int64_t patch = 96;                         // side of a crop in pixels, a multiple of 16
  double learning_rate = 1e-3;
  uint64_t seed = 1;
  std::string device = "cpu";   // or "cuda:0"
  int64_t threads = 1;          // each works on its part of the batch; 1 on a GPU
  bool bfloat16 = false;        // run the convolutions in bf16; weights and optimiser stay in fp32
  double validate_minutes = 5;  // between validations
};

// Runs until the steps or minutes are over, writing progress lines to `progress` and a row a validation to `<state>/log.csv`, drawn in
// `<state>/curve.svg`. At each validation the pack is written with the averaged weights so far, and the checkpoint, atomically. When `stop`
// becomes true the checkpoint is written and the answer is CANCELLED: the same call goes on from there. With `steps`, the result depends on
// the options, the data and the number of threads only: a run that was stopped and resumed ends with the same weights, bit for bit. Sets
// LibTorch's own thread count to one. INVALID_ARGUMENT for options that make no sense; FAILED_PRECONDITION when the checkpoint belongs to
// other options.
Status Fit(const FitOptions& options, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_FIT_H_
