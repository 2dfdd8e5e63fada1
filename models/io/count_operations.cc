#include "models/io/count_operations.h"

#include <string>

namespace nsic {
namespace {

constexpr double k3x3 = 9;
constexpr double k4x4 = 16;

// All 3x3 at half the resolution, between pixels unshuffled to twelve planes.
double Light(double features, double layers) { return k3x3 * (2 * 12 * features + layers * features * features) / 4; }

double SrvggCompact(double features, double layers, double scale) {
  return k3x3 * (3 * features + (layers - 2) * features * features + features * 3 * scale * scale);
}

// Twelve planes at half the resolution; a block costs the same at each of three levels, and between them cells become channels.
double UNet(double f, double blocks) {
  const double ends = k3x3 * 2 * 12 * f / 4;
  const double residual = k3x3 * 2 * f * f / 4 * (2 + 2 + 2) * blocks;
  const double between = 2 * (4 * f * 2 * f / 16 + 8 * f * 4 * f / 64);
  return ends + residual + between;
}

// Twelve planes and their differences at half the resolution; at each of three levels cells become channels before a block of two.
double Tile(double f) {
  double sum = k3x3 * 24 * f / 4, pixels = 4;  // of the picture for one of the level
  for (double level = 1; level <= 3; ++level) {
    const double in = level * f, out = (level + 1) * f;
    pixels *= 4;
    sum += (4 * in * out + 2 * k3x3 * out * out) / pixels;
  }
  return sum;
}

double NsIqe(double f, double blocks, double tile) {
  const double c = 4 * f, growth = 32;
  const double first = k3x3 * 3 * f;
  const double encoders = k4x4 * f * 2 * f / 4 + k4x4 * 2 * f * c / 16;
  const double block = k3x3 * (c * growth + (c + growth) * growth + (c + 2 * growth) * growth + (c + 3 * growth) * c);
  const double positions = tile * tile / 16;  // each attends to all of its tile
  const double attention = 2 * c * c / 8 + c * c + positions * (c / 8 + c);
  const double last = k3x3 * (c * c / 4 + c * c + c * 2 * f + 2 * f * f + f * 3);
  return first + encoders + (blocks * block + attention) / 16 + last;
}

}  // namespace

double MultiplyAddsPerPixel(const ModelCard& card) {
  const auto parameter = [&](const std::string& name) {
    const auto found = card.parameters.find(name);
    return found == card.parameters.end() ? 0.0 : static_cast<double>(found->second);
  };
  if (card.architecture == "light") return Light(parameter("features"), parameter("layers"));
  if (card.architecture == "unet") return UNet(parameter("features"), parameter("blocks"));
  if (card.architecture == "ensemble") {
    return Light(parameter("light_features"), parameter("light_layers")) + UNet(parameter("unet_features"), parameter("unet_blocks"));
  }
  if (card.architecture == "srvgg-compact") return SrvggCompact(parameter("features"), parameter("layers"), card.scale);
  if (card.architecture == "tile-iqa" || card.architecture == "tile-c") return Tile(parameter("features"));
  if (card.architecture == "ns-iqe") return NsIqe(parameter("features"), parameter("blocks"), card.tiling.tile);
  return 0;
}

}  // namespace nsic
