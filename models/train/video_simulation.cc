#include "models/train/video_simulation.h"

#include <torch/torch.h>

#include <cmath>

namespace nsic {
namespace {

using at::Tensor;
using at::indexing::Slice;

constexpr int64_t kLumaBlock = 8;
constexpr int64_t kColourBlock = 4;

// Orthonormal DCT-II: row u holds the basis function of frequency u.
Tensor DctMatrix(int64_t size, const at::Device& device) {
  Tensor matrix = torch::empty({size, size}, at::kFloat);
  auto out = matrix.accessor<float, 2>();
  for (int64_t u = 0; u < size; ++u) {
    const double scale = std::sqrt((u == 0 ? 1.0 : 2.0) / static_cast<double>(size));
    for (int64_t x = 0; x < size; ++x) {
      out[u][x] = static_cast<float>(scale * std::cos(M_PI * static_cast<double>((2 * x + 1) * u) / static_cast<double>(2 * size)));
    }
  }
  return matrix.to(device);
}

// H.264's quantiser steps, which double every six: 0.625 at 0, 1 at 4.
Tensor StepOf(const Tensor& quantiser) { return quantiser.to(at::kFloat).div(6.0).exp2().mul(0.625); }

// Table 8-15: colour is quantised more finely at the coarse end.
Tensor ColourQuantiser(const Tensor& quantiser) {
  constexpr int64_t kFrom30[] = {29, 30, 31, 32, 32, 33, 34, 34, 35, 35, 36, 36, 37, 37, 37, 38, 38, 38, 39, 39, 39, 39};
  Tensor result = quantiser.clone();
  auto values = result.accessor<int64_t, 1>();
  for (int64_t n = 0; n < values.size(0); ++n) {
    if (values[n] >= 30) values[n] = kFrom30[values[n] - 30];
  }
  return result;
}

// Planes (N x C x h x w, h and w multiples of `block`) through the transform, the quantiser and back. `step`: N.
Tensor QuantiseAndBack(const Tensor& planes, int64_t block, const Tensor& step) {
  const int64_t n = planes.size(0), c = planes.size(1), rows = planes.size(2) / block, columns = planes.size(3) / block;
  const Tensor dct = DctMatrix(block, planes.device());
  const Tensor steps = step.view({n, 1, 1, 1, 1, 1});
  Tensor x = planes.view({n, c, rows, block, columns, block}).permute({0, 1, 2, 4, 3, 5}).contiguous();
  x = at::matmul(at::matmul(dct, x), dct.t());
  const Tensor levels = x.abs().div(steps).add_(1.0 / 3).floor_();
  x = levels.mul(x.sign()).mul_(steps);
  x = at::matmul(at::matmul(dct.t(), x), dct);
  return x.permute({0, 1, 2, 4, 3, 5}).reshape(planes.sizes()).round_().clamp_(0.0, 255.0);
}

// The loop filter (8.7.2.3, boundary strength 3) on the vertical edges between blocks. alpha, beta and tc are the curves that the
// standard's tables round.
Tensor FilterEdges(const Tensor& luma, const Tensor& quantiser) {
  const int64_t n = luma.size(0), height = luma.size(2), columns = luma.size(3) / kLumaBlock;
  if (columns < 2) return luma;
  const Tensor qp = quantiser.to(at::kFloat).view({n, 1, 1});
  const Tensor alpha = qp.div(6.0).exp2().sub(1.0).mul(0.8).clamp_max(255.0), beta = qp.mul(0.5).sub(7.0).clamp_min(0.0);
  const Tensor limit = qp.div(6.0).exp2().mul(0.069).round();
  const Tensor x = luma.view({n, height, columns, kLumaBlock}).clone();
  const auto at_column = [&](bool left, int64_t column) {
    return x.slice(2, left ? 0 : 1, left ? columns - 1 : columns).select(3, column);
  };
  Tensor p0 = at_column(true, 7), p1 = at_column(true, 6), q0 = at_column(false, 0), q1 = at_column(false, 1);
  const Tensor p2 = at_column(true, 5), q2 = at_column(false, 2);
  const Tensor filtered = (p0 - q0).abs().lt(alpha) & (p1 - p0).abs().lt(beta) & (q1 - q0).abs().lt(beta);
  const Tensor flat_p = filtered & (p2 - p0).abs().lt(beta), flat_q = filtered & (q2 - q0).abs().lt(beta);
  const auto clip = [](const Tensor& value, const Tensor& most) { return at::minimum(at::maximum(value, -most), most); };
  const Tensor middle = (p0 + q0 + 1.0).mul(0.5).floor();
  const Tensor delta_p1 = clip((p2 + middle - p1 * 2.0).mul(0.5).floor(), limit) * flat_p;
  const Tensor delta_q1 = clip((q2 + middle - q1 * 2.0).mul(0.5).floor(), limit) * flat_q;
  const Tensor most = limit + flat_p.to(at::kFloat) + flat_q.to(at::kFloat);
  const Tensor delta = clip(((q0 - p0) * 4.0 + (p1 - q1) + 4.0).mul(0.125).floor(), most) * filtered;
  p0.add_(delta);
  q0.sub_(delta);
  p1.add_(delta_p1);
  q1.add_(delta_q1);
  return x.view(luma.sizes()).clamp_(0.0, 255.0);
}

}  // namespace

Tensor SimulateVideo(const Tensor& rgb, const Tensor& quantiser) {
  const at::NoGradGuard no_grad;
  const int64_t height = rgb.size(2), width = rgb.size(3);
  const auto missing = [](int64_t side) { return (2 * kLumaBlock - side % (2 * kLumaBlock)) % (2 * kLumaBlock); };
  const Tensor padded = at::replication_pad2d(rgb, {0, missing(width), 0, missing(height)});
  const Tensor r = padded.narrow(1, 0, 1), g = padded.narrow(1, 1, 1), b = padded.narrow(1, 2, 1);
  Tensor y = (r * 65.481 + g * 128.553 + b * 24.966).div_(255.0).add_(16.0).round_();
  const Tensor cb = (b * 112.0 - r * 37.797 - g * 74.203).div_(255.0).add_(128.0);
  const Tensor cr = (r * 112.0 - g * 93.786 - b * 18.214).div_(255.0).add_(128.0);
  Tensor colour = at::avg_pool2d(at::cat({cb, cr}, 1), 2).round_();

  const at::Device device = rgb.device();
  const Tensor on_device = quantiser.to(device);
  y = QuantiseAndBack(y, kLumaBlock, StepOf(on_device));
  colour = QuantiseAndBack(colour, kColourBlock, StepOf(ColourQuantiser(quantiser)).to(device));
  y = FilterEdges(y, on_device);
  y = FilterEdges(y.transpose(2, 3).contiguous(), on_device).transpose(2, 3);

  colour = at::upsample_bilinear2d(colour, {padded.size(2), padded.size(3)}, /*align_corners=*/false).sub_(128.0);
  y = y.sub(16.0).mul_(255.0 / 219);
  const Tensor u = colour.narrow(1, 0, 1).mul(255.0 / 224), v = colour.narrow(1, 1, 1).mul(255.0 / 224);
  const Tensor decoded = at::cat({y + v * 1.402, y - u * 0.344136 - v * 0.714136, y + u * 1.772}, 1).round_().clamp_(0.0, 255.0);
  return decoded.index({Slice(), Slice(), Slice(0, height), Slice(0, width)}).contiguous();
}

}  // namespace nsic
