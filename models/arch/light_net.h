// The light enhancer, architecture "light": plain 3x3 convolutions with ReLU on pixel-unshuffled(2) pictures, added to the input.
//
// Parameters of its pack: "features" (channels of the hidden layers) and "layers" (hidden layers between the first and the last
// convolution). Its tensors: "convs.<i>.weight" (out x in x 3 x 3) and "convs.<i>.bias", i = 0 .. layers + 1. features = 48, layers = 8
// costs 44 k multiply-adds a pixel and has 176,268 parameters. The receptive field is bounded: see LightNetHalo.
#ifndef NSIC_MODELS_ARCH_LIGHT_NET_H_
#define NSIC_MODELS_ARCH_LIGHT_NET_H_

#include <ATen/core/Tensor.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/farm/tile_grid.h"

namespace nsic {

// OK when the parameters are exactly "features" (1 to 512) and "layers" (0 to 64).
Status CheckLightNetParameters(const std::map<std::string, int64_t>& parameters);

// How the network's pictures are tiled: exact halo, multiples of 2. The parameters must have passed the check.
TileSpec LightNetTiling(const std::map<std::string, int64_t>& parameters);

class LightNetImpl : public torch::nn::Module {
 public:
  // The parameters must have passed CheckLightNetParameters. The weights are random (He), but the last convolution's are zero: a new
  // network gives back its input bit for bit.
  explicit LightNetImpl(const std::map<std::string, int64_t>& parameters);

  // N x 3 x h x w in [0, 1], h and w even -> the same shape and type, not clamped. The convolutions run in `compute` (the weights are
  // converted on the way, gradients flow back to them); the addition to the input is in the input's type.
  at::Tensor forward(const at::Tensor& pictures, at::ScalarType compute = at::kFloat) const;

 private:
  std::vector<torch::nn::Conv2d> convs_;
};
TORCH_MODULE(LightNet);

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_LIGHT_NET_H_
