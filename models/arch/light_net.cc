#include "models/arch/light_net.h"

#include <torch/torch.h>

#include <string>
#include <utility>
#include <vector>

#ifdef NSIC_CPU_FAST_PATH
#include "models/arch/fast_convs.h"
#endif

namespace nsic {
namespace {

constexpr int64_t kFold = 2;                    // pixels of one cell, each way
constexpr int64_t kPlanes = 3 * kFold * kFold;  // channels of the unshuffled picture

struct ConvChannels {
  std::string name;
  int64_t in, out;
};

// Of a new network's hidden layers, which begin as the identity and so much of random weights: a residual block's start without its sum
// when the network works. After 2000 steps of the recipe kairitsu it had gained 1.20 dB at quality 10, against 1.09 from random weights.
constexpr double kHiddenGain = 0.1;

std::vector<ConvChannels> Convs(const LightShape& shape) {
  std::vector<ConvChannels> convs;
  for (int64_t i = 0; i <= shape.layers + 1; ++i) {
    convs.push_back({"convs." + std::to_string(i), i == 0 ? kPlanes : shape.features, i > shape.layers ? kPlanes : shape.features});
  }
  return convs;
}

class TrainableLight : public TrainableNet {
 public:
  explicit TrainableLight(const LightShape& shape) {
    const std::vector<ConvChannels> all = Convs(shape);
    for (const ConvChannels& conv : all) {
      const bool hidden = conv.in == conv.out, last = &conv == &all.back();
      convs_.push_back(AddConv(conv.name, conv.in, conv.out, 3, last ? 0 : hidden ? kHiddenGain : 1));
      if (hidden) convs_.back().weight.data().select(3, 1).select(2, 1).add_(at::eye(conv.in));
    }
  }

  at::Tensor Forward(const at::Tensor& pictures, at::ScalarType compute) override {
    // Channels last is the layout in which oneDNN and cuDNN run small convolutions fastest, at bf16 by a factor of two.
    at::Tensor x = at::pixel_unshuffle(pictures.to(compute), kFold).contiguous(at::MemoryFormat::ChannelsLast);
    for (size_t i = 0; i < convs_.size(); ++i) {
      x = convs_[i](x, compute);
      if (i + 1 < convs_.size()) x.relu_();
    }
    return pictures + at::pixel_shuffle(x, kFold).to(pictures.scalar_type());
  }

 private:
  std::vector<TrainableConv> convs_;
};

class Light : public Network {
 public:
  Light(const LightShape& shape, at::ScalarType type, WeightReader& reader) : features_(shape.features), type_(type) {
    for (const ConvChannels& conv : Convs(shape)) convs_.push_back(reader.TakeConv(conv.name, {conv.in, conv.out}).To(type));
  }

  at::Tensor Forward(const at::Tensor& pictures) const override {
    at::Tensor x = at::pixel_unshuffle(pictures.to(type_), kFold).contiguous(at::MemoryFormat::ChannelsLast);
    for (size_t i = 0; i < convs_.size(); ++i) {
      x = convs_[i](x);
      if (i + 1 < convs_.size()) x.relu_();
    }
    return pictures + at::pixel_shuffle(x, kFold).to(pictures.scalar_type());
  }

  int64_t PeakBytes(int64_t height, int64_t width) const override { return 4 * height * width * (features_ + 9); }

 private:
  int64_t features_;
  at::ScalarType type_;
  std::vector<Conv2d> convs_;
};

#ifdef NSIC_CPU_FAST_PATH
// On the CPU in fp32.
class FastLight : public Network {
 public:
  FastLight(const LightShape& shape, WeightReader& reader) : convs_(Layers(shape, reader), std::make_shared<WorkspacePool>()) {}

  at::Tensor Forward(const at::Tensor& x) const override { return convs_.AddTo(x, x, kFold, kFold); }
  int64_t PeakBytes(int64_t height, int64_t width) const override {
    return convs_.Bytes(height / kFold, width / kFold) + 4 * 3 * height * width;  // the sum
  }

 private:
  static std::vector<ConvLayer> Layers(const LightShape& shape, WeightReader& reader) {
    std::vector<ConvLayer> layers;
    for (const ConvChannels& conv : Convs(shape)) {
      const Conv2d taken = reader.TakeConv(conv.name, {conv.in, conv.out});
      layers.push_back(ToConvLayer(taken.weight, taken.bias, at::zeros({conv.out})));
    }
    layers.back().slope.assign(layers.back().slope.size(), 1.0f);  // the last one is not rectified
    return layers;
  }

  FastConvs convs_;
};
#endif  // NSIC_CPU_FAST_PATH

}  // namespace

LightShape TakeLightShape(ParameterReader& reader) { return {reader.Take("features", 1, 512), reader.Take("layers", 0, 64)}; }

std::unique_ptr<TrainableNet> MakeTrainableLight(const LightShape& shape) { return std::make_unique<TrainableLight>(shape); }

std::unique_ptr<Network> BuildLight(const LightShape& shape, const NetworkOptions& options, WeightReader& reader) {
#ifdef NSIC_CPU_FAST_PATH
  if (RunsOnFastConvs(options)) return std::make_unique<FastLight>(shape, reader);
#endif
  return std::make_unique<Light>(shape, options.type, reader);
}

}  // namespace nsic
