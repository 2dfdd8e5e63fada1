// The real PrecisionProbe: the pack's network on this device.
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/infer/choose_precision.h"
#include "core/infer/tile_runner.h"

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
    NSIC_ASSIGN_OR_RETURN(TileRunner * runner, Runner(precision));
    if (pixels_.empty()) {
      const int multiple = pack_.card.tiling.multiple;
      side_ = pack_.card.tiling.tile;
      while (side_ / 2 >= multiple && runner->TileBytes({side_, side_}) > options_.memory_budget) {
        side_ = side_ / 2 / multiple * multiple;
      }
      pixels_ = ProbePixels(side_);
    }
    // As many as are computed at once in a job, so that none waits for the others here and not there.
    const Batching batching = runner->batching();
    const int tiles = batching.threads > 0 ? batching.threads : batching.tiles * batching.in_flight;
    EnhanceStats stats;
    ProbeRun run;
    const int64_t start = clock_->MonotonicUs();
    TileStream stream(runner, pack_.card.name, {side_, side_}, tiles, options_.memory_budget, &stats);
    for (int i = 0; i < tiles; ++i) {
      NSIC_RETURN_IF_ERROR(stream.Add(
          {0, 0, side_, side_},
          [this](float* in) {
            std::copy(pixels_.begin(), pixels_.end(), in);
            return OkStatus();
          },
          [this, &run](const float* out) {
            run.output.assign(out, out + pixels_.size() * static_cast<size_t>(pack_.card.scale * pack_.card.scale));
            return OkStatus();
          }));
    }
    NSIC_RETURN_IF_ERROR(stream.Finish());
    run.seconds = static_cast<double>(clock_->MonotonicUs() - start) * 1e-6 / tiles;
    if (stats.tiles_redone > 0) return DataLossError("it gives NaN, Inf or a flat picture");
    return run;
  }

 private:
  Result<TileRunner*> Runner(Precision precision) {
    std::unique_ptr<TileRunner>& runner = runners_[precision];
    if (runner == nullptr) {
      EngineOptions options = options_;
      options.precision = precision;
      NSIC_ASSIGN_OR_RETURN(runner, LoadTileRunner(pack_, options));
    }
    return runner.get();
  }

  const ModelPack& pack_;
  const EngineOptions options_;
  const Clock* const clock_;
  std::map<Precision, std::unique_ptr<TileRunner>> runners_;
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
