// The optimiser and the exponential moving average of the weights.
//
// A matrix of weights, which a convolution's are as output channels by everything else, moves by Muon (Jordan et al., "Muon: An optimizer
// for hidden layers in neural networks", 2024): its momentum, made orthogonal, so that every direction is learnt at the same speed. Its
// step has the size of Adam's usual one, after Liu et al., "Muon is Scalable for LLM Training" (arXiv 2502.16982), and so shares Adam's
// learning rate. The rest, biases and the thin matrices of the first and last layers, moves by Adam (Kingma, Ba 2015). Both are our own,
// because the layout of LibTorch's optimiser state differs between its versions and a checkpoint must not, and it has no Muon.
#ifndef NSIC_MODELS_TRAIN_FIT_OPTIMISER_H_
#define NSIC_MODELS_TRAIN_FIT_OPTIMISER_H_

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <vector>

#include "models/train/fit/checkpoint.h"

namespace nsic {

class Optimiser {
 public:
  // Shares the tensors of `weights`, which Step changes in place. Muon multiplies its matrices in `compute`.
  Optimiser(const NamedTensors& weights, at::ScalarType compute);

  // The names of the weights, those that take longest first.
  const std::vector<std::string>& names() const { return names_; }

  // Moves one of the weights against its gradient, follows with the average, and clears the gradient. `step` counts from 1. Different
  // weights may be moved at the same time.
  void Step(const std::string& name, int64_t step, double learning_rate);

  // The tensors may be overwritten, to resume.
  const NamedTensors& averaged() const { return averaged_; }
  const NamedTensors& mean() const { return mean_; }          // of the gradients
  const NamedTensors& variance() const { return variance_; }  // of the gradients, where Adam moves the weight

 private:
  const at::ScalarType compute_;
  NamedTensors weights_;
  NamedTensors mean_;
  NamedTensors variance_;
  NamedTensors averaged_;
  std::vector<std::string> names_;
};

// The learning rate of the step after `step` steps: rises over the first `warm_up` (at least 1) and falls to zero along half a cosine as
// `done` goes from 0 to 1.
double LearningRate(double highest, int64_t warm_up, int64_t step, double done);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_FIT_OPTIMISER_H_
