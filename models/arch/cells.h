// Layers between the levels of a network: 2x2 cells to channels and back, and 1x1 convolutions. Channels last, as everything around them.
#ifndef NSIC_MODELS_ARCH_CELLS_H_
#define NSIC_MODELS_ARCH_CELLS_H_

#include <torch/torch.h>

#include <cstdint>

namespace nsic {

// N x C x h x w, channels last -> N x 4 C x h/2 x w/2, channels last; the order is row, column, channel.
inline at::Tensor Fold(const at::Tensor& x) {
  const int64_t n = x.size(0), c = x.size(1), h = x.size(2) / 2, w = x.size(3) / 2;
  return x.permute({0, 2, 3, 1}).reshape({n, h, 2, w, 2, c}).permute({0, 1, 3, 2, 4, 5}).reshape({n, h, w, 4 * c}).permute({0, 3, 1, 2});
}

// The reverse: N x 4 C x h x w -> N x C x 2 h x 2 w.
inline at::Tensor Unfold(const at::Tensor& x) {
  const int64_t n = x.size(0), c = x.size(1) / 4, h = x.size(2), w = x.size(3);
  return x.permute({0, 2, 3, 1})
      .reshape({n, h, w, 2, 2, c})
      .permute({0, 1, 3, 2, 4, 5})
      .reshape({n, 2 * h, 2 * w, c})
      .permute({0, 3, 1, 2});
}

// A 1x1 convolution, as matrices: oneDNN's own rounds differently with the number of threads, the matrix product does not.
struct Pointwise {
  at::Tensor weight;  // out x in
  at::Tensor bias;

  at::Tensor operator()(const at::Tensor& x) const {
    const at::Tensor rows = x.permute({0, 2, 3, 1}).reshape({-1, x.size(1)});
    return at::addmm(bias, rows, weight.t()).reshape({x.size(0), x.size(2), x.size(3), -1}).permute({0, 3, 1, 2});
  }
};

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_CELLS_H_
