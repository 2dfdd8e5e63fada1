// Named tensors on the host, as weight files hold them. No LibTorch here: the client and the coordinator read weight files too.
#ifndef NSIC_MODELS_IO_TENSOR_MAP_H_
#define NSIC_MODELS_IO_TENSOR_MAP_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace nsic {

enum class DType { kFloat32, kFloat16, kBFloat16, kFloat64, kInt64, kInt32, kInt16, kInt8, kUInt8, kBool };

size_t DTypeSize(DType dtype);            // bytes an element
std::string_view DTypeName(DType dtype);  // as safetensors writes it: "F32", "F16", "BF16", "I64", ...

// Contiguous, row-major, little-endian. data.size() == product(shape) * DTypeSize(dtype); a scalar has an empty shape.
struct HostTensor {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
  std::vector<std::byte> data;
};

using TensorMap = std::map<std::string, HostTensor>;

}  // namespace nsic

#endif  // NSIC_MODELS_IO_TENSOR_MAP_H_
