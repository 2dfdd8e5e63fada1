#include "models/arch/light_net.h"

#include <torch/torch.h>

namespace nsic {
namespace {

constexpr int64_t kFold = 2;                    // pixels of one cell, each way
constexpr int64_t kPlanes = 3 * kFold * kFold;  // channels of the unshuffled picture
constexpr int kTile = 512;                      // large enough that the halo costs a fifth

}  // namespace

Status CheckLightNetParameters(const std::map<std::string, int64_t>& parameters) {
  auto check = [&](const std::string& name, int64_t lowest, int64_t highest) {
    const auto found = parameters.find(name);
    if (found == parameters.end()) return InvalidArgumentError("architecture light needs the parameter '" + name + "'");
    if (found->second < lowest || found->second > highest) {
      return InvalidArgumentError("architecture light: '" + name + "' must be from " + std::to_string(lowest) + " to " +
                                  std::to_string(highest) + ", not " + std::to_string(found->second));
    }
    return OkStatus();
  };
  NSIC_RETURN_IF_ERROR(check("features", 1, 512));
  NSIC_RETURN_IF_ERROR(check("layers", 0, 64));
  if (parameters.size() != 2) return InvalidArgumentError("architecture light has the parameters 'features' and 'layers' and no others");
  return OkStatus();
}

TileSpec LightNetTiling(const std::map<std::string, int64_t>& parameters) {
  // A pixel hears from `layers + 2` cells in each direction, and from the far side of its own cell: rounded up to whole cells.
  const int64_t cells = parameters.at("layers") + 2 + 1;
  TileSpec spec;
  spec.tile = kTile;
  spec.halo = static_cast<int>(cells * kFold);
  spec.multiple = kFold;
  return spec;
}

LightNetImpl::LightNetImpl(const std::map<std::string, int64_t>& parameters) {
  const int64_t features = parameters.at("features");
  const int64_t last = parameters.at("layers") + 1;
  torch::nn::ModuleList list;
  for (int64_t i = 0; i <= last; ++i) {
    const int64_t in = i == 0 ? kPlanes : features;
    const int64_t out = i == last ? kPlanes : features;
    torch::nn::Conv2d conv(torch::nn::Conv2dOptions(in, out, 3).padding(1));
    torch::NoGradGuard no_grad;
    if (i == last) {
      conv->weight.zero_();
    } else {
      torch::nn::init::kaiming_normal_(conv->weight, 0.0, torch::kFanIn, torch::kReLU);
    }
    conv->bias.zero_();
    list->push_back(conv);
    convs_.push_back(conv);
  }
  register_module("convs", list);
}

at::Tensor LightNetImpl::forward(const at::Tensor& pictures, at::ScalarType compute) const {
  // Channels last is the layout in which oneDNN and cuDNN run small convolutions fastest, at bf16 by a factor of two.
  at::Tensor x = at::pixel_unshuffle(pictures.to(compute), kFold).contiguous(at::MemoryFormat::ChannelsLast);
  for (size_t i = 0; i < convs_.size(); ++i) {
    x = at::conv2d(x, convs_[i]->weight.to(compute), convs_[i]->bias.to(compute), /*stride=*/1, /*padding=*/1);
    if (i + 1 < convs_.size()) x.relu_();
  }
  return pictures + at::pixel_shuffle(x, kFold).to(pictures.scalar_type());
}

}  // namespace nsic
