#include "coordinator/estimate_speed.h"

#include <algorithm>

#include "models/io/count_operations.h"

namespace nsic {
namespace {

// Two cores of a laptop were measured at 69e9 with NS-IQE.
constexpr double kMultiplyAddsPerSecond = 60e9;
constexpr double kPixelsPerMegapixel = 1e6;
constexpr double kMostMegapixels = 30;  // a second: decoding and encoding take their time, too

}  // namespace

double EstimateSpeed(const ModelCard& card, int64_t bundle_bytes) {
  double cost = MultiplyAddsPerPixel(card);
  if (cost == 0 && card.architecture != "identity") cost = static_cast<double>(bundle_bytes) / 2;
  return std::min(kMostMegapixels, kMultiplyAddsPerSecond / std::max(1.0, cost) / kPixelsPerMegapixel);
}

}  // namespace nsic
