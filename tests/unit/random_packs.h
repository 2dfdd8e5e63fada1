// Model packs with random weights, for tests and benchmarks. The keys and shapes are written out from the published layouts, not asked
// of the networks, so that a network that drifts from its layout fails.
#ifndef NSIC_TESTS_UNIT_RANDOM_PACKS_H_
#define NSIC_TESTS_UNIT_RANDOM_PACKS_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/base/planar_image.h"
#include "core/farm/tile_grid.h"
#include "models/io/model_pack.h"

namespace nsic {

class RandomWeights {
 public:
  explicit RandomWeights(uint64_t seed) : random_(seed) {}

  TensorMap Finish() { return std::move(tensors_); }

  void Uniform(const std::string& name, std::vector<int64_t> shape, float low, float high) {
    int64_t count = 1;
    for (int64_t side : shape) count *= side;
    std::uniform_real_distribution<float> distribution(low, high);
    HostTensor tensor;
    tensor.shape = std::move(shape);
    tensor.data.resize(static_cast<size_t>(count) * sizeof(float));
    for (int64_t i = 0; i < count; ++i) {
      const float value = distribution(random_);
      std::memcpy(tensor.data.data() + i * sizeof(float), &value, sizeof(float));
    }
    tensors_[name] = std::move(tensor);
  }

  // Scaled so that signals keep their size through many layers.
  void Conv(const std::string& name, int64_t out, int64_t in_of_group, int64_t kernel, bool bias = true) {
    const float limit = std::sqrt(3.0f / static_cast<float>(in_of_group * kernel * kernel));
    Uniform(name + ".weight", {out, in_of_group, kernel, kernel}, -limit, limit);
    if (bias) Uniform(name + ".bias", {out}, -0.1f, 0.1f);
  }

  void Norm(const std::string& name, int64_t channels) {
    Uniform(name + ".weight", {channels}, 0.5f, 1.5f);
    Uniform(name + ".bias", {channels}, -0.2f, 0.2f);
    Uniform(name + ".running_mean", {channels}, -0.2f, 0.2f);
    Uniform(name + ".running_var", {channels}, 0.5f, 1.5f);
    HostTensor counter;
    counter.dtype = DType::kInt64;
    counter.data.resize(8);
    tensors_[name + ".num_batches_tracked"] = counter;
  }

  void ConvNorm(const std::string& conv, const std::string& norm, int64_t out, int64_t in_of_group, int64_t kernel, bool bias) {
    Conv(conv, out, in_of_group, kernel, bias);
    Norm(norm, out);
  }

 private:
  std::mt19937_64 random_;
  TensorMap tensors_;
};

inline TensorMap RandomNsIqe(int64_t f, int64_t blocks, uint64_t seed) {
  RandomWeights w(seed);
  w.Conv("conv_first", f, 3, 3);
  w.ConvNorm("encoder.0", "encoder.1", 2 * f, f, 4, true);
  w.ConvNorm("encoder.3", "encoder.4", 4 * f, 2 * f, 4, true);
  for (int64_t i = 0; i < blocks; ++i) {
    const std::string name = "rrdb_blocks." + std::to_string(i) + ".";
    w.Conv(name + "dense1.0", 32, 4 * f, 3);
    w.Conv(name + "dense2.0", 32, 4 * f + 32, 3);
    w.Conv(name + "dense3.0", 32, 4 * f + 64, 3);
    w.Conv(name + "final_conv", 4 * f, 4 * f + 96, 3);
  }
  w.Conv("attention.query", 4 * f / 8, 4 * f, 1);
  w.Conv("attention.key", 4 * f / 8, 4 * f, 1);
  w.Conv("attention.value", 4 * f, 4 * f, 1);
  w.Uniform("attention.gamma", {1}, 0.5f, 1.0f);
  w.ConvNorm("upsample.1", "upsample.2", 4 * f, 4 * f, 3, true);
  w.ConvNorm("upsample.5", "upsample.6", 4 * f, 4 * f, 3, true);
  w.ConvNorm("final_conv.0", "final_conv.1", 2 * f, 4 * f, 3, true);
  w.ConvNorm("final_conv.3", "final_conv.4", f, 2 * f, 3, true);
  w.Conv("final_conv.6", 3, f, 3);
  return w.Finish();
}

inline TensorMap RandomSrvggCompact(int64_t features, int64_t layers, int64_t scale, uint64_t seed) {
  RandomWeights w(seed);
  for (int64_t i = 0; i < layers; ++i) {
    w.Conv("body." + std::to_string(2 * i), i + 1 == layers ? 3 * scale * scale : features, i == 0 ? 3 : features, 3);
    if (i + 1 < layers) w.Uniform("body." + std::to_string(2 * i + 1) + ".weight", {features}, -0.2f, 0.5f);
  }
  return w.Finish();
}

inline TensorMap RandomLight(int64_t features, int64_t layers, uint64_t seed) {
  RandomWeights w(seed);
  for (int64_t i = 0; i < layers + 2; ++i) {
    w.Conv("convs." + std::to_string(i), i == layers + 1 ? 12 : features, i == 0 ? 12 : features, 3);
  }
  return w.Finish();
}

inline TensorMap RandomNsIqa(uint64_t seed) {
  RandomWeights w(seed);
  w.ConvNorm("features.0", "features.1", 32, 3, 3, false);
  const auto separable = [&](int index, int64_t in, int64_t out) {
    const std::string name = "features." + std::to_string(index);
    w.Conv(name + ".depthwise", in, 1, 3, false);
    w.ConvNorm(name + ".pointwise", "features." + std::to_string(index + 1), out, in, 1, false);
  };
  separable(3, 32, 64);
  separable(7, 64, 128);
  separable(10, 128, 128);
  separable(14, 128, 256);
  separable(17, 256, 256);
  separable(21, 256, 512);
  w.Uniform("classifier.1.weight", {1, 512}, -1.0f, 1.0f);
  w.Uniform("classifier.1.bias", {1}, 49.0f, 51.0f);
  return w.Finish();
}

inline TensorMap RandomNsC(int64_t classes, uint64_t seed) {
  RandomWeights w(seed);
  w.ConvNorm("features.0.0", "features.0.1", 32, 3, 3, false);
  // Each row of torchvision's B0: expansion, kernel, input channels, output channels, layers.
  constexpr int64_t kStages[][5] = {{1, 3, 32, 16, 1},  {6, 3, 16, 24, 2},   {6, 5, 24, 40, 2},  {6, 3, 40, 80, 3},
                                    {6, 5, 80, 112, 3}, {6, 5, 112, 192, 4}, {6, 3, 192, 320, 1}};
  for (int64_t s = 0; s < 7; ++s) {
    const auto& [expand, kernel, stage_in, out, layers] = kStages[s];
    for (int64_t layer = 0; layer < layers; ++layer) {
      const int64_t in = layer == 0 ? stage_in : out;
      const int64_t inner = in * expand;
      const std::string block = "features." + std::to_string(s + 1) + "." + std::to_string(layer) + ".block.";
      int64_t part = 0;
      if (expand != 1) {
        w.ConvNorm(block + "0.0", block + "0.1", inner, in, 1, false);
        part = 1;
      }
      const auto at = [&](int64_t offset) { return block + std::to_string(part + offset); };
      w.ConvNorm(at(0) + ".0", at(0) + ".1", inner, 1, kernel, false);
      w.Conv(at(1) + ".fc1", in / 4, inner, 1);
      w.Conv(at(1) + ".fc2", inner, in / 4, 1);
      w.ConvNorm(at(2) + ".0", at(2) + ".1", out, inner, 1, false);
    }
  }
  w.ConvNorm("features.8.0", "features.8.1", 1280, 320, 1, false);
  w.Uniform("classifier.1.weight", {classes, 1280}, -0.1f, 0.1f);
  w.Uniform("classifier.1.bias", {classes}, -0.1f, 0.1f);
  return w.Finish();
}

// `hints` and `outputs`: 0 and 1 of "tile-iqa", 3 and the classes of "tile-c".
inline TensorMap RandomTileNet(int64_t features, int64_t hints, int64_t outputs, uint64_t seed) {
  RandomWeights w(seed);
  w.Conv("head", features, 24, 3);
  const auto linear = [&](const std::string& name, int64_t out, int64_t in) {
    const float limit = std::sqrt(3.0f / static_cast<float>(in));
    w.Uniform(name + ".weight", {out, in}, -limit, limit);
    w.Uniform(name + ".bias", {out}, -0.1f, 0.1f);
  };
  for (int64_t level = 0; level < 3; ++level) {
    const int64_t channels = features * (level + 2);
    linear("down" + std::to_string(level), channels, 4 * features * (level + 1));
    w.Conv("block" + std::to_string(level) + ".0", channels, channels, 3);
    w.Conv("block" + std::to_string(level) + ".1", channels, channels, 3);
  }
  linear("hidden", 4 * features, features * (1 + 2 + 3 + 4 + 4) + hints);
  linear("output", outputs, 4 * features);
  return w.Finish();
}

inline ModelPack MakePack(const std::string& architecture, TensorMap weights, std::map<std::string, int64_t> parameters, TileSpec tiling,
                          int scale = 1) {
  ModelPack pack;
  pack.card.name = "random-" + architecture;
  pack.card.architecture = architecture;
  pack.card.parameters = std::move(parameters);
  pack.card.tiling = tiling;
  pack.card.scale = scale;
  pack.weights = std::move(weights);
  return pack;
}

inline TileSpec HaloTiles(int tile, int halo, int multiple) { return {tile, halo, 0, multiple, BlendWindow::kNone}; }
inline TileSpec BlendedTiles(int tile, int overlap, int multiple, BlendWindow window) { return {tile, 0, overlap, multiple, window}; }

inline ModelPack IdentityPack(TileSpec tiling) { return MakePack("identity", {}, {}, tiling); }

inline ModelPack RandomNsIqePack(int64_t features, int64_t blocks, TileSpec tiling, uint64_t seed = 1) {
  return MakePack("ns-iqe", RandomNsIqe(features, blocks, seed), {{"features", features}, {"blocks", blocks}}, tiling);
}

inline ModelPack RandomLightPack(int64_t features, int64_t layers, TileSpec tiling, uint64_t seed = 2) {
  return MakePack("light", RandomLight(features, layers, seed), {{"features", features}, {"layers", layers}}, tiling);
}

inline ModelPack RandomSrvggPack(int64_t features, int64_t layers, int scale, TileSpec tiling, uint64_t seed = 3) {
  return MakePack("srvgg-compact", RandomSrvggCompact(features, layers, scale, seed), {{"features", features}, {"layers", layers}}, tiling,
                  scale);
}

// Smooth gradients with noise: flat nowhere, in [0, 1].
inline PlanarImage RandomPicture(Size size, uint64_t seed) {
  PlanarImage picture(3, size.width, size.height);
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<float> noise(0.0f, 0.4f);
  size_t i = 0;
  for (int channel = 0; channel < 3; ++channel) {
    for (int y = 0; y < size.height; ++y) {
      for (int x = 0; x < size.width; ++x) {
        picture.samples[i++] = noise(random) + 0.3f + 0.3f * std::sin(0.11f * static_cast<float>(x * (channel + 1) + y));
      }
    }
  }
  return picture;
}

}  // namespace nsic

#endif  // NSIC_TESTS_UNIT_RANDOM_PACKS_H_
