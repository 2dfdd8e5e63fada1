// A network on its device. For core/infer only: LibTorch types appear here.
#ifndef NSIC_CORE_INFER_LOAD_NETWORK_H_
#define NSIC_CORE_INFER_LOAD_NETWORK_H_

#include <memory>
#include <string>

#include "core/base/status.h"
#include "core/infer/engine.h"
#include "models/arch/network.h"

namespace nsic {

struct LoadedNetwork {
  std::unique_ptr<Network> network;
  std::string device;  // as ResolveDevice gives it
  int threads = 1;
  bool tensor_floats = false;  // on CUDA: fp32 products in TF32

  // To be called before each inference: OpenMP keeps the number of threads for each calling thread, LibTorch the use of TF32 for all.
  void Prepare() const;
};

// In options.precision. INVALID_ARGUMENT when the device has no hardware for it.
Result<LoadedNetwork> LoadNetwork(const ModelPack& pack, const EngineOptions& options);

}  // namespace nsic

#endif  // NSIC_CORE_INFER_LOAD_NETWORK_H_
