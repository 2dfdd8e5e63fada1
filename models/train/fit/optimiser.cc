#include "models/train/fit/optimiser.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

namespace nsic {
namespace {

using at::Tensor;

constexpr double kAdamBeta1 = 0.9;
constexpr double kAdamBeta2 = 0.99;
constexpr double kAdamEpsilon = 1e-8;
constexpr double kMuonMomentum = 0.95;
constexpr double kMuonSize = 0.6;      // root mean square of a step, over the learning rate
constexpr int64_t kMuonSmallest = 24;  // rows and columns of a matrix that Muon moves
constexpr double kAverageDecay = 0.999;

bool MovesByMuon(const Tensor& weight) {
  return weight.dim() >= 2 && weight.size(0) >= kMuonSmallest && weight.numel() / weight.size(0) >= kMuonSmallest;
}

// A matrix near the orthogonal one nearest to `x`, with all singular values between 0.7 and 1.2: five Newton-Schulz steps with the
// coefficients of Jordan et al. They need no more precision than bf16's.
Tensor Orthogonal(const Tensor& matrix, at::ScalarType compute) {
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
  const bool tall = matrix.size(0) > matrix.size(1);
  Tensor x = (tall ? matrix.t() : matrix).div(matrix.norm() + 1e-12).to(compute).contiguous();
  for (int i = 0; i < 5; ++i) {
    const Tensor square = at::mm(x, x.t());
    x = at::addmm(x, at::addmm(square, square, square, kB, kC), x, kA);
  }
  return (tall ? x.t() : x).to(matrix.scalar_type());
}

}  // namespace

Optimiser::Optimiser(const NamedTensors& weights, at::ScalarType compute) : compute_(compute), weights_(weights) {
  for (const auto& [name, tensor] : weights) {
    mean_.emplace(name, at::zeros_like(tensor.detach()));
    if (!MovesByMuon(tensor)) variance_.emplace(name, at::zeros_like(tensor.detach()));
    averaged_.emplace(name, tensor.detach().clone());
    names_.push_back(name);
  }
  std::stable_sort(names_.begin(), names_.end(),
                   [this](const std::string& a, const std::string& b) { return weights_.at(a).numel() > weights_.at(b).numel(); });
}

void Optimiser::Step(const std::string& name, int64_t step, double learning_rate) {
  const at::NoGradGuard no_grad;
  const double t = static_cast<double>(step);
  Tensor& weight = weights_.at(name);
  Tensor& gradient = weight.mutable_grad();
  Tensor& mean = mean_.at(name);
  if (MovesByMuon(weight)) {
    mean.lerp_(gradient, 1 - kMuonMomentum);
    const Tensor ahead = gradient.lerp(mean, kMuonMomentum).flatten(1);  // Nesterov's
    const double size = kMuonSize * std::sqrt(static_cast<double>(std::max(ahead.size(0), ahead.size(1))));
    weight.sub_(Orthogonal(ahead, compute_).reshape(weight.sizes()), learning_rate * size);
  } else {
    const double rate = learning_rate * std::sqrt(1 - std::pow(kAdamBeta2, t)) / (1 - std::pow(kAdamBeta1, t));
    Tensor& variance = variance_.at(name);
    mean.lerp_(gradient, 1 - kAdamBeta1);
    variance.mul_(kAdamBeta2).addcmul_(gradient, gradient, 1 - kAdamBeta2);
    weight.addcdiv_(mean, variance.sqrt().add_(kAdamEpsilon), -rate);
  }
  const double decay = std::min(kAverageDecay, (1 + t) / (10 + t));  // forget the beginning quickly
  averaged_.at(name).lerp_(weight, 1 - decay);
  gradient.zero_();
}

double LearningRate(double highest, int64_t warm_up, int64_t step, double done) {
  const double warm = std::min(1.0, static_cast<double>(step + 1) / static_cast<double>(warm_up));
  return highest * warm * 0.5 * (1 + std::cos(M_PI * std::clamp(done, 0.0, 1.0)));
}

}  // namespace nsic
