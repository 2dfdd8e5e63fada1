#include <torch/torch.h>

#include <algorithm>
#include <thread>

#include "core/infer/engine.h"
#include "core/infer/load_network.h"
#include "core/infer/torch_errors.h"

namespace nsic {

std::string_view PrecisionName(Precision precision) {
  switch (precision) {
    case Precision::kFloat32: return "fp32";
    case Precision::kTensorFloat32: return "tf32";
    case Precision::kBFloat16: return "bf16";
    case Precision::kFloat16: return "fp16";
  }
  return "unknown";
}

Result<std::string> ResolveDevice(const std::string& device) {
  const auto cuda_devices = [] { return torch::cuda::is_available() ? static_cast<int>(torch::cuda::device_count()) : 0; };
  if (device == "cpu") return device;
  if (device == "auto") return std::string(cuda_devices() > 0 ? "cuda:0" : "cpu");
  const int count = cuda_devices();
  for (int i = 0; i < count; ++i) {
    const std::string name = "cuda:" + std::to_string(i);
    if (device == name) return name;
  }
  return InvalidArgumentError("no device '" + device + "' here; use auto, cpu" +
                              (count > 0 ? " or cuda:0 to cuda:" + std::to_string(count - 1) : " (LibTorch sees no CUDA device)"));
}

void SetEngineThreads(int threads) {
  at::set_num_threads(threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
}

void LoadedNetwork::SetThreads() const {
  // Setting builds LibTorch's thread pool anew, which takes milliseconds.
  if (at::get_num_threads() != threads) at::set_num_threads(threads);
}

Result<LoadedNetwork> LoadNetwork(const ModelPack& pack, const EngineOptions& options) {
  LoadedNetwork loaded;
  NSIC_ASSIGN_OR_RETURN(loaded.device, ResolveDevice(options.device));
  loaded.threads = options.threads > 0 ? options.threads : at::get_num_threads();
  NSIC_RETURN_IF_ERROR(CatchTorchErrors("loading model " + pack.card.name + " on " + loaded.device, [&]() -> Status {
    if (loaded.device != "cpu") {
      // The same pixels give the same bits in every call, and fp32 means fp32.
      at::globalContext().setBenchmarkCuDNN(false);
      at::globalContext().setDeterministicCuDNN(true);
      at::globalContext().setAllowTF32CuDNN(false);
    }
    NSIC_ASSIGN_OR_RETURN(loaded.network, BuildNetwork(pack, {at::Device(loaded.device), at::kFloat}));
    return OkStatus();
  }));
  return loaded;
}

}  // namespace nsic
