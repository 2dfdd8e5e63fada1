// The CPU's fast path for 3x3 convolutions with LibTorch's tensors on both sides. Only where Highway was there to build it.
#ifndef NSIC_MODELS_ARCH_FAST_CONVS_H_
#define NSIC_MODELS_ARCH_FAST_CONVS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "models/arch/conv_stack.h"
#include "models/arch/network.h"

namespace nsic {

// Whether a network with these options takes the fast path: on the CPU in fp32.
inline bool RunsOnFastConvs(const NetworkOptions& options) { return options.device.is_cpu() && options.type == at::kFloat; }

// `weight` is out x in x 3 x 3, `bias` and `slope` (see ConvLayer) have a number for each output.
ConvLayer ToConvLayer(const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& slope);

// The workspaces of a network's stacks: as many as threads have called at once, kept warm. Thread-safe.
class WorkspacePool {
 public:
  ConvStack::Workspace Take();
  void GiveBack(ConvStack::Workspace workspace);

 private:
  std::mutex mutex_;
  std::vector<ConvStack::Workspace> idle_;  // guarded by mutex_
};

// A ConvStack. Thread-safe.
class FastConvs {
 public:
  FastConvs(const std::vector<ConvLayer>& layers, std::shared_ptr<WorkspacePool> workspaces)
      : stack_(layers),
        in_channels_(layers.front().in_channels),
        out_channels_(layers.back().out_channels),
        workspaces_(std::move(workspaces)) {}

  // N x in x h x w -> N x out x h x w, fp32 on the CPU, with the input's memory format: contiguous, or channels last, which is faster for
  // many channels. The threads are LibTorch's.
  at::Tensor operator()(const at::Tensor& x) const;

  // base + pixel_shuffle((*this)(pixel_unshuffle(x, fold)), out_fold) without the four copies on the way; contiguous.
  at::Tensor AddTo(const at::Tensor& base, const at::Tensor& x, int fold, int out_fold) const;

  // Reads the first channels of `all` and writes what it makes of them behind them. `all` lies as channels last, contiguous.
  void Append(const at::Tensor& all) const;

  int64_t Bytes(int64_t height, int64_t width) const;  // of one workspace

 private:
  const ConvStack stack_;
  const int64_t in_channels_;
  const int64_t out_channels_;
  const std::shared_ptr<WorkspacePool> workspaces_;
};

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_FAST_CONVS_H_
