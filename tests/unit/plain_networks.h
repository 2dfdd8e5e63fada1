// Networks written the plain way, layer by layer by the names of the tensors, batch norms unfolded, through LibTorch's operators alone:
// what the tests hold the fast ones against, and benchmarks their speed.
#ifndef NSIC_TESTS_UNIT_PLAIN_NETWORKS_H_
#define NSIC_TESTS_UNIT_PLAIN_NETWORKS_H_

#include <torch/torch.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "models/io/tensor_map.h"

namespace nsic {

// Layers by the names of their tensors.
class Layers {
 public:
  // The tensors are fp32, but for the counters of batch norms, which no layer asks for.
  explicit Layers(const TensorMap& tensors) {
    for (const auto& [name, host] : tensors) {
      if (host.dtype != DType::kFloat32) continue;
      tensors_[name] = at::from_blob(const_cast<std::byte*>(host.data.data()), host.shape, at::kFloat).clone();
    }
  }

  bool Has(const std::string& name) const { return tensors_.count(name) > 0; }
  const at::Tensor& Get(const std::string& name) const { return tensors_.at(name); }

  at::Tensor Conv(const std::string& name, const at::Tensor& x, int64_t stride = 1, int64_t groups = 1) const {
    const at::Tensor weight = Get(name + ".weight");
    // The published layers keep the size at stride 1; the 4x4 ones halve it.
    const int64_t padding = (weight.size(2) - 1) / 2;
    const at::Tensor bias = Has(name + ".bias") ? Get(name + ".bias") : at::Tensor();
    return at::conv2d(x, weight, bias, {stride, stride}, {padding, padding}, {1, 1}, groups);
  }

  at::Tensor Norm(const std::string& name, const at::Tensor& x) const {
    return at::batch_norm(x, Get(name + ".weight"), Get(name + ".bias"), Get(name + ".running_mean"), Get(name + ".running_var"),
                          /*training=*/false, /*momentum=*/0.1, /*eps=*/1e-5, /*cudnn_enabled=*/false);
  }

 private:
  std::map<std::string, at::Tensor> tensors_;
};

inline at::Tensor Leaky(const at::Tensor& x) { return at::leaky_relu(x, 0.2); }

inline at::Tensor ReferenceNsIqe(const Layers& l, at::Tensor x) {
  x = l.Conv("conv_first", x);
  x = Leaky(l.Norm("encoder.1", l.Conv("encoder.0", x, 2)));
  x = Leaky(l.Norm("encoder.4", l.Conv("encoder.3", x, 2)));
  for (int i = 0; l.Has("rrdb_blocks." + std::to_string(i) + ".final_conv.weight"); ++i) {
    const std::string name = "rrdb_blocks." + std::to_string(i) + ".";
    at::Tensor all = x;
    for (const char* dense : {"dense1.0", "dense2.0", "dense3.0"}) all = at::cat({all, Leaky(l.Conv(name + dense, all))}, 1);
    x = Leaky(x + 0.2 * l.Conv(name + "final_conv", all));
  }
  const int64_t positions = x.size(2) * x.size(3);
  const at::Tensor q = l.Conv("attention.query", x).view({x.size(0), -1, positions}).transpose(1, 2);
  const at::Tensor k = l.Conv("attention.key", x).view({x.size(0), -1, positions});
  const at::Tensor v = l.Conv("attention.value", x).view({x.size(0), -1, positions});
  const at::Tensor attention = at::softmax(at::bmm(q, k), 2);
  x = l.Get("attention.gamma") * at::bmm(v, attention.transpose(1, 2)).view(x.sizes()) + x;
  const auto twice = [](const at::Tensor& t) { return at::upsample_bilinear2d(t, {2 * t.size(2), 2 * t.size(3)}, false); };
  x = Leaky(l.Norm("upsample.2", l.Conv("upsample.1", twice(x))));
  x = Leaky(l.Norm("upsample.6", l.Conv("upsample.5", twice(x))));
  x = Leaky(l.Norm("final_conv.1", l.Conv("final_conv.0", x)));
  x = Leaky(l.Norm("final_conv.4", l.Conv("final_conv.3", x)));
  return at::sigmoid(l.Conv("final_conv.6", x));
}

}  // namespace nsic

#endif  // NSIC_TESTS_UNIT_PLAIN_NETWORKS_H_
