// Reads and writes the safetensors format (8-byte little-endian header length, JSON header, raw tensors).
// Source: https://github.com/huggingface/safetensors#format
#ifndef NSIC_MODELS_IO_SAFETENSORS_H_
#define NSIC_MODELS_IO_SAFETENSORS_H_

#include <string>
#include <string_view>

#include "core/base/status.h"
#include "models/io/tensor_map.h"

namespace nsic {

// DATA_LOSS for a truncated or inconsistent file (overlapping or missing ranges, header over 100 MB), INVALID_ARGUMENT for an
// unknown dtype. `what` names the file in messages.
Result<TensorMap> ParseSafetensors(std::string_view bytes, const std::string& what);
Result<TensorMap> ReadSafetensors(const std::string& path);

// The file's bytes: tensors in the order of their names, so that the same tensors always give the same bytes.
std::string SerializeSafetensors(const TensorMap& tensors);

}  // namespace nsic

#endif  // NSIC_MODELS_IO_SAFETENSORS_H_
