// The real PrecisionProbe: the pack's network on this device.
#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/infer/choose_precision.h"
#include "core/infer/load_network.h"
#include "core/infer/torch_errors.h"

namespace nsic {
namespace {

// A quarter each: a gradient, noise, hard black and white edges (which drive activations furthest), grey with faint lines.
std::vector<float> ProbePixels(int side) {
  std::vector<float> pixels;
  pixels.reserve(static_cast<size_t>(3 * side * side));
  uint32_t state = 1;
  for (int channel = 0; channel < 3; ++channel) {
    for (int y = 0; y < side; ++y) {
      for (int x = 0; x < side; ++x) {
        state = state * 1664525u + 1013904223u;  // Numerical Recipes' generator
        const bool right = x >= side / 2, low = y >= side / 2;
        float value = static_cast<float>(x + y * (channel + 1)) / static_cast<float>(side * (channel + 2));
        if (right && !low) value = static_cast<float>(state >> 8) / 16777216.0f;
        if (!right && low) value = static_cast<float>((x / 7 + y / 5) % 2);
        if (right && low) value = y % 4 == 0 ? 0.52f : 0.5f;
        pixels.push_back(value);
      }
    }
  }
  return pixels;
}

class NetworkProbe : public PrecisionProbe {
 public:
  NetworkProbe(const ModelPack& pack, EngineOptions options, const Clock* clock)
      : pack_(pack), options_(std::move(options)), clock_(clock) {}

  std::vector<Precision> Candidates() const override { return FasterPrecisions(options_.device); }

  Result<ProbeRun> Run(Precision precision) override {
    NSIC_ASSIGN_OR_RETURN(const LoadedNetwork* loaded, Network(precision));
    if (pixels_.empty()) {
      const int multiple = pack_.card.tiling.multiple;
      side_ = pack_.card.tiling.tile;
      while (side_ / 2 >= multiple && loaded->network->PeakBytes(side_, side_) > options_.memory_budget) {
        side_ = side_ / 2 / multiple * multiple;
      }
      pixels_ = ProbePixels(side_);
    }
    ProbeRun run;
    NSIC_RETURN_IF_ERROR(CatchTorchErrors("trying " + std::string(PrecisionName(precision)) + " on " + loaded->device, [&]() -> Status {
      const c10::InferenceMode no_gradients;
      loaded->Prepare();
      const int64_t start = clock_->MonotonicUs();
      at::Tensor y = at::from_blob(pixels_.data(), {1, 3, side_, side_}, at::kFloat).to(at::Device(loaded->device));
      y = loaded->network->Forward(y).to(at::kCPU, at::kFloat).contiguous();  // waits for the device
      run.seconds = static_cast<double>(clock_->MonotonicUs() - start) * 1e-6;
      run.output.assign(y.data_ptr<float>(), y.data_ptr<float>() + y.numel());
      return OkStatus();
    }));
    return run;
  }

 private:
  Result<const LoadedNetwork*> Network(Precision precision) {
    const auto found = networks_.find(precision);
    if (found != networks_.end()) return &found->second;
    EngineOptions options = options_;
    options.precision = precision;
    NSIC_ASSIGN_OR_RETURN(LoadedNetwork loaded, LoadNetwork(pack_, options));
    return &networks_.emplace(precision, std::move(loaded)).first->second;
  }

  const ModelPack& pack_;
  const EngineOptions options_;
  const Clock* const clock_;
  std::map<Precision, LoadedNetwork> networks_;
  int side_ = 0;
  std::vector<float> pixels_;
};

}  // namespace

Result<std::unique_ptr<PrecisionProbe>> MakeNetworkProbe(const ModelPack& pack, const EngineOptions& options, const Clock* clock) {
  EngineOptions resolved = options;
  NSIC_ASSIGN_OR_RETURN(resolved.device, ResolveDevice(options.device));
  return std::unique_ptr<PrecisionProbe>(std::make_unique<NetworkProbe>(pack, std::move(resolved), clock));
}

}  // namespace nsic
