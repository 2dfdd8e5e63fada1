// A network, ready for inference. What the engine sees of an architecture. For models/ and core/infer only: LibTorch types appear here.
#ifndef NSIC_MODELS_ARCH_NETWORK_H_
#define NSIC_MODELS_ARCH_NETWORK_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <memory>

#include "core/base/status.h"
#include "models/io/model_pack.h"

namespace nsic {

// Immutable after it is built; Forward may be called from several threads. Throws what LibTorch throws.
class Network {
 public:
  virtual ~Network() = default;

  // fp32 goes in and comes out, whatever the network computes in.
  // An enhancer: N x 3 x h x w in [0, 1], h and w multiples of the pack's tiling.multiple -> N x 3 x (scale h) x (scale w).
  // NS-IQA: N x 3 x 256 x 256, normalised -> N x 1, the score. NS-C: the same -> N x classes, before the softmax.
  // "tile-iqa" and "tile-c": see tile_net.h.
  virtual at::Tensor Forward(const at::Tensor& x) const = 0;

  // What the network says, where Forward only gives what it saw: "tile-iqa" and "tile-c". Of every other, Forward's output as it is.
  virtual at::Tensor Conclude(const at::Tensor& seen) const { return seen; }

  // An upper estimate of the bytes that Forward takes at its peak for one h x w picture: activations and the convolutions' scratch.
  virtual int64_t PeakBytes(int64_t height, int64_t width) const = 0;
};

struct NetworkOptions {
  at::Device device = at::kCPU;
  at::ScalarType type = at::kFloat;  // of weights and activations: kFloat, kBFloat16 or kHalf
};

// Builds the network that the card names and fills it with the pack's weights. INVALID_ARGUMENT when the architecture or a parameter is
// unknown or out of range, a tensor is missing, extra or of the wrong shape (named), or anything but an enhancer is asked for in another
// type than fp32.
Result<std::unique_ptr<Network>> BuildNetwork(const ModelPack& pack, const NetworkOptions& options);

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_NETWORK_H_
