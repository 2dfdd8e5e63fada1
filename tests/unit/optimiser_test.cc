#include "models/train/fit/optimiser.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

namespace nsic {
namespace {

using at::Tensor;

double RootMeanSquare(const Tensor& x) { return std::sqrt(x.square().mean().item<double>()); }

NamedTensors Weights() {
  torch::manual_seed(3);
  NamedTensors weights = {{"conv", at::randn({32, 8, 3, 3})}, {"bias", at::zeros({32})}, {"last", at::randn({12, 32, 3, 3})}};
  for (auto& [name, tensor] : weights) {
    tensor.set_requires_grad(true);
    tensor.mutable_grad() = at::zeros_like(tensor);
  }
  return weights;
}

TEST(OptimiserTest, AMatrixLearnsEveryDirectionAtTheSameSpeed) {
  NamedTensors weights = Weights();
  Optimiser optimiser(weights, at::kFloat);
  const Tensor before = weights.at("conv").detach().clone();
  // One direction has ten times the gradient and more of the others.
  const Tensor strong = at::mm(at::randn({32, 1}), at::randn({1, 72})), weak = at::randn({32, 72}) * 0.1;
  weights.at("conv").mutable_grad().copy_((strong + weak).view({32, 8, 3, 3}));
  optimiser.Step("conv", 1, 0.01);
  const Tensor step = (before - weights.at("conv").detach()).flatten(1);
  EXPECT_NEAR(RootMeanSquare(step), 0.01 * 0.6, 0.01 * 0.6 * 0.3);
  const Tensor singular = std::get<1>(at::linalg_svd(step));
  EXPECT_LT(singular.max().item<double>() / singular.min().item<double>(), 3);
  EXPECT_GT((step * strong).sum().item<double>(), 0);  // downhill
  EXPECT_EQ(weights.at("conv").grad().abs().max().item<double>(), 0);
}

TEST(OptimiserTest, TheRestMovesByAdam) {
  NamedTensors weights = Weights();
  Optimiser optimiser(weights, at::kFloat);
  EXPECT_EQ(optimiser.variance().count("conv"), 0u);
  for (const char* name : {"bias", "last"}) {
    const Tensor before = weights.at(name).detach().clone();
    const Tensor gradient = at::randn_like(before);
    weights.at(name).mutable_grad().copy_(gradient);
    optimiser.Step(name, 1, 0.01);
    // Adam's first step is the gradient's sign.
    EXPECT_LT((before - weights.at(name).detach() - gradient.sign() * 0.01).abs().max().item<double>(), 1e-4) << name;
  }
}

TEST(OptimiserTest, ALossFallsAndTheAverageFollows) {
  NamedTensors weights = Weights();
  Optimiser optimiser(weights, at::kFloat);
  const Tensor wanted = at::randn({32, 8, 3, 3});
  const auto loss = [&](const Tensor& at) { return (at - wanted).square().mean(); };
  const double before = loss(weights.at("conv").detach()).item<double>();
  for (int64_t step = 1; step <= 300; ++step) {
    loss(weights.at("conv")).backward();
    optimiser.Step("conv", step, LearningRate(0.05, 1, step, static_cast<double>(step) / 300));
  }
  EXPECT_LT(loss(weights.at("conv").detach()).item<double>(), before / 100);
  EXPECT_LT(loss(optimiser.averaged().at("conv")).item<double>(), before / 10);
}

TEST(OptimiserTest, TheLearningRateRisesAndFalls) {
  EXPECT_NEAR(LearningRate(2, 500, 249, 0), 1, 1e-9);
  EXPECT_NEAR(LearningRate(2, 500, 499, 0), 2, 1e-9);
  EXPECT_NEAR(LearningRate(2, 1, 0, 0), 2, 1e-9);
  EXPECT_NEAR(LearningRate(2, 500, 5000, 0.5), 1, 1e-9);
  EXPECT_NEAR(LearningRate(2, 500, 10000, 1), 0, 1e-9);
}

}  // namespace
}  // namespace nsic
