// The enhancers that nsic-train trains: networks with gradients, whose tensors have the names that a model pack gives them.
#ifndef NSIC_MODELS_ARCH_TRAINABLE_NET_H_
#define NSIC_MODELS_ARCH_TRAINABLE_NET_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/status.h"

namespace nsic {

// A convolution of odd or even kernel whose weights are trained. Copies share the weights.
struct TrainableConv {
  at::Tensor weight;  // out x in x k x k
  at::Tensor bias;    // out

  // In `compute`: the weights are converted on the way, and gradients flow back to them.
  at::Tensor operator()(const at::Tensor& x, at::ScalarType compute, int64_t stride = 1) const;
};

// Not thread-safe. Forward throws what LibTorch throws.
class TrainableNet {
 public:
  virtual ~TrainableNet() = default;

  // N x 3 x h x w in [0, 1], h and w multiples of the architecture's (usual_tiling.h) -> the same shape and type, not clamped. The
  // convolutions run in `compute`; where the network adds to its input, it does so in the input's type.
  virtual at::Tensor Forward(const at::Tensor& pictures, at::ScalarType compute) = 0;
  // As Network has it.
  virtual at::Tensor Conclude(const at::Tensor& seen) { return seen; }

  // By default as a new network is: learning. Otherwise batch norms use what they have learnt of their inputs.
  void SetLearning(bool learning) { learning_ = learning; }

  // The tensors of a pack: fp32, of the network's device. Weights have gradients; the statistics of batch norms have none and follow the
  // inputs while the network learns.
  const std::map<std::string, at::Tensor>& weights() const { return weights_; }
  const std::map<std::string, at::Tensor>& statistics() const { return statistics_; }

  void MoveTo(const at::Device& device);
  // From now on changes to the one's weights are changes to the other's; gradients and statistics stay their own. The same architecture
  // and parameters.
  void ShareWeightsOf(const TrainableNet& other);

 protected:
  bool learning() const { return learning_; }

  // Makes `name`.weight and `name`.bias: zero biases, and weights from a normal distribution that keeps the variance through a ReLU (He et
  // al., "Delving Deep into Rectifiers", arXiv 1502.01852) times `gain`.
  TrainableConv AddConv(const std::string& name, int64_t in, int64_t out, int64_t kernel = 3, double gain = 1);
  at::Tensor AddWeight(const std::string& name, at::Tensor value);
  at::Tensor AddStatistic(const std::string& name, at::Tensor value);

 private:
  std::map<std::string, at::Tensor> weights_;
  std::map<std::string, at::Tensor> statistics_;
  bool learning_ = true;
};

// "light", "unet", "ensemble", "ns-iqe".
std::vector<std::string> TrainableArchitectures();

// Those of the shipped packs, and of the original. INVALID_ARGUMENT when the architecture is not one of the above.
Result<std::map<std::string, int64_t>> UsualParameters(const std::string& architecture);

// A new network, on the CPU, its weights from LibTorch's random numbers. One that adds to its input gives it back bit for bit.
// INVALID_ARGUMENT when the architecture is not one of the above, or a parameter is missing, unknown or out of range.
Result<std::unique_ptr<TrainableNet>> MakeTrainableNet(const std::string& architecture, const std::map<std::string, int64_t>& parameters);

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_TRAINABLE_NET_H_
