#include "coordinator/estimate_speed.h"

#include <algorithm>
#include <map>
#include <string>

namespace nsic {
namespace {

// Two cores of a laptop were measured at 69e9 with NS-IQE.
constexpr double kMultiplyAddsPerSecond = 60e9;
constexpr double kPixelsPerMegapixel = 1e6;
constexpr double kMostMegapixels = 30;  // a second: decoding and encoding take their time, too
constexpr double kTaps = 9;             // of a 3x3 convolution

double LightNet(double features, double layers) {
  // On pictures of half the width and height with four times the channels.
  return kTaps * (12 * features + layers * features * features + features * 12) / 4;
}

double SrvggCompact(double features, double layers, double scale) {
  return kTaps * (3 * features + layers * features * features + features * 3 * scale * scale);
}

// Most of it runs at a quarter of width and height, see models/arch/ns_iqe.h. Its attention is a few hundredths of it.
double NsIqe(double features, double blocks) {
  constexpr double kGrowth = 32;
  constexpr double kDownTaps = 16;
  const double wide = 4 * features;
  const double encoder = kDownTaps * (features * 2 * features / 4 + 2 * features * wide / 16);
  const double dense = wide + (wide + kGrowth) + (wide + 2 * kGrowth);
  const double block = kTaps * (dense * kGrowth + (wide + 3 * kGrowth) * wide) / 16;
  const double upsample = kTaps * wide * wide * (1.0 / 4 + 1);
  const double tail = kTaps * (wide * 2 * features + 2 * features * features + features * 3);
  return kTaps * 3 * features + encoder + blocks * block + upsample + tail;
}

double MultiplyAddsPerPixel(const ModelCard& card, int64_t bundle_bytes) {
  const auto parameter = [&](const std::string& name) {
    const auto found = card.parameters.find(name);
    return found == card.parameters.end() ? 0.0 : static_cast<double>(found->second);
  };
  if (card.architecture == "identity") return 0;
  if (card.architecture == "light") return LightNet(parameter("features"), parameter("layers"));
  if (card.architecture == "srvgg-compact") return SrvggCompact(parameter("features"), parameter("layers"), card.scale);
  if (card.architecture == "ns-iqe") return NsIqe(parameter("features"), parameter("blocks"));
  return static_cast<double>(bundle_bytes) / 2;
}

}  // namespace

double EstimateSpeed(const ModelCard& card, int64_t bundle_bytes) {
  const double cost = std::max(1.0, MultiplyAddsPerPixel(card, bundle_bytes));
  return std::min(kMostMegapixels, kMultiplyAddsPerSecond / cost / kPixelsPerMegapixel);
}

}  // namespace nsic
