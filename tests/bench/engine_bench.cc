// Megapixels a second of the enhancers on the CPU, all cores: `engine_bench` (see --help for filters and repetitions).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <string>

#include "core/base/cancel.h"
#include "core/infer/engine.h"
#include "tests/unit/random_packs.h"

namespace nsic {
namespace {

// Enhances a whole picture again and again. Arguments: width, height, tile.
void Enhance(benchmark::State& state, ModelPack pack) {
  const Size size{static_cast<int>(state.range(0)), static_cast<int>(state.range(1))};
  pack.card.tiling.tile = static_cast<int>(state.range(2));
  EngineOptions options;
  options.device = "cpu";
  Result<std::unique_ptr<Enhancer>> enhancer = LoadEnhancer(pack, options);
  if (!enhancer.ok()) return state.SkipWithError(enhancer.status().ToString().c_str());
  const PlanarImage picture = RandomPicture(size, 1);
  const ReadPixels read = [&](const Rect& rect, float* planar) {
    for (int channel = 0; channel < 3; ++channel) {
      for (int y = rect.y; y < rect.bottom(); ++y) {
        const float* row = picture.plane(channel) + int64_t{y} * size.width + rect.x;
        planar = std::copy(row, row + rect.width, planar);
      }
    }
    return OkStatus();
  };
  const WritePixels write = [](const Rect&, const float* planar) {
    benchmark::DoNotOptimize(planar[0]);
    return OkStatus();
  };
  const CancelToken never;
  for (auto _ : state) {
    const Result<EnhanceStats> stats = (*enhancer)->Enhance(size, {0, 0, size.width, size.height}, read, write, never);
    if (!stats.ok()) return state.SkipWithError(stats.status().ToString().c_str());
  }
  state.counters["MP/s"] =
      benchmark::Counter(static_cast<double>(size.area()) * 1e-6 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

void Light(benchmark::State& state) { Enhance(state, RandomLightPack(48, 8, HaloTiles(256, 22, 2))); }
BENCHMARK(Light)
    ->Args({1280, 720, 128})
    ->Args({1280, 720, 256})
    ->Args({1280, 720, 512})
    ->Args({1920, 1080, 256})
    ->Args({1920, 1080, 512})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

void NsIqe(benchmark::State& state) { Enhance(state, RandomNsIqePack(64, 16, BlendedTiles(256, 32, 4, BlendWindow::kFeather))); }
BENCHMARK(NsIqe)->Args({1280, 720, 256})->Args({1920, 1080, 256})->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(1);

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) {
  nsic::SetEngineThreads(0);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
