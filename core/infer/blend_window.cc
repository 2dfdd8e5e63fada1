#include "core/infer/blend_window.h"

#include <algorithm>
#include <cmath>

namespace nsic {
namespace {

constexpr double kFloor = 0.1;
constexpr double kHalfPi = 1.57079632679489661923;

// -1 at the first sample, 1 at the last.
double Position(int index, int count) { return count == 1 ? 0.0 : 2.0 * index / (count - 1) - 1.0; }

double Gaussian(double d, double sigma) { return std::exp(-d * d / (2 * sigma * sigma)); }

// `d` is the distance from the tile's middle.
double Weight(BlendWindow window, double d) {
  switch (window) {
    case BlendWindow::kNone: return 1.0;
    case BlendWindow::kImprovedGaussian: return std::max(kFloor, Gaussian(d, d <= 0.5 ? 0.7 : 0.3));
    case BlendWindow::kGaussian: return Gaussian(d, 0.5);
    case BlendWindow::kLinear: return std::max(kFloor, 1.0 - d);
    case BlendWindow::kCosine: return std::max(kFloor, std::cos(std::min(d, 1.0) * kHalfPi));
    case BlendWindow::kPoisson: return std::max(kFloor, std::exp(-3.0 * d));
    case BlendWindow::kFeather: break;  // not round
  }
  return 1.0;
}

// The binomial kernel 1 4 6 4 1 along rows (stride 1) or columns (stride width), edges repeated.
void Smooth(std::vector<float>& weights, int lines, int line_stride, int count, int stride) {
  constexpr float kTaps[] = {1.0f / 16, 4.0f / 16, 6.0f / 16, 4.0f / 16, 1.0f / 16};
  std::vector<float> line(static_cast<size_t>(count));
  for (int l = 0; l < lines; ++l) {
    float* first = weights.data() + static_cast<size_t>(l) * line_stride;
    for (int i = 0; i < count; ++i) line[i] = first[static_cast<size_t>(i) * stride];
    for (int i = 0; i < count; ++i) {
      float sum = 0;
      for (int tap = -2; tap <= 2; ++tap) sum += kTaps[tap + 2] * line[std::clamp(i + tap, 0, count - 1)];
      first[static_cast<size_t>(i) * stride] = sum;
    }
  }
}

// Neighbours' ramps add up to 1 where tiles overlap by `overlap`.
std::vector<double> Ramp(int count, int overlap) {
  std::vector<double> ramp;
  for (int i = 0; i < count; ++i) {
    const double depth = (std::min(i, count - 1 - i) + 0.5) / overlap;
    const double sine = std::sin(std::min(depth, 1.0) * kHalfPi);
    ramp.push_back(sine * sine);
  }
  return ramp;
}

std::vector<float> FeatherWeights(Size tile, int overlap) {
  const std::vector<double> across = Ramp(tile.width, overlap);
  std::vector<float> weights;
  weights.reserve(static_cast<size_t>(tile.area()));
  for (const double y : Ramp(tile.height, overlap)) {
    for (const double x : across) weights.push_back(static_cast<float>(x * y));
  }
  return weights;
}

}  // namespace

std::vector<float> BlendWeights(BlendWindow window, Size tile, int overlap) {
  if (window == BlendWindow::kFeather) return FeatherWeights(tile, overlap);
  std::vector<float> weights;
  weights.reserve(static_cast<size_t>(tile.area()));
  for (int row = 0; row < tile.height; ++row) {
    const double y = Position(row, tile.height);
    for (int column = 0; column < tile.width; ++column) {
      const double x = Position(column, tile.width);
      weights.push_back(static_cast<float>(Weight(window, std::sqrt(x * x + y * y))));
    }
  }
  if (window == BlendWindow::kPoisson) {
    Smooth(weights, tile.height, tile.width, tile.width, 1);
    Smooth(weights, tile.width, 1, tile.height, tile.width);
  }
  return weights;
}

}  // namespace nsic
