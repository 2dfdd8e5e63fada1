#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/torch.h>
#include <torch/version.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "core/base/files.h"
#include "core/infer/engine.h"
#include "core/infer/load_network.h"
#include "core/infer/torch_errors.h"

namespace nsic {
namespace {

constexpr Precision kPrecisions[] = {Precision::kFloat32, Precision::kTensorFloat32, Precision::kBFloat16, Precision::kFloat16};

at::ScalarType TypeOf(Precision precision) {
  switch (precision) {
    case Precision::kFloat32:
    case Precision::kTensorFloat32: return at::kFloat;
    case Precision::kBFloat16: return at::kBFloat16;
    case Precision::kFloat16: return at::kHalf;
  }
  return at::kFloat;
}

}  // namespace

std::string_view PrecisionName(Precision precision) {
  switch (precision) {
    case Precision::kFloat32: return "fp32";
    case Precision::kTensorFloat32: return "tf32";
    case Precision::kBFloat16: return "bf16";
    case Precision::kFloat16: return "fp16";
  }
  return "unknown";
}

Result<Precision> ParsePrecision(std::string_view name) {
  for (const Precision precision : kPrecisions) {
    if (PrecisionName(precision) == name) return precision;
  }
  return InvalidArgumentError("unknown precision '" + std::string(name) + "'; known: fp32, tf32, bf16, fp16");
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

std::vector<Precision> FasterPrecisions(const std::string& device) {
  // Those that an old card lacks are no faster there, or fail, which the probe finds.
  if (device != "cpu") return {Precision::kTensorFloat32, Precision::kBFloat16, Precision::kFloat16};
#ifdef __x86_64__
  // Without these instructions LibTorch computes bf16 too, but far slower than fp32. AMX comes with them.
  if (__builtin_cpu_supports("avx512bf16")) return {Precision::kBFloat16};
#endif
  return {};
}

Status CheckPrecision(const std::string& device, Precision precision) {
  if (precision == Precision::kFloat32) return OkStatus();
  std::string known = "fp32";
  for (const Precision faster : FasterPrecisions(device)) {
    if (faster == precision) return OkStatus();
    known += " or " + std::string(PrecisionName(faster));
  }
  return InvalidArgumentError("device " + device + " has no hardware for " + std::string(PrecisionName(precision)) + "; use " + known);
}

std::string EngineSoftware(const std::string& device) {
  std::string software = std::string("LibTorch ") + TORCH_VERSION;
  if (device == "cpu") return software;
  software += ", cuDNN " + std::to_string(at::detail::getCUDAHooks().versionCuDNN());
  const Result<std::string> driver = ReadFile("/proc/driver/nvidia/version");
  if (driver.ok()) software += ", " + driver->substr(0, driver->find('\n'));
  return software;
}

void SetEngineThreads(int threads) {
  at::set_num_threads(threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
}

void LoadedNetwork::Prepare() const {
  // Setting builds LibTorch's thread pool anew, which takes milliseconds.
  if (at::get_num_threads() != threads) at::set_num_threads(threads);
  if (device == "cpu") return;
  // One switch for the whole process, so that each network sets it to what it wants: fp32 means fp32 unless it was chosen otherwise.
  at::globalContext().setAllowTF32CuDNN(tensor_floats);
  at::globalContext().setAllowTF32CuBLAS(tensor_floats);
}

Result<LoadedNetwork> LoadNetwork(const ModelPack& pack, const EngineOptions& options) {
  LoadedNetwork loaded;
  NSIC_ASSIGN_OR_RETURN(loaded.device, ResolveDevice(options.device));
  NSIC_RETURN_IF_ERROR(CheckPrecision(loaded.device, options.precision));
  loaded.tensor_floats = options.precision == Precision::kTensorFloat32;
  loaded.threads = options.threads > 0 ? options.threads : at::get_num_threads();
  NSIC_RETURN_IF_ERROR(CatchTorchErrors("loading model " + pack.card.name + " on " + loaded.device, [&]() -> Status {
    if (loaded.device != "cpu") {
      // The same pixels give the same bits in every call.
      at::globalContext().setBenchmarkCuDNN(false);
      at::globalContext().setDeterministicCuDNN(true);
    }
    const at::Device device(loaded.device);
    NSIC_ASSIGN_OR_RETURN(loaded.network, BuildNetwork(pack, {device, TypeOf(options.precision)}));
    // Inference has streams of its own, which do not wait for the one on which the weights were converted.
    if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize();
    return OkStatus();
  }));
  return loaded;
}

}  // namespace nsic
