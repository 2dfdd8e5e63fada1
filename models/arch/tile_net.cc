#include "models/arch/tile_net.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "models/arch/cells.h"
#ifdef NSIC_CPU_FAST_PATH
#include "models/arch/fast_convs.h"
#endif

namespace nsic {
namespace {

using at::Tensor;

constexpr int64_t kFold = 2;  // pixels of one cell, each way
constexpr int64_t kLevels = 3;
constexpr int64_t kPlanes = 6;         // that are folded: the picture's and the differences'
constexpr double kPooledFloor = 1e-2;  // keeps logarithms finite: what is seen less than this is not there

// Channels of level `level`, 0 being the head's.
int64_t Channels(const TileNetShape& shape, int64_t level) { return shape.features * (level + 1); }

int64_t Pooled(const TileNetShape& shape) {
  int64_t pooled = Channels(shape, kLevels) + shape.hints;
  for (int64_t level = 0; level <= kLevels; ++level) pooled += Channels(shape, level);
  return pooled;
}

struct Linear {
  Tensor weight;  // out x in
  Tensor bias;
  Tensor operator()(const Tensor& x) const { return at::addmm(bias, x, weight.t()); }
};

// What both the network that learns and the one that works are, each with convolutions of its own.
struct Layers {
  using Layer = std::function<Tensor(const Tensor&)>;
  Layer head;
  std::vector<Layer> down, block;  // one a level; a block is conv, relu, conv, and its input is added
  Linear hidden, output;
};

Tensor See(const Layers& layers, const Tensor& x, const TileNetShape& shape, at::ScalarType type) {
  // Around zero, about as wide as what new weights expect.
  const Tensor rgb = x.narrow(1, 0, 3);
  const Tensor fine = (rgb - at::avg_pool2d(rgb, {3, 3}, {1, 1}, {1, 1}, false, /*count_include_pad=*/false)).mul(16.0).clamp(-2.0, 2.0);
  const Tensor picture = at::cat({rgb.sub(0.5).mul_(4.0), fine}, 1).to(type);
  std::vector<Tensor> seen;
  const auto mean = [](const Tensor& y) { return y.to(at::kFloat).mean({2, 3}); };
  Tensor y = layers.head(at::pixel_unshuffle(picture, kFold).contiguous(at::MemoryFormat::ChannelsLast)).relu_();
  seen.push_back(mean(y));
  for (size_t level = 0; level < kLevels; ++level) {
    y = layers.down[level](Fold(y));
    y = layers.block[level](y).add_(y).relu_();
    seen.push_back(mean(y));
  }
  seen.push_back(mean(y.to(at::kFloat).square()));
  if (shape.hints > 0) seen.push_back(x.narrow(1, 3, shape.hints).select(3, 0).select(2, 0));
  return at::cat(seen, 1);
}

Tensor Judge(const Layers& layers, const Tensor& seen, const TileNetShape& shape) {
  const int64_t pooled = seen.size(1) - shape.hints;
  const Tensor logarithms = seen.narrow(1, 0, pooled).add(kPooledFloor).log();
  return layers.output(layers.hidden(at::cat({logarithms, seen.narrow(1, pooled, shape.hints)}, 1)).relu());
}

class TrainableTileNet : public TrainableNet {
 public:
  explicit TrainableTileNet(const TileNetShape& shape) : shape_(shape) {
    const auto make_conv = [this](const std::string& name, int64_t in, int64_t out, double gain) {
      return [this, conv = AddConv(name, in, out, 3, gain)](const Tensor& x) { return conv(x, compute_); };
    };
    const auto make_weight = [this](const std::string& name, int64_t in, int64_t out) {
      return std::make_pair(AddWeight(name + ".weight", at::randn({out, in}) * std::sqrt(1.0 / static_cast<double>(in))),
                            AddWeight(name + ".bias", at::zeros({out})));
    };
    layers_.head = make_conv("head", kPlanes * kFold * kFold, shape.features, 1.0);
    for (int64_t level = 0; level < kLevels; ++level) {
      const std::string suffix = std::to_string(level);
      const int64_t channels = Channels(shape, level + 1);
      const auto [weight, bias] = make_weight("down" + suffix, 4 * Channels(shape, level), channels);
      layers_.down.push_back([this, weight = weight, bias = bias](const Tensor& x) {
        return Pointwise{weight.to(compute_), bias.to(compute_)}(x);
      });
      layers_.block.push_back(
          [first = make_conv("block" + suffix + ".0", channels, channels, 1.0),
           second = make_conv("block" + suffix + ".1", channels, channels, 0.5)](const Tensor& x) { return second(first(x).relu_()); });
    }
    const auto make_linear = [&](const std::string& name, int64_t in, int64_t out) {
      const auto [weight, bias] = make_weight(name, in, out);
      return Linear{weight, bias};
    };
    layers_.hidden = make_linear("hidden", Pooled(shape), Channels(shape, kLevels));
    layers_.output = make_linear("output", Channels(shape, kLevels), shape.outputs);
  }

  Tensor Forward(const Tensor& tiles, at::ScalarType compute) override {
    compute_ = compute;
    return See(layers_, tiles, shape_, compute);
  }

  Tensor Conclude(const Tensor& seen) override { return Judge(layers_, seen, shape_); }

 private:
  const TileNetShape shape_;
  Layers layers_;
  at::ScalarType compute_ = at::kFloat;  // of the Forward that runs
};

class TileNet : public Network {
 public:
  TileNet(const TileNetShape& shape, const NetworkOptions& options, WeightReader& reader) : shape_(shape) {
    using Layer = Layers::Layer;
    const auto take = [&](const std::string& name, int64_t in, int64_t out) { return reader.TakeConv(name, {in, out}); };
    const Conv2d head = take("head", kPlanes * kFold * kFold, shape.features);
    layers_.head = head;
#ifdef NSIC_CPU_FAST_PATH
    if (RunsOnFastConvs(options)) layers_.head = Fast({ToConvLayer(head.weight, head.bias, at::zeros({shape.features}))});
#endif
    for (int64_t level = 0; level < kLevels; ++level) {
      const std::string suffix = std::to_string(level);
      const int64_t channels = Channels(shape, level + 1);
      layers_.down.push_back(Pointwise{reader.Take("down" + suffix + ".weight", {channels, 4 * Channels(shape, level)}),
                                       reader.Take("down" + suffix + ".bias", {channels})});
      const Conv2d first = take("block" + suffix + ".0", channels, channels), second = take("block" + suffix + ".1", channels, channels);
      Layer block = [first, second](const Tensor& x) { return second(first(x).relu_()); };
#ifdef NSIC_CPU_FAST_PATH
      if (RunsOnFastConvs(options)) {
        block = Fast(
            {ToConvLayer(first.weight, first.bias, at::zeros({channels})), ToConvLayer(second.weight, second.bias, at::ones({channels}))});
      }
#endif
      layers_.block.push_back(std::move(block));
    }
    const auto take_linear = [&](const std::string& name, int64_t in, int64_t out) {
      return Linear{reader.Take(name + ".weight", {out, in}), reader.Take(name + ".bias", {out})};
    };
    layers_.hidden = take_linear("hidden", Pooled(shape), Channels(shape, kLevels));
    layers_.output = take_linear("output", Channels(shape, kLevels), shape.outputs);
  }

  Tensor Forward(const Tensor& tiles) const override { return See(layers_, tiles, shape_, at::kFloat); }
  Tensor Conclude(const Tensor& seen) const override { return Judge(layers_, seen, shape_); }

  // The widest moment is the first level's block at a quarter of the size: its input, inside, output, and what the convolutions keep of
  // them in a layout of their own; besides, the picture and its cells.
  int64_t PeakBytes(int64_t height, int64_t width) const override { return 4 * height * width * (2 * shape_.features + 24); }

 private:
#ifdef NSIC_CPU_FAST_PATH
  Layers::Layer Fast(const std::vector<ConvLayer>& layers) const {
    return [convs = std::make_shared<FastConvs>(layers, workspaces_)](const Tensor& x) { return (*convs)(x); };
  }

  const std::shared_ptr<WorkspacePool> workspaces_ = std::make_shared<WorkspacePool>();
#endif
  const TileNetShape shape_;
  Layers layers_;
};

}  // namespace

TileNetShape TakeScorerShape(ParameterReader& reader) { return {reader.Take("features", 4, 256), 0, 1}; }

TileNetShape TakeClassifierShape(ParameterReader& reader, int64_t classes) {
  return {reader.Take("features", 4, 256), kJpegHints, classes};
}

std::array<float, kJpegHints> HintsOf(const std::array<uint16_t, 64>& luma, const std::array<uint16_t, 64>& chroma) {
  const auto hint = [](const std::array<uint16_t, 64>& table) {
    double sum = 0;
    for (uint16_t step : table) sum += step;
    return static_cast<float>(std::log2(std::max(1.0, sum / 64)) / 8);
  };
  return {1.0f, hint(luma), hint(chroma)};
}

std::unique_ptr<TrainableNet> MakeTrainableTileNet(const TileNetShape& shape) { return std::make_unique<TrainableTileNet>(shape); }

std::unique_ptr<Network> BuildTileNet(const TileNetShape& shape, const NetworkOptions& options, WeightReader& reader) {
  return std::make_unique<TileNet>(shape, options, reader);
}

}  // namespace nsic
