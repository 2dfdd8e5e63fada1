#include "models/train/optimiser.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

namespace nsic {
namespace {

using at::Tensor;

constexpr int64_t kWarmUpSteps = 500;
constexpr double kAdamBeta1 = 0.9;
constexpr double kAdamBeta2 = 0.99;
constexpr double kAdamEpsilon = 1e-8;
constexpr double kAverageDecay = 0.999;

}  // namespace

Optimiser::Optimiser(const NamedTensors& weights) : weights_(weights) {
  for (const auto& [name, tensor] : weights) {
    mean_.emplace(name, at::zeros_like(tensor.detach()));
    variance_.emplace(name, at::zeros_like(tensor.detach()));
    averaged_.emplace(name, tensor.detach().clone());
  }
}

void Optimiser::Step(int64_t step, double learning_rate) {
  const at::NoGradGuard no_grad;
  const double t = static_cast<double>(step);
  const double rate = learning_rate * std::sqrt(1 - std::pow(kAdamBeta2, t)) / (1 - std::pow(kAdamBeta1, t));
  const double decay = std::min(kAverageDecay, (1 + t) / (10 + t));  // forget the beginning quickly
  for (auto& [name, weight] : weights_) {
    Tensor& gradient = weight.mutable_grad();
    Tensor& mean = mean_.at(name);
    Tensor& variance = variance_.at(name);
    mean.lerp_(gradient, 1 - kAdamBeta1);
    variance.mul_(kAdamBeta2).addcmul_(gradient, gradient, 1 - kAdamBeta2);
    weight.addcdiv_(mean, variance.sqrt().add_(kAdamEpsilon), -rate);
    averaged_.at(name).lerp_(weight, 1 - decay);
    gradient.zero_();
  }
}

double LearningRate(double highest, int64_t step, double done) {
  const double warm = std::min(1.0, static_cast<double>(step + 1) / static_cast<double>(kWarmUpSteps));
  return highest * warm * 0.5 * (1 + std::cos(M_PI * std::clamp(done, 0.0, 1.0)));
}

}  // namespace nsic
