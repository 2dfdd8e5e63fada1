// Adam (Kingma, Ba 2015) and the exponential moving average of the weights. Our own, because the layout of LibTorch's optimiser state
// differs between its versions and a checkpoint must not.
#ifndef NSIC_MODELS_TRAIN_OPTIMISER_H_
#define NSIC_MODELS_TRAIN_OPTIMISER_H_

#include <cstdint>

#include "models/train/checkpoint.h"

namespace nsic {

// Not thread-safe.
class Optimiser {
 public:
  // Shares the tensors of `weights`, which Step changes in place.
  explicit Optimiser(const NamedTensors& weights);

  // Moves the weights against their gradients, follows with the average, and clears the gradients. `step` counts from 1.
  void Step(int64_t step, double learning_rate);

  // The tensors may be overwritten, to resume.
  const NamedTensors& averaged() const { return averaged_; }
  const NamedTensors& mean() const { return mean_; }
  const NamedTensors& variance() const { return variance_; }

 private:
  NamedTensors weights_;
  NamedTensors mean_;
  NamedTensors variance_;
  NamedTensors averaged_;
};

// The learning rate of the step after `step` steps: rises over the first 500 and falls to zero along half a cosine as `done` goes from 0 to
// 1.
double LearningRate(double highest, int64_t step, double done);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_OPTIMISER_H_
