#include "models/train/fit/checkpoint.h"

#include <torch/torch.h>

#include <array>
#include <cstring>
#include <utility>

#include "core/base/files.h"
#include "models/io/safetensors.h"

namespace nsic {
namespace {

constexpr char kSettings[] = "settings";
constexpr char kNotes[] = "notes";
constexpr char kProgress[] = "progress";

// The maps and the prefix of their tensors' names in the file.
template <typename CheckpointType>
auto Parts(CheckpointType& checkpoint) {
  return std::array<std::pair<std::string, decltype(&checkpoint.weights)>, 5>{{{"weights/", &checkpoint.weights},
                                                                               {"averaged/", &checkpoint.averaged},
                                                                               {"mean/", &checkpoint.mean},
                                                                               {"variance/", &checkpoint.variance},
                                                                               {"statistics/", &checkpoint.statistics}}};
}

HostTensor BytesTensor(DType dtype, int64_t count, const void* data) {
  HostTensor tensor{dtype, {count}, {}};
  tensor.data.resize(static_cast<size_t>(count) * DTypeSize(dtype));
  std::memcpy(tensor.data.data(), data, tensor.data.size());
  return tensor;
}

}  // namespace

TensorMap ToHost(const NamedTensors& tensors, at::ScalarType type) {
  TensorMap map;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor host = tensor.detach().to(at::kCPU, type).contiguous();
    HostTensor copy{type == at::kHalf ? DType::kFloat16 : DType::kFloat32, host.sizes().vec(), {}};
    copy.data.resize(host.nbytes());
    std::memcpy(copy.data.data(), host.data_ptr(), copy.data.size());
    map.emplace(name, std::move(copy));
  }
  return map;
}

Status WriteCheckpoint(const std::string& path, const Checkpoint& checkpoint) {
  TensorMap map;
  for (const auto& [prefix, tensors] : Parts(checkpoint)) {
    for (auto& [name, tensor] : ToHost(*tensors, at::kFloat)) map.emplace(prefix + name, std::move(tensor));
  }
  const std::array<int64_t, 2> progress = {checkpoint.step, checkpoint.elapsed_us};
  map.emplace(kProgress, BytesTensor(DType::kInt64, 2, progress.data()));
  for (const auto& [name, text] : {std::make_pair(kSettings, &checkpoint.settings), std::make_pair(kNotes, &checkpoint.notes)}) {
    map.emplace(name, BytesTensor(DType::kUInt8, static_cast<int64_t>(text->size()), text->data()));
  }
  return WriteFileAtomically(path, SerializeSafetensors(map));
}

Result<Checkpoint> ReadCheckpoint(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(TensorMap map, ReadSafetensors(path));
  const Status broken = DataLossError(path + ": no checkpoint of nsic-train; remove it to begin anew");
  Checkpoint checkpoint;
  const auto progress = map.find(kProgress), settings = map.find(kSettings), notes = map.find(kNotes);
  if (progress == map.end() || progress->second.data.size() != 16 || settings == map.end() || notes == map.end()) return broken;
  std::memcpy(&checkpoint.step, progress->second.data.data(), 8);
  std::memcpy(&checkpoint.elapsed_us, progress->second.data.data() + 8, 8);
  checkpoint.settings.assign(reinterpret_cast<const char*>(settings->second.data.data()), settings->second.data.size());
  checkpoint.notes.assign(reinterpret_cast<const char*>(notes->second.data.data()), notes->second.data.size());
  for (const auto& [name, tensor] : map) {
    for (const auto& [prefix, tensors] : Parts(checkpoint)) {
      if (name.compare(0, prefix.size(), prefix) != 0) continue;
      if (tensor.dtype != DType::kFloat32) return broken;
      at::Tensor copy = torch::empty(tensor.shape, at::kFloat);
      std::memcpy(copy.data_ptr(), tensor.data.data(), tensor.data.size());
      tensors->emplace(name.substr(prefix.size()), copy);
    }
  }
  return checkpoint;
}

}  // namespace nsic
