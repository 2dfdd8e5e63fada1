#include <torch/torch.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#ifdef NSIC_CPU_FAST_PATH
#include "models/arch/fast_convs.h"
#endif
#include "models/arch/light_net.h"
#include "models/arch/network.h"
#include "models/arch/ns_assess.h"
#include "models/arch/ns_iqe.h"
#include "models/arch/weights.h"

namespace nsic {
namespace {

// Returns its input; for tests of everything around the network.
class Identity : public Network {
 public:
  at::Tensor Forward(const at::Tensor& x) const override { return x; }
  int64_t PeakBytes(int64_t, int64_t) const override { return 0; }
};

#ifdef NSIC_CPU_FAST_PATH
// The light enhancer on the CPU.
class FastLight : public Network {
 public:
  FastLight(const std::map<std::string, int64_t>& parameters, WeightReader& reader)
      : convs_(Layers(parameters, reader), std::make_shared<WorkspacePool>()) {}

  at::Tensor Forward(const at::Tensor& x) const override { return x + at::pixel_shuffle(convs_(at::pixel_unshuffle(x, 2)), 2); }
  int64_t PeakBytes(int64_t height, int64_t width) const override {
    return convs_.Bytes(height / 2, width / 2) + 4 * 3 * 3 * height * width;  // the cells before and after, and the sum
  }

 private:
  static std::vector<ConvLayer> Layers(const std::map<std::string, int64_t>& parameters, WeightReader& reader) {
    const LightNet shapes(parameters);
    const torch::OrderedDict<std::string, at::Tensor> tensors = shapes->named_parameters();
    std::vector<ConvLayer> layers;
    for (size_t i = 0; i < tensors.size() / 2; ++i) {
      const std::string name = "convs." + std::to_string(i);
      const at::Tensor weight = reader.Take(name + ".weight", tensors[name + ".weight"].sizes());
      const at::Tensor bias = reader.Take(name + ".bias", tensors[name + ".bias"].sizes());
      const bool last = i + 1 == tensors.size() / 2;
      layers.push_back(ToConvLayer(weight, bias, at::full({weight.size(0)}, last ? 1.0 : 0.0)));
    }
    return layers;
  }

  FastConvs convs_;
};
#endif  // NSIC_CPU_FAST_PATH

class Light : public Network {
 public:
  Light(const std::map<std::string, int64_t>& parameters, WeightReader& reader) : net_(parameters), features_(parameters.at("features")) {
    const torch::NoGradGuard no_gradients;
    for (auto& item : net_->named_parameters()) item.value().set_data(reader.Take(item.key(), item.value().sizes()));
  }
  at::Tensor Forward(const at::Tensor& x) const override { return net_->forward(x); }
  int64_t PeakBytes(int64_t height, int64_t width) const override { return 4 * height * width * (features_ + 9); }

 private:
  LightNet net_;
  int64_t features_;
};

// SRVGGNetCompact ("Compact"): plain convolutions with PReLU, a pixel shuffle, plus the nearest-upscaled input.
// Source: https://github.com/xinntao/Real-ESRGAN, realesrgan/archs/srvgg_arch.py
class SrvggCompact : public Network {
 public:
  // `convolutions` counts the first and the last too.
  SrvggCompact(int64_t features, int64_t convolutions, int64_t scale, WeightReader& reader) : features_(features), scale_(scale) {
    for (int64_t i = 0; i < convolutions; ++i) {
      const bool last = i + 1 == convolutions;
      const std::string index = std::to_string(2 * i);
      convs_.push_back(reader.TakeConv("body." + index, {i == 0 ? 3 : features, last ? 3 * scale * scale : features}));
      if (!last) slopes_.push_back(reader.Take("body." + std::to_string(2 * i + 1) + ".weight", {features}));
    }
  }

  at::Tensor Forward(const at::Tensor& input) const override {
    // A quarter faster on the CPU than planes.
    at::Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
    for (size_t i = 0; i < slopes_.size(); ++i) x = at::prelu(convs_[i](x), slopes_[i]);
    x = at::pixel_shuffle(convs_.back()(x), scale_);
    return x.add_(at::upsample_nearest2d(input, {input.size(2) * scale_, input.size(3) * scale_}));
  }

  int64_t PeakBytes(int64_t height, int64_t width) const override { return 4 * height * width * (6 * features_ + 9 * scale_ * scale_); }

 private:
  int64_t features_;
  int64_t scale_;
  std::vector<Conv2d> convs_;
  std::vector<at::Tensor> slopes_;
};

// The parameters of a card, checked against what the architecture takes.
class ParameterReader {
 public:
  explicit ParameterReader(const ModelCard& card) : card_(card) {}

  int64_t Take(const std::string& name, int64_t low, int64_t high) {
    ++taken_;
    const auto found = card_.parameters.find(name);
    const int64_t value = found == card_.parameters.end() ? low - 1 : found->second;
    if (error_.ok() && (value < low || value > high)) {
      error_ = InvalidArgumentError("architecture " + card_.architecture + " needs the parameter \"" + name + "\" from " +
                                    std::to_string(low) + " to " + std::to_string(high));
      return low;
    }
    return error_.ok() ? value : low;
  }

  Status Finish() const {
    NSIC_RETURN_IF_ERROR(error_);
    if (card_.parameters.size() == taken_) return OkStatus();
    return InvalidArgumentError("the card has parameters that the architecture " + card_.architecture + " does not know");
  }

 private:
  const ModelCard& card_;
  size_t taken_ = 0;
  Status error_;
};

std::unique_ptr<Network> BuildLight(const std::map<std::string, int64_t>& parameters, const at::Device& device, WeightReader& reader) {
#ifdef NSIC_CPU_FAST_PATH
  if (device.is_cpu()) return std::make_unique<FastLight>(parameters, reader);
#else
  (void)device;
#endif
  return std::make_unique<Light>(parameters, reader);
}

Result<std::unique_ptr<Network>> Build(const ModelPack& pack, const at::Device& device) {
  const ModelCard& card = pack.card;
  const auto expect = [&](ModelTask task, int scale) -> Status {
    if (card.task != task) return InvalidArgumentError("architecture " + card.architecture + " does not fit the card's task");
    if (card.scale != scale) return InvalidArgumentError("architecture " + card.architecture + " has scale " + std::to_string(scale));
    return OkStatus();
  };
  ParameterReader parameters(card);
  WeightReader reader(pack.weights, device);
  std::unique_ptr<Network> network;
  if (card.architecture == "identity") {
    NSIC_RETURN_IF_ERROR(expect(ModelTask::kEnhance, 1));
    NSIC_RETURN_IF_ERROR(parameters.Finish());
    network = std::make_unique<Identity>();
  } else if (card.architecture == "light") {
    NSIC_RETURN_IF_ERROR(expect(ModelTask::kEnhance, 1));
    NSIC_RETURN_IF_ERROR(CheckLightNetParameters(card.parameters));
    network = BuildLight(card.parameters, device, reader);
  } else if (card.architecture == "ns-iqe") {
    NSIC_RETURN_IF_ERROR(expect(ModelTask::kEnhance, 1));
    const NsIqeShape shape{parameters.Take("features", 2, 512), parameters.Take("blocks", 1, 256)};
    NSIC_RETURN_IF_ERROR(parameters.Finish());
    network = BuildNsIqe(shape, reader);
  } else if (card.architecture == "srvgg-compact") {
    const int64_t features = parameters.Take("features", 1, 1024);
    const int64_t layers = parameters.Take("layers", 2, 256);
    NSIC_RETURN_IF_ERROR(parameters.Finish());
    if (card.scale < 1 || card.scale > 8) return InvalidArgumentError("architecture srvgg-compact takes scales from 1 to 8");
    NSIC_RETURN_IF_ERROR(expect(ModelTask::kEnhance, card.scale));
    network = std::make_unique<SrvggCompact>(features, layers, card.scale, reader);
  } else if (card.architecture == "ns-iqa") {
    NSIC_RETURN_IF_ERROR(expect(ModelTask::kScore, 1));
    NSIC_RETURN_IF_ERROR(parameters.Finish());
    network = BuildNsIqa(reader);
  } else if (card.architecture == "ns-c") {
    NSIC_RETURN_IF_ERROR(expect(ModelTask::kClassify, 1));
    NSIC_RETURN_IF_ERROR(parameters.Finish());
    if (card.labels.empty()) return InvalidArgumentError("a classifier's card needs \"labels\"");
    network = BuildNsC(static_cast<int64_t>(card.labels.size()), reader);
  } else {
    return InvalidArgumentError("unknown architecture '" + card.architecture +
                                "'; known: light, ns-iqe, srvgg-compact, ns-iqa, ns-c, identity");
  }
  NSIC_RETURN_IF_ERROR(reader.Finish());
  return network;
}

}  // namespace

Result<std::unique_ptr<Network>> BuildNetwork(const ModelPack& pack, const at::Device& device) {
  Result<std::unique_ptr<Network>> network = Build(pack, device);
  if (!network.ok()) return network.status().WithContext("model " + pack.card.name);
  return network;
}

}  // namespace nsic
