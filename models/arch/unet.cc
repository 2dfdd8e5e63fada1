#include "models/arch/unet.h"

#include <torch/torch.h>

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

constexpr int64_t kFold = 2;  // pixels of one cell, each way
constexpr int64_t kPlanes = 3 * kFold * kFold;
constexpr int64_t kLevels = 2;  // above the lowest
// Of a residual block's second convolution in a new network: the sum of many blocks must not grow.
constexpr double kBlockGain = 0.1;

int64_t Channels(const UNetShape& shape, int64_t level) { return shape.features << level; }

// What both the network that learns and the one that works are, each with layers of its own.
struct Layers {
  using Layer = std::function<at::Tensor(const at::Tensor&)>;
  Layer head, tail;
  std::vector<Layer> down, up;                                       // one a level
  std::vector<std::vector<Layer>> encode{kLevels}, decode{kLevels};  // conv, relu, conv; the block adds its input
  std::vector<Layer> middle;
};

// `make_conv(name, in, out, gain)`, `make_block(name, channels)` and `make_pointwise(name, in, out)` make the layers.
template <typename MakeConv, typename MakeBlock, typename MakePointwise>
Layers Assemble(const UNetShape& shape, MakeConv make_conv, MakeBlock make_block, MakePointwise make_pointwise) {
  Layers layers;
  layers.head = make_conv("head", kPlanes, shape.features, 1.0);
  const auto blocks = [&](const std::string& name, int64_t count, int64_t channels) {
    std::vector<Layers::Layer> made;
    for (int64_t i = 0; i < count; ++i) made.push_back(make_block(name + "." + std::to_string(i), channels));
    return made;
  };
  for (int64_t level = 0; level < kLevels; ++level) {
    const std::string suffix = std::to_string(level);
    const int64_t here = Channels(shape, level), below = Channels(shape, level + 1);
    layers.encode[static_cast<size_t>(level)] = blocks("encode" + suffix, shape.blocks, here);
    layers.down.push_back(make_pointwise("down" + suffix, 4 * here, below));
    layers.up.push_back(make_pointwise("up" + suffix, below, 4 * here));
    layers.decode[static_cast<size_t>(level)] = blocks("decode" + suffix, shape.blocks, here);
  }
  layers.middle = blocks("middle", 2 * shape.blocks, Channels(shape, kLevels));
  layers.tail = make_conv("tail", shape.features, kPlanes, 0.0);
  return layers;
}

at::Tensor Run(const Layers& layers, const at::Tensor& pictures, at::ScalarType type) {
  const auto blocks = [](const std::vector<Layers::Layer>& all, at::Tensor x) {
    for (const Layers::Layer& block : all) x = block(x).add_(x);
    return x;
  };
  at::Tensor x = layers.head(at::pixel_unshuffle(pictures.to(type), kFold).contiguous(at::MemoryFormat::ChannelsLast));
  std::vector<at::Tensor> skips;
  for (size_t level = 0; level < kLevels; ++level) {
    skips.push_back(blocks(layers.encode[level], x));
    x = layers.down[level](Fold(skips.back()));
  }
  x = blocks(layers.middle, x);
  for (size_t level = kLevels; level-- > 0;) {
    x = blocks(layers.decode[level], Unfold(layers.up[level](x)).add_(skips[level]));
    skips.pop_back();
  }
  return pictures + at::pixel_shuffle(layers.tail(x), kFold).to(pictures.scalar_type());
}

class TrainableUNet : public TrainableNet {
 public:
  explicit TrainableUNet(const UNetShape& shape) {
    const auto make_conv = [this](const std::string& name, int64_t in, int64_t out, double gain) {
      return [this, conv = AddConv(name, in, out, 3, gain)](const at::Tensor& x) { return conv(x, compute_); };
    };
    const auto make_block = [&](const std::string& name, int64_t channels) {
      return [first = make_conv(name + ".0", channels, channels, 1.0),
              second = make_conv(name + ".1", channels, channels, kBlockGain)](const at::Tensor& x) { return second(first(x).relu_()); };
    };
    const auto make_pointwise = [this](const std::string& name, int64_t in, int64_t out) {
      const double deviation = std::sqrt(1.0 / static_cast<double>(in));
      return [this, weight = AddWeight(name + ".weight", at::randn({out, in}) * deviation),
              bias = AddWeight(name + ".bias", at::zeros({out}))](const at::Tensor& x) {
        return Pointwise{weight.to(compute_), bias.to(compute_)}(x);
      };
    };
    layers_ = Assemble(shape, make_conv, make_block, make_pointwise);
  }

  at::Tensor Forward(const at::Tensor& pictures, at::ScalarType compute) override {
    compute_ = compute;
    return Run(layers_, pictures, compute);
  }

 private:
  Layers layers_;
  at::ScalarType compute_ = at::kFloat;  // of the Forward that runs
};

class UNet : public Network {
 public:
  UNet(const UNetShape& shape, const NetworkOptions& options, WeightReader& reader) : features_(shape.features), type_(options.type) {
    using Layer = Layers::Layer;
    const auto make_conv = [&](const std::string& name, int64_t in, int64_t out, double) -> Layer {
      const Conv2d conv = reader.TakeConv(name, {in, out});
#ifdef NSIC_CPU_FAST_PATH
      if (RunsOnFastConvs(options)) return Fast({ToConvLayer(conv.weight, conv.bias, at::ones({out}))});
#endif
      return conv.To(type_);
    };
    const auto make_block = [&](const std::string& name, int64_t channels) -> Layer {
      const Conv2d first = reader.TakeConv(name + ".0", {channels, channels}), second = reader.TakeConv(name + ".1", {channels, channels});
#ifdef NSIC_CPU_FAST_PATH
      if (RunsOnFastConvs(options)) {
        return Fast(
            {ToConvLayer(first.weight, first.bias, at::zeros({channels})), ToConvLayer(second.weight, second.bias, at::ones({channels}))});
      }
#endif
      return [first = first.To(type_), second = second.To(type_)](const at::Tensor& x) { return second(first(x).relu_()); };
    };
    const auto make_pointwise = [&](const std::string& name, int64_t in, int64_t out) -> Layer {
      return Pointwise{reader.Take(name + ".weight", {out, in}).to(type_), reader.Take(name + ".bias", {out}).to(type_)};
    };
    layers_ = Assemble(shape, make_conv, make_block, make_pointwise);
  }

  at::Tensor Forward(const at::Tensor& pictures) const override { return Run(layers_, pictures, type_); }

  int64_t PeakBytes(int64_t height, int64_t width) const override {
    // At the upper level: what the skip keeps, a block's input, inside and output, and what the convolutions keep of them in layouts of
    // their own; besides, the picture, its cells and the sum.
    return 4 * (height / kFold) * (width / kFold) * features_ * 8 + 4 * 3 * 4 * height * width;
  }

 private:
#ifdef NSIC_CPU_FAST_PATH
  Layers::Layer Fast(const std::vector<ConvLayer>& layers) const {
    return [convs = std::make_shared<FastConvs>(layers, workspaces_)](const at::Tensor& x) { return (*convs)(x); };
  }
#endif

  int64_t features_;
  at::ScalarType type_;
#ifdef NSIC_CPU_FAST_PATH
  const std::shared_ptr<WorkspacePool> workspaces_ = std::make_shared<WorkspacePool>();
#endif
  Layers layers_;
};

}  // namespace

UNetShape TakeUNetShape(ParameterReader& reader) { return {reader.Take("features", 4, 512), reader.Take("blocks", 1, 64)}; }

std::unique_ptr<TrainableNet> MakeTrainableUNet(const UNetShape& shape) { return std::make_unique<TrainableUNet>(shape); }

std::unique_ptr<Network> BuildUNet(const UNetShape& shape, const NetworkOptions& options, WeightReader& reader) {
  return std::make_unique<UNet>(shape, options, reader);
}

}  // namespace nsic
