#include "worker/draw_frame.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace nsic {
namespace {

constexpr double kSmallest = 4;         // radius, in pixels
constexpr double kLargest = 1.0 / 3;    // of the frame's height
constexpr double kPixelsPerDisc = 300;  // so many discs cover the frame several times over
constexpr int kGrain = 3;               // greatest deviation

// A linear congruential generator; its high bits are random enough.
class Dice {
 public:
  uint32_t Roll() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> 33);
  }
  double Unit() { return Roll() / 2147483648.0; }

 private:
  uint64_t state_ = 1;
};

}  // namespace

std::vector<uint8_t> DrawFrame(Size size) {
  const auto plane = static_cast<size_t>(size.area());
  std::vector<uint8_t> samples(3 * plane, 128);
  Dice dice;
  const double largest = std::max(2 * kSmallest, kLargest * size.height);
  const auto discs = static_cast<int64_t>(static_cast<double>(size.area()) / kPixelsPerDisc);
  for (int64_t disc = 0; disc < discs; ++disc) {
    // Radii by a density of r^-3, between the two: the law that makes pictures look alike at all scales.
    const double share = dice.Unit();
    const double radius = 1 / std::sqrt((1 - share) / (kSmallest * kSmallest) + share / (largest * largest));
    const double x = dice.Unit() * size.width, y = dice.Unit() * size.height;
    double colour[3];
    const double light = 30 + 195 * dice.Unit();
    for (double& channel : colour) channel = light + 60 * (dice.Unit() - 0.5);
    const double slope = 30 * (dice.Unit() - 0.5) / radius;  // of the shading, from top to bottom
    const int top = std::max(0, static_cast<int>(std::ceil(y - radius)));
    const int bottom = std::min(size.height - 1, static_cast<int>(std::floor(y + radius)));
    for (int row = top; row <= bottom; ++row) {
      const double half = std::sqrt(std::max(0.0, radius * radius - (row - y) * (row - y)));
      const int left = std::max(0, static_cast<int>(std::ceil(x - half)));
      const int right = std::min(size.width, static_cast<int>(std::floor(x + half)) + 1);
      if (left >= right) continue;
      for (size_t channel = 0; channel < 3; ++channel) {
        const double value = std::clamp(colour[channel] + slope * (row - y), 0.0, 255.0);
        uint8_t* const line = samples.data() + channel * plane + static_cast<size_t>(row) * static_cast<size_t>(size.width);
        std::fill(line + left, line + right, static_cast<uint8_t>(value));
      }
    }
  }
  for (uint8_t& sample : samples) {
    const int grain = static_cast<int>(dice.Roll() >> 8) % (2 * kGrain + 1) - kGrain;
    sample = static_cast<uint8_t>(std::clamp(sample + grain, 0, 255));
  }
  return samples;
}

}  // namespace nsic
