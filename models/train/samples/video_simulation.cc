#include "models/train/samples/video_simulation.h"

#include <torch/torch.h>

#include <cmath>
#include <utility>

namespace nsic {
namespace {

using at::Tensor;
using at::indexing::Slice;

constexpr int64_t kSmallest = 4;  // block
constexpr int64_t kLumaLargest = 32;
constexpr int64_t kColourLargest = 16;
constexpr int64_t kFilterGrid = 8;
constexpr int64_t kAdaptiveBlock = 16;
constexpr double kRounding = 0.3;      // the rest is the dead zone
constexpr double kMostAdaptation = 6;  // of QP, up or down
// Bits, roughly as arithmetic coding spends them: of a coefficient that is not zero, of each doubling of it, of a block's way and size.
constexpr double kBitsOfCoefficient = 3;
constexpr double kBitsOfDoubling = 2;
constexpr double kBitsOfBlock = 5;

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
Tensor StepOf(const Tensor& quantiser) { return quantiser.div(6.0).exp2().mul(0.625); }

// What a bit may cost in squared error (the reference encoders': 0.85 x 2^((QP - 12) / 3)).
Tensor LambdaOf(const Tensor& quantiser) { return quantiser.sub(12.0).div(3.0).exp2().mul(0.85); }

// Table 8-15, drawn as a curve: colour is quantised more finely at the coarse end.
Tensor ColourQuantiser(const Tensor& quantiser) {
  const Tensor above = quantiser.sub(29.0).clamp_min(0.0);
  return quantiser - above * 0.27 - above.square() * 0.0125;
}

// N x C x h x w to N x C x rows x columns x side x side, and back.
Tensor ToBlocks(const Tensor& planes, int64_t side) {
  const int64_t rows = planes.size(2) / side, columns = planes.size(3) / side;
  return planes.reshape({planes.size(0), planes.size(1), rows, side, columns, side}).permute({0, 1, 2, 4, 3, 5}).contiguous();
}

Tensor FromBlocks(const Tensor& blocks) {
  const int64_t rows = blocks.size(2), columns = blocks.size(3), side = blocks.size(4);
  return blocks.permute({0, 1, 2, 4, 3, 5}).reshape({blocks.size(0), blocks.size(1), rows * side, columns * side});
}

Tensor SumOfBlocks(const Tensor& blocks) { return blocks.sum(at::IntArrayRef{4, 5}); }

struct Coded {
  Tensor planes;  // N x C x h x w
  Tensor cost;    // N x C x rows x columns, of each block
};

// Each block as what was predicted of it and what is left of the rest. `quantiser` fits N x C x rows x columns.
Coded CodeRest(const Tensor& blocks, const Tensor& predicted, const Tensor& quantiser) {
  const Tensor dct = DctMatrix(blocks.size(4), blocks.device());
  const Tensor steps = StepOf(quantiser).unsqueeze(4).unsqueeze(5), lambda = LambdaOf(quantiser);
  const Tensor rest = blocks - predicted;
  const Tensor transformed = at::matmul(at::matmul(dct, rest), dct.t());
  const Tensor levels = transformed.abs().div(steps).add_(kRounding).floor_();
  Tensor coded = at::matmul(at::matmul(dct.t(), levels * transformed.sign() * steps), dct).add_(predicted);
  const Tensor bits = SumOfBlocks(levels.gt(0.0) * kBitsOfCoefficient + levels.clamp_min(1.0).log2() * kBitsOfDoubling);
  const Tensor cost = SumOfBlocks((coded - blocks).square()) + bits * lambda, dropped = SumOfBlocks(rest.square());
  coded = at::where(dropped.lt(cost).unsqueeze(4).unsqueeze(5), predicted, coded);
  return {FromBlocks(coded), at::minimum(cost, dropped) + lambda * kBitsOfBlock};
}

// The best of eleven ways to guess each block from the lines above and to the left of it, each of twice its length, in `around`.
Tensor Predict(const Tensor& blocks, const Tensor& around) {
  const int64_t side = blocks.size(4), rows = blocks.size(2), columns = blocks.size(3);
  // Of each block the line just above it, from its left corner on: N x C x rows x columns x 2 side. Transposed, that to the left.
  const auto lines_above = [side](const Tensor& planes, int64_t down, int64_t across) {
    const Tensor padded = at::replication_pad2d(planes, {0, side, 1, 0});
    return padded.slice(2, 0, (down - 1) * side + 1, side).unfold(3, 2 * side, side).narrow(3, 0, across);
  };
  const Tensor above = lines_above(around, rows, columns);
  const Tensor left = lines_above(around.transpose(2, 3), columns, rows).transpose(2, 3);
  const Tensor near_above = above.narrow(4, 0, side), near_left = left.narrow(4, 0, side);
  const Tensor from_above = near_above.unsqueeze(4), from_left = near_left.unsqueeze(5);  // 1 x side, side x 1

  Tensor best = at::cat({near_above, near_left}, 4).mean(4, /*keepdim=*/true).unsqueeze(5).expand_as(blocks);
  Tensor least = SumOfBlocks((blocks - best).abs());
  const auto offer = [&](const Tensor& guess) {
    const Tensor difference = SumOfBlocks((blocks - guess).abs());
    best = at::where(difference.lt(least).unsqueeze(4).unsqueeze(5), guess, best);
    least = at::minimum(least, difference);
  };
  offer(from_above.expand_as(blocks));
  offer(from_left.expand_as(blocks));
  const Tensor at = at::arange(side, blocks.options()), x = at.view({1, side}), y = at.view({side, 1});
  const double whole = static_cast<double>(side);
  const Tensor last_above = from_above.narrow(5, side - 1, 1), last_left = from_left.narrow(4, side - 1, 1);
  offer((from_left * (whole - 1 - x) + last_above * (x + 1.0) + from_above * (whole - 1 - y) + last_left * (y + 1.0)) / (2 * whole));
  const auto along = [&](const Tensor& line, const Tensor& place) {
    offer(line.index_select(4, place.to(at::kLong).reshape({-1})).view(blocks.sizes()));
  };
  // Along lines that fall to the right, by 1, 1/2 and 2 pixels a pixel: from the left column, read upwards, over to the line above.
  const Tensor border = at::cat({near_left.flip(4), near_above}, 4);
  for (const Tensor& place : {x - y, x - (y * 0.5).round(), (x * 0.5).round() - y}) along(border, place + whole);
  // Along lines that fall to the left from above, and that rise to the right from the left.
  for (const double slope : {1.0, 0.5}) {
    along(above, x + ((y + 1.0) * slope).round());
    along(left, y + ((x + 1.0) * slope).round());
  }
  return best;
}

// Planes whose sides are multiples of `largest`. `quantiser`: N x 1 x h / s x w / s for some s. `sides`: of each picture's largest block.
Tensor CodePlanes(const Tensor& planes, const Tensor& quantiser, const Tensor& sides, int64_t largest) {
  const auto quantiser_of = [&](int64_t side) {
    return at::adaptive_avg_pool2d(quantiser, {planes.size(2) / side, planes.size(3) / side});
  };
  const Tensor flat = ToBlocks(planes, kSmallest * 2);
  const Tensor around = CodeRest(flat, at::full({}, 128.0, flat.options()).expand_as(flat), quantiser_of(kSmallest * 2)).planes;
  Coded best;
  for (int64_t side = kSmallest; side <= largest; side *= 2) {
    const Tensor blocks = ToBlocks(planes, side);
    Coded coded = CodeRest(blocks, Predict(blocks, around), quantiser_of(side));
    if (side > kSmallest) {
      const Tensor split = at::avg_pool2d(best.cost, 2) * 4.0;
      const Tensor whole = coded.cost.lt(split) & sides.ge(side).view({-1, 1, 1, 1});
      coded.cost = at::where(whole, coded.cost, split);
      coded.planes = at::where(whole.repeat_interleave(side, 2).repeat_interleave(side, 3), coded.planes, best.planes);
    }
    best = std::move(coded);
  }
  return best.planes.round_().clamp_(0.0, 255.0);
}

// QP of each 16x16 block, N x 1 x rows x columns: textured blocks hide more.
Tensor AdaptTo(const Tensor& luma, const Tensor& quantiser, const Tensor& adaptive) {
  const Tensor blocks = ToBlocks(luma, kAdaptiveBlock);
  const Tensor spread = blocks.flatten(4).var(at::IntArrayRef({4}), /*unbiased=*/false).add(1.0).log2();
  const Tensor above = spread - spread.mean(at::IntArrayRef{1, 2, 3}, /*keepdim=*/true);
  const auto each = [](const Tensor& x) { return x.view({-1, 1, 1, 1}); };
  return (above * each(adaptive)).clamp(-kMostAdaptation, kMostAdaptation).add(each(quantiser)).clamp(0.0, 51.0);
}

// The loop filter (8.7.2.3, boundary strength 3) on the vertical edges between blocks. alpha, beta and tc are the curves that the
// standard's tables round.
Tensor FilterEdges(const Tensor& luma, const Tensor& quantiser) {
  const int64_t n = luma.size(0), height = luma.size(2), columns = luma.size(3) / kFilterGrid;
  if (columns < 2) return luma;
  const Tensor qp = quantiser.to(at::kFloat).view({n, 1, 1});
  const Tensor alpha = qp.div(6.0).exp2().sub(1.0).mul(0.8).clamp_max(255.0), beta = qp.mul(0.5).sub(7.0).clamp_min(0.0);
  const Tensor limit = qp.div(6.0).exp2().mul(0.069).round();
  const Tensor x = luma.view({n, height, columns, kFilterGrid}).clone();
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

Tensor SimulateVideo(const Tensor& rgb, const std::vector<VideoSettings>& settings) {
  const at::NoGradGuard no_grad;
  TORCH_CHECK(rgb.dim() == 4 && rgb.size(0) == static_cast<int64_t>(settings.size()), "settings for each picture");
  std::vector<float> quantisers, adaptations;
  std::vector<int64_t> luma_sides, colour_sides;
  for (const VideoSettings& one : settings) {
    quantisers.push_back(static_cast<float>(one.quantiser));
    adaptations.push_back(static_cast<float>(one.adaptive));
    luma_sides.push_back(one.largest);
    colour_sides.push_back(one.largest / 2);
  }
  const auto on_device = [&rgb](const auto& values) { return torch::tensor(values).to(rgb.device()); };
  const int64_t height = rgb.size(2), width = rgb.size(3);
  const auto missing = [](int64_t side) { return (kLumaLargest - side % kLumaLargest) % kLumaLargest; };
  const Tensor padded = at::replication_pad2d(rgb, {0, missing(width), 0, missing(height)});
  const Tensor r = padded.narrow(1, 0, 1), g = padded.narrow(1, 1, 1), b = padded.narrow(1, 2, 1);
  Tensor y = (r * 65.481 + g * 128.553 + b * 24.966).div_(255.0).add_(16.0).round_();
  const Tensor cb = (b * 112.0 - r * 37.797 - g * 74.203).div_(255.0).add_(128.0);
  const Tensor cr = (r * 112.0 - g * 93.786 - b * 18.214).div_(255.0).add_(128.0);
  Tensor colour = at::avg_pool2d(at::cat({cb, cr}, 1), 2).round_();

  const Tensor mean_quantiser = on_device(quantisers);
  const Tensor quantiser = AdaptTo(y, mean_quantiser, on_device(adaptations));
  y = CodePlanes(y, quantiser, on_device(luma_sides), kLumaLargest);
  colour = CodePlanes(colour, ColourQuantiser(quantiser), on_device(colour_sides), kColourLargest);
  y = FilterEdges(y, mean_quantiser);
  y = FilterEdges(y.transpose(2, 3).contiguous(), mean_quantiser).transpose(2, 3);

  colour = at::upsample_bilinear2d(colour, {padded.size(2), padded.size(3)}, /*align_corners=*/false).sub_(128.0);
  y = y.sub(16.0).mul_(255.0 / 219);
  const Tensor u = colour.narrow(1, 0, 1).mul(255.0 / 224), v = colour.narrow(1, 1, 1).mul(255.0 / 224);
  const Tensor decoded = at::cat({y + v * 1.402, y - u * 0.344136 - v * 0.714136, y + u * 1.772}, 1).round_().clamp_(0.0, 255.0);
  return decoded.index({Slice(), Slice(), Slice(0, height), Slice(0, width)}).contiguous();
}

}  // namespace nsic
