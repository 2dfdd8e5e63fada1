#include "models/train/fit/losses.h"

#include <torch/torch.h>

#include <cmath>
#include <vector>

namespace nsic {
namespace {

using at::Tensor;

constexpr double kErrorFloor = 1e-4;
constexpr double kCharbonnierFloor = 1e-6;
constexpr int64_t kSsimWindow = 11;
constexpr double kSsimSigma = 1.5;

Tensor MeanOfPicture(const Tensor& x) { return x.mean(at::IntArrayRef{1, 2, 3}); }

// Each channel filtered with `kernel` (k x k); only where the kernel fits.
Tensor Filter(const Tensor& x, const Tensor& kernel) {
  const int64_t channels = x.size(1);
  const Tensor each = kernel.to(x.device()).expand({channels, 1, kernel.size(0), kernel.size(1)});
  return at::conv2d(x, each, {}, /*stride=*/1, at::IntArrayRef({0}), /*dilation=*/1, channels);
}

Tensor Gradients(const Tensor& x) {
  const Tensor sobel = torch::tensor({{-1.0f, 0.0f, 1.0f}, {-2.0f, 0.0f, 2.0f}, {-1.0f, 0.0f, 1.0f}});
  return at::cat({Filter(x, sobel), Filter(x, sobel.t().contiguous())}, 1);
}

}  // namespace

Tensor SsimOfChannels(const Tensor& a, const Tensor& b) {
  Tensor line = at::arange(kSsimWindow, at::kFloat).sub_(kSsimWindow / 2).square_().div_(-2 * kSsimSigma * kSsimSigma).exp_();
  line.div_(line.sum());
  const auto blur = [&line](const Tensor& x) { return Filter(Filter(x, line.view({1, -1})), line.view({-1, 1})); };
  constexpr double kC1 = 0.01 * 0.01, kC2 = 0.03 * 0.03;
  const Tensor mean_a = blur(a), mean_b = blur(b), product = mean_a * mean_b;
  const Tensor squares = mean_a.square() + mean_b.square();
  const Tensor variances = blur(a.square() + b.square()) - squares;
  const Tensor covariance = blur(a * b) - product;
  return ((product * 2.0 + kC1) * (covariance * 2.0 + kC2) / ((squares + kC1) * (variances + kC2))).mean(at::IntArrayRef{2, 3});
}

Tensor Loss(const Tensor& output, const Tensor& target, const LossWeights& weights) {
  const Tensor difference = output - target;
  Tensor loss = at::zeros({output.size(0)}, output.options());
  if (weights.log_mse != 0) loss = loss + MeanOfPicture(difference.square()).add(kErrorFloor).log() * weights.log_mse;
  if (weights.charbonnier != 0) loss = loss + MeanOfPicture((difference.square() + kCharbonnierFloor).sqrt()) * weights.charbonnier;
  if (weights.ssim != 0) loss = loss + (1.0 - SsimOfChannels(output, target).mean(1)) * weights.ssim;
  if (weights.edge != 0) loss = loss + MeanOfPicture(Gradients(difference).abs()) * weights.edge;
  if (weights.frequency != 0) {
    const Tensor spectrum = at::view_as_real(at::fft_rfft2(difference, at::OptionalIntArrayRef(), {-2, -1}, "ortho"));
    loss = loss + spectrum.abs().mean(at::IntArrayRef{1, 2, 3, 4}) * weights.frequency;
  }
  return loss;
}

}  // namespace nsic
