#include "models/arch/fast_convs.h"

#include <torch/torch.h>

#include <utility>

namespace nsic {
namespace {

std::vector<float> Floats(const at::Tensor& tensor) {
  const at::Tensor host = tensor.contiguous();
  return {host.data_ptr<float>(), host.data_ptr<float>() + host.numel()};
}

}  // namespace

ConvLayer ToConvLayer(const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& slope) {
  return {static_cast<int>(weight.size(1)), static_cast<int>(weight.size(0)), Floats(weight), Floats(bias), Floats(slope)};
}

ConvStack::Workspace WorkspacePool::Take() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (idle_.empty()) return {};
  ConvStack::Workspace workspace = std::move(idle_.back());
  idle_.pop_back();
  return workspace;
}

void WorkspacePool::GiveBack(ConvStack::Workspace workspace) {
  const std::lock_guard<std::mutex> lock(mutex_);
  idle_.push_back(std::move(workspace));
}

at::Tensor FastConvs::operator()(const at::Tensor& x) const {
  const at::MemoryFormat format = x.suggest_memory_format();
  const auto layout = format == at::MemoryFormat::ChannelsLast ? ConvStack::Layout::kInterleaved : ConvStack::Layout::kPlanar;
  const at::Tensor in = x.contiguous(format);
  at::Tensor out = at::empty({in.size(0), out_channels_, in.size(2), in.size(3)}, in.options(), format);
  ConvStack::Workspace workspace = workspaces_->Take();
  for (int64_t n = 0; n < in.size(0); ++n) {
    stack_.Run({in[n].data_ptr<float>(), layout}, static_cast<int>(in.size(2)), static_cast<int>(in.size(3)),
               {out[n].data_ptr<float>(), layout}, at::get_num_threads(), &workspace);
  }
  workspaces_->GiveBack(std::move(workspace));
  return out;
}

at::Tensor FastConvs::AddTo(const at::Tensor& base, const at::Tensor& x, int fold, int out_fold) const {
  const at::Tensor in = x.contiguous();
  const at::Tensor under = base.contiguous();
  at::Tensor out = at::empty_like(under);
  ConvStack::Workspace workspace = workspaces_->Take();
  for (int64_t n = 0; n < in.size(0); ++n) {
    stack_.Run({in[n].data_ptr<float>(), ConvStack::Layout::kPlanar, fold}, static_cast<int>(in.size(2)) / fold,
               static_cast<int>(in.size(3)) / fold,
               {out[n].data_ptr<float>(), ConvStack::Layout::kPlanar, out_fold, under[n].data_ptr<float>()}, at::get_num_threads(),
               &workspace);
  }
  workspaces_->GiveBack(std::move(workspace));
  return out;
}

void FastConvs::Append(const at::Tensor& all) const {
  TORCH_CHECK(all.size(1) >= in_channels_ + out_channels_ && all.is_contiguous(at::MemoryFormat::ChannelsLast));
  const auto pixel = static_cast<int>(all.size(1));
  ConvStack::Workspace workspace = workspaces_->Take();
  for (int64_t n = 0; n < all.size(0); ++n) {
    float* const samples = all[n].data_ptr<float>();
    stack_.Run({samples, ConvStack::Layout::kInterleaved, 1, pixel}, static_cast<int>(all.size(2)), static_cast<int>(all.size(3)),
               {samples + in_channels_, ConvStack::Layout::kInterleaved, 1, nullptr, pixel}, at::get_num_threads(), &workspace);
  }
  workspaces_->GiveBack(std::move(workspace));
}

int64_t FastConvs::Bytes(int64_t height, int64_t width) const {
  return stack_.WorkspaceBytes(static_cast<int>(height), static_cast<int>(width), at::get_num_threads());
}

}  // namespace nsic
