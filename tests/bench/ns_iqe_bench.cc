// NS-IQE on the CPU, all cores: the engine against the original program's own scheme, in one run.
//
//   ns_iqe_bench speed [WIDTH HEIGHT]     (1920 1080)
//   ns_iqe_bench seams [WIDTH HEIGHT]     (640 448)
//
// The original's scheme: tiles of 256 that overlap by 64, one at a time, through the network as PyTorch runs it (plain convolutions,
// batch norms unfolded, the attention matrix as a whole), blended with the improved Gaussian window. `speed` takes turns, tile by tile, so
// that whatever else the machine does falls on both alike; the seconds of a 1080p picture are the median tile's times its number of tiles,
// whatever picture is measured.
//
// Seams: the mean step between neighbouring pixels across the lines where tiles begin and end, against the same elsewhere, of the output
// and of what the output differs by from the network's on the whole picture at once. The picture is smooth, so that the network's own
// detail hides nothing. The weights are random, of the published shapes: padding with zeros and attention over the tile alone make the
// tiles differ, as the first row of the feathered ones shows, where an overlap of 4 is as good as none. Were that free of seams, the
// weights would say nothing. Imported packs have the smallest overlap whose difference steps no more across the borders than inside.
#include <time.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/farm/tile_grid.h"
#include "core/infer/blend_window.h"
#include "core/infer/engine.h"
#include "models/arch/network.h"
#include "tests/bench/bench_tools.h"
#include "tests/unit/plain_networks.h"
#include "tests/unit/random_packs.h"

namespace nsic {
namespace {

const TileSpec kOriginal = BlendedTiles(256, 64, 4, BlendWindow::kImprovedGaussian);

// As large shapes in a photograph are: no detail, no two places alike.
PlanarImage SmoothPicture(Size size) {
  PlanarImage picture(3, size.width, size.height);
  size_t i = 0;
  for (int channel = 0; channel < 3; ++channel) {
    for (int y = 0; y < size.height; ++y) {
      for (int x = 0; x < size.width; ++x) {
        const float phase = 0.013f * static_cast<float>(x) + 0.7f * static_cast<float>(channel);
        picture.samples[i++] = 0.5f + 0.25f * std::sin(phase + 0.0001f * static_cast<float>(x * y)) +
                               0.2f * std::cos(0.017f * static_cast<float>(y) - 0.3f * static_cast<float>(channel));
      }
    }
  }
  return picture;
}

at::Tensor Crop(const PlanarImage& picture, const Rect& rect) {
  const at::Tensor whole = at::from_blob(const_cast<float*>(picture.samples.data()), {1, 3, picture.height, picture.width}, at::kFloat);
  return whole.narrow(2, rect.y, rect.height).narrow(3, rect.x, rect.width).contiguous();
}

// The original's scheme, tile by tile.
class Original {
 public:
  Original(const ModelPack& pack, const PlanarImage& picture)
      : layers_(pack.weights), picture_(picture), grid_(picture.size(), kOriginal), sums_(3, picture.width, picture.height) {
    weight_sums_.resize(static_cast<size_t>(picture.size().area()));
  }

  int64_t tiles() const { return grid_.count(); }
  int64_t done() const { return done_; }

  void Next() {
    const GridTile tile = grid_.tile(static_cast<int>(done_ % grid_.columns()), static_cast<int>(done_ / grid_.columns()));
    ++done_;
    const at::Tensor out = ReferenceNsIqe(layers_, Crop(picture_, tile.input)).contiguous();
    const float* const samples = out.data_ptr<float>();
    const Rect& rect = tile.output;
    const std::vector<float> weights = BlendWeights(kOriginal.blend, {rect.width, rect.height}, kOriginal.overlap);
    for (int y = 0; y < rect.height; ++y) {
      for (int x = 0; x < rect.width; ++x) {
        const int64_t from = int64_t{y} * rect.width + x;
        const int64_t to = int64_t{rect.y + y} * picture_.width + rect.x + x;
        weight_sums_[to] += weights[from];
        for (int channel = 0; channel < 3; ++channel) sums_.plane(channel)[to] += weights[from] * samples[channel * rect.area() + from];
      }
    }
  }

  PlanarImage Finish() {
    for (int channel = 0; channel < 3; ++channel) {
      for (size_t i = 0; i < weight_sums_.size(); ++i) sums_.plane(channel)[i] /= weight_sums_[i];
    }
    return std::move(sums_);
  }

 private:
  const Layers layers_;
  const PlanarImage& picture_;
  const TileGrid grid_;
  PlanarImage sums_;
  std::vector<float> weight_sums_;
  int64_t done_ = 0;
};

// Calls `between` before each tile.
template <typename Between>
PlanarImage Enhance(const ModelPack& pack, const PlanarImage& picture, const Between& between) {
  EngineOptions options;
  options.device = "cpu";
  options.memory_budget = int64_t{4} << 30;
  const std::unique_ptr<Enhancer> enhancer = Need(LoadEnhancer(pack, options));
  PlanarImage output(3, picture.width, picture.height);
  const ReadPixels read = [&](const Rect& rect, float* planar) {
    between();
    const at::Tensor part = Crop(picture, rect);
    std::copy_n(part.data_ptr<float>(), part.numel(), planar);
    return OkStatus();
  };
  const WritePixels write = [&](const Rect& rect, const float* planar) {
    for (int channel = 0; channel < 3; ++channel) {
      for (int y = rect.y; y < rect.bottom(); ++y, planar += rect.width) {
        std::copy_n(planar, rect.width, output.plane(channel) + int64_t{y} * output.width + rect.x);
      }
    }
    return OkStatus();
  };
  Need(enhancer->Enhance(picture.size(), {0, 0, picture.width, picture.height}, read, write, CancelToken()));
  return output;
}

struct Steps {
  double across = 0;  // mean step across the borders of tiles
  double inside = 0;  // elsewhere
};

// In steps of 8-bit pictures.
Steps MeasureSteps(const PlanarImage& picture, const TileSpec& tiling) {
  const TileGrid grid(picture.size(), tiling);
  std::set<int> columns, rows;
  for (int i = 0; i < grid.columns(); ++i) columns.insert({grid.tile(i, 0).output.x, grid.tile(i, 0).output.right()});
  for (int i = 0; i < grid.rows(); ++i) rows.insert({grid.tile(0, i).output.y, grid.tile(0, i).output.bottom()});
  double sums[2] = {};
  int64_t counts[2] = {};
  for (int channel = 0; channel < 3; ++channel) {
    const float* const plane = picture.plane(channel);
    for (int y = 1; y < picture.height; ++y) {
      for (int x = 1; x < picture.width; ++x) {
        const float* const at = plane + int64_t{y} * picture.width + x;
        const auto add = [&](bool border, float step) {
          sums[border] += std::fabs(step);
          ++counts[border];
        };
        add(columns.count(x) > 0, at[0] - at[-1]);
        add(rows.count(y) > 0, at[0] - at[-picture.width]);
      }
    }
  }
  return {255 * sums[1] / static_cast<double>(counts[1]), 255 * sums[0] / static_cast<double>(counts[0])};
}

PlanarImage Minus(const PlanarImage& a, const PlanarImage& b) {
  PlanarImage difference = a;
  for (size_t i = 0; i < a.samples.size(); ++i) difference.samples[i] -= b.samples[i];
  return difference;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

TileSpec ShippedTiling(const ModelPack& pack) { return Need(ImportCheckpoint(pack.weights, "random")).card.tiling; }

// What all threads of this process have computed.
double CpuSeconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

struct TileTimes {
  std::vector<double> wall, cpu;  // seconds of each tile
};

int Speed(Size size) {
  ModelPack pack = RandomNsIqePack(64, 16, kOriginal);
  pack.card.tiling = ShippedTiling(pack);
  const PlanarImage picture = SmoothPicture(size);
  const torch::InferenceMode inference;
  const SystemClock clock;
  int64_t wall_mark = 0;
  double cpu_mark = 0;
  const auto start = [&] {
    wall_mark = clock.MonotonicUs();
    cpu_mark = CpuSeconds();
  };
  const auto stop = [&](TileTimes* times) {
    times->wall.push_back(static_cast<double>(clock.MonotonicUs() - wall_mark) * 1e-6);
    times->cpu.push_back(CpuSeconds() - cpu_mark);
  };

  Original original(pack, picture);
  TileTimes ours, theirs;
  const int64_t our_tiles = TileGrid(size, pack.card.tiling).count();
  int64_t started = 0;
  const auto between = [&] {
    if (started > 0) stop(&ours);
    while (original.done() * our_tiles < (started + 1) * original.tiles() && original.done() < original.tiles()) {
      start();
      original.Next();
      stop(&theirs);
    }
    ++started;
    start();
  };
  const PlanarImage output = Enhance(pack, picture, between);
  stop(&ours);

  constexpr Size kFullHd{1920, 1080};
  const double megapixels = static_cast<double>(kFullHd.area()) * 1e-6;
  const auto row = [&](const char* name, const TileTimes& tiles, const PlanarImage& out, const TileSpec& tiling) {
    const int64_t count = TileGrid(kFullHd, tiling).count();
    const double seconds = Median(tiles.wall) * static_cast<double>(count);
    const Steps steps = MeasureSteps(out, tiling);
    std::printf("%-10s %3zu tiles, median %6.3f s, %6.3f s of CPU; 1080p: %3lld tiles, %7.2f s, %.4f MP/s; seams %.3f / %.3f = %.3f\n",
                name, tiles.wall.size(), Median(tiles.wall), Median(tiles.cpu), static_cast<long long>(count), seconds,
                megapixels / seconds, steps.across, steps.inside, steps.across / steps.inside);
    return std::pair<double, double>(seconds, Median(tiles.cpu) * static_cast<double>(count));
  };
  std::printf("NS-IQE, %dx%d, %d threads, fp32; engine: overlap %d, %s\n", size.width, size.height, at::get_num_threads(),
              pack.card.tiling.overlap, std::string(BlendWindowName(pack.card.tiling.blend)).c_str());
  const auto [their_seconds, their_cpu] = row("original", theirs, original.Finish(), kOriginal);
  const auto [our_seconds, our_cpu] = row("engine", ours, output, pack.card.tiling);
  std::printf("ratio at 1080p: %.2f; of CPU time, which other programs disturb less: %.2f\n", their_seconds / our_seconds,
              their_cpu / our_cpu);
  return 0;
}

int Seams(Size size) {
  ModelPack pack = RandomNsIqePack(64, 16, kOriginal);
  const PlanarImage picture = SmoothPicture(size);
  const torch::InferenceMode inference;
  const PlanarImage whole = [&] {
    ModelPack untiled = pack;
    untiled.card.tiling.tile = (std::max(size.width, size.height) + 3) / 4 * 4;
    return Enhance(untiled, picture, [] {});
  }();
  std::printf("%dx%d; mean steps in 1/255, across the borders of tiles / inside\n", size.width, size.height);
  std::printf("%-18s %7s %6s   %-24s %s\n", "window", "overlap", "tiles", "output", "difference from untiled");
  for (const BlendWindow window : {BlendWindow::kImprovedGaussian, BlendWindow::kFeather}) {
    for (const int overlap : {4, 8, 16, 24, 32, 48, 64}) {
      pack.card.tiling = BlendedTiles(256, overlap, 4, window);
      const PlanarImage output = Enhance(pack, picture, [] {});
      const Steps steps = MeasureSteps(output, pack.card.tiling);
      const PlanarImage difference = Minus(output, whole);
      const Steps of_difference = MeasureSteps(difference, pack.card.tiling);
      double squares = 0;
      for (const float d : difference.samples) squares += static_cast<double>(d) * d;
      std::printf("%-18s %7d %6lld   %6.3f / %6.3f = %6.3f   %6.3f / %6.3f = %6.3f   RMS %.3f\n",
                  std::string(BlendWindowName(window)).c_str(), overlap, static_cast<long long>(TileGrid(size, pack.card.tiling).count()),
                  steps.across, steps.inside, steps.across / steps.inside, of_difference.across, of_difference.inside,
                  of_difference.across / of_difference.inside, 255 * std::sqrt(squares / static_cast<double>(difference.samples.size())));
    }
  }
  return 0;
}

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if ((what != "speed" && what != "seams") || (argc != 2 && argc != 4)) {
    std::fprintf(stderr, "usage: ns_iqe_bench speed|seams [WIDTH HEIGHT]\n");
    return 2;
  }
  const bool speed = what == "speed";
  const nsic::Size size{argc == 4 ? std::atoi(argv[2]) : (speed ? 1920 : 640), argc == 4 ? std::atoi(argv[3]) : (speed ? 1080 : 448)};
  if (size.width < 1 || size.height < 1) {
    std::fprintf(stderr, "ns_iqe_bench: no picture has this size\n");
    return 2;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  nsic::SetEngineThreads(0);
  return speed ? nsic::Speed(size) : nsic::Seams(size);
}
