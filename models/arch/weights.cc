#include "models/arch/weights.h"

#include <torch/torch.h>

#include <utility>

namespace nsic {
namespace {

at::ScalarType ScalarTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return at::kFloat;
    case DType::kFloat16: return at::kHalf;
    case DType::kBFloat16: return at::kBFloat16;
    case DType::kFloat64: return at::kDouble;
    case DType::kInt64: return at::kLong;
    case DType::kInt32: return at::kInt;
    case DType::kInt16: return at::kShort;
    case DType::kInt8: return at::kChar;
    case DType::kUInt8: return at::kByte;
    case DType::kBool: return at::kBool;
  }
  return at::kFloat;
}

constexpr double kBatchNormEps = 1e-5;

}  // namespace

std::string ShapeText(at::IntArrayRef shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

at::Tensor Conv2d::operator()(const at::Tensor& x) const {
  return at::conv2d(x, weight, bias, {stride, stride}, {padding, padding}, {1, 1}, groups);
}

Conv2d Conv2d::To(at::ScalarType type) const {
  Conv2d conv = *this;
  conv.weight = weight.to(type);
  // As pictures lie where cuDNN has tensor cores; it would lay the weights out anew in every call.
  if (!weight.device().is_cpu()) conv.weight = conv.weight.contiguous(at::MemoryFormat::ChannelsLast);
  if (bias.defined()) conv.bias = bias.to(type);
  return conv;
}

at::Tensor WeightReader::Take(const std::string& short_name, at::IntArrayRef shape) {
  const std::string name = prefix_ + short_name;
  taken_.insert(name);
  const auto remember = [this](std::string message) {
    if (error_.ok()) error_ = InvalidArgumentError(std::move(message));
  };
  const auto zeros = [&] { return at::zeros(shape, at::TensorOptions(at::kFloat).device(device_)); };
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    remember("tensor " + name + " " + ShapeText(shape) + " is missing");
    return zeros();
  }
  const HostTensor& host = found->second;
  if (at::IntArrayRef(host.shape) != shape) {
    remember("tensor " + name + " has shape " + ShapeText(host.shape) + ", the architecture wants " + ShapeText(shape));
    return zeros();
  }
  // from_blob wants a mutable pointer; the copy is made before anybody could write through it.
  void* data = const_cast<std::byte*>(host.data.data());
  return at::from_blob(data, host.shape, at::TensorOptions(ScalarTypeOf(host.dtype)))
      .to(at::TensorOptions(at::kFloat).device(device_), /*non_blocking=*/false, /*copy=*/true);
}

Conv2d WeightReader::TakeConv(const std::string& name, const ConvShape& shape) {
  Conv2d conv;
  conv.weight = Take(name + ".weight", {shape.out, shape.in / shape.groups, shape.kernel, shape.kernel});
  if (shape.bias) conv.bias = Take(name + ".bias", {shape.out});
  conv.stride = shape.stride;
  conv.padding = shape.padding;
  conv.groups = shape.groups;
  return conv;
}

Conv2d WeightReader::TakeConvNorm(const std::string& conv_name, const std::string& norm, const ConvShape& shape) {
  Conv2d conv = TakeConv(conv_name, shape);
  // In double, so that folding itself adds no error worth speaking of.
  const at::Tensor gamma = Take(norm + ".weight", {shape.out}).to(at::kDouble);
  const at::Tensor beta = Take(norm + ".bias", {shape.out}).to(at::kDouble);
  const at::Tensor mean = Take(norm + ".running_mean", {shape.out}).to(at::kDouble);
  const at::Tensor variance = Take(norm + ".running_var", {shape.out}).to(at::kDouble);
  taken_.insert(prefix_ + norm + ".num_batches_tracked");
  const at::Tensor factor = gamma / (variance + kBatchNormEps).sqrt();
  const at::Tensor bias = conv.bias.defined() ? conv.bias.to(at::kDouble) : at::zeros_like(mean);
  conv.weight = (conv.weight.to(at::kDouble) * factor.view({-1, 1, 1, 1})).to(at::kFloat);
  conv.bias = ((bias - mean) * factor + beta).to(at::kFloat);
  return conv;
}

Status WeightReader::Finish() const {
  NSIC_RETURN_IF_ERROR(error_);
  for (const auto& [name, tensor] : tensors_) {
    if (taken_.count(name) == 0)
      return InvalidArgumentError("tensor " + name + " " + ShapeText(tensor.shape) + " does not belong to the architecture");
  }
  return OkStatus();
}

}  // namespace nsic
