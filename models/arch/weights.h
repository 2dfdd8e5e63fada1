// Takes a network's weights out of a pack, checked by name and shape, and folds batch norms into the convolutions before them.
#ifndef NSIC_MODELS_ARCH_WEIGHTS_H_
#define NSIC_MODELS_ARCH_WEIGHTS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <set>
#include <string>
#include <utility>

#include "core/base/status.h"
#include "models/io/tensor_map.h"

namespace nsic {

// A convolution as inference needs it. Square kernel, zero padding that keeps the size at stride 1 unless told.
struct Conv2d {
  at::Tensor weight;  // out x in/groups x k x k
  at::Tensor bias;    // out, or undefined
  int64_t stride = 1;
  int64_t padding = 0;
  int64_t groups = 1;

  at::Tensor operator()(const at::Tensor& x) const;
  Conv2d To(at::ScalarType type) const;
};

struct ConvShape {
  int64_t in = 0;
  int64_t out = 0;
  int64_t kernel = 3;
  int64_t stride = 1;
  int64_t padding = 1;
  int64_t groups = 1;
  bool bias = true;
};

// Hands out tensors and remembers the first thing that is wrong, so that a network's builder reads like its definition.
// After an error the tensors are zeros of the shape that was asked for; Finish() tells.
class WeightReader {
 public:
  // Keeps a reference to `tensors`. Every tensor comes out as fp32 on `device`.
  WeightReader(const TensorMap& tensors, const at::Device& device) : tensors_(tensors), device_(device) {}

  // What stands before the names that are asked for from now on, as the tensors of a network within a network have it.
  void SetPrefix(std::string prefix) { prefix_ = std::move(prefix); }

  at::Tensor Take(const std::string& name, at::IntArrayRef shape);

  // `name`.weight and, if the shape says so, `name`.bias.
  Conv2d TakeConv(const std::string& name, const ConvShape& shape);

  // The convolution `conv` followed by the batch norm `norm` (in evaluation mode, eps 1e-5), as one convolution.
  // `norm`.num_batches_tracked, a training counter, may be there.
  Conv2d TakeConvNorm(const std::string& conv, const std::string& norm, const ConvShape& shape);

  // The first missing or misshapen tensor, or a tensor that nobody took; OK if all is well.
  Status Finish() const;

 private:
  const TensorMap& tensors_;
  const at::Device device_;
  std::string prefix_;
  std::set<std::string> taken_;
  Status error_;
};

// The shape as messages write it: "[64, 3, 3, 3]".
std::string ShapeText(at::IntArrayRef shape);

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_WEIGHTS_H_
