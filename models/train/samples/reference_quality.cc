#include "models/train/samples/reference_quality.h"

#include <torch/torch.h>

#include "models/train/fit/losses.h"

namespace nsic {
namespace {

using at::Tensor;

constexpr int64_t kScales = 4;
constexpr int64_t kSsimWindow = 11;
constexpr double kColourShare = 0.2;  // of a scale's error
// Of the score: see the header.
constexpr double kErrorOfHalf = 0.036;
constexpr double kSteepness = 1.2;

// BT.601, full range, in [0, 1].
Tensor ToYCbCr(const Tensor& rgb) {
  const Tensor matrix = torch::tensor({{0.299f, 0.587f, 0.114f}, {-0.168736f, -0.331264f, 0.5f}, {0.5f, -0.418688f, -0.081312f}});
  return at::conv2d(rgb / 255.0, matrix.to(rgb.device()).view({3, 3, 1, 1}));
}

}  // namespace

Tensor ReferenceError(const Tensor& original, const Tensor& picture) {
  Tensor a = ToYCbCr(original), b = ToYCbCr(picture);
  Tensor error = at::zeros({a.size(0)}, a.options());
  int64_t scales = 0;
  for (; scales < kScales && a.size(2) >= kSsimWindow && a.size(3) >= kSsimWindow; ++scales) {
    if (scales == 0) {
      error = error + (1.0 - SsimOfChannels(a.narrow(1, 0, 1), b.narrow(1, 0, 1)).squeeze(1));
    } else {
      const Tensor lost = 1.0 - SsimOfChannels(a, b);
      error = error + lost.select(1, 0) * (1 - kColourShare) + lost.narrow(1, 1, 2).mean(1) * kColourShare;
    }
    a = at::avg_pool2d(a, {2, 2});
    b = at::avg_pool2d(b, {2, 2});
  }
  return error / static_cast<double>(scales);
}

Tensor ReferenceQuality(const Tensor& original, const Tensor& picture) {
  return 100.0 / ((ReferenceError(original, picture).clamp_min(0.0) / kErrorOfHalf).pow(kSteepness) + 1.0);
}

double ReferenceQualityOf(const uint8_t* original, const uint8_t* picture, int width, int height) {
  const at::NoGradGuard no_grad;
  const auto tensor = [&](const uint8_t* rgb) {
    return at::from_blob(const_cast<uint8_t*>(rgb), {1, height, width, 3}, at::kByte).permute({0, 3, 1, 2}).to(at::kFloat).contiguous();
  };
  return ReferenceQuality(tensor(original), tensor(picture)).item<double>();
}

}  // namespace nsic
