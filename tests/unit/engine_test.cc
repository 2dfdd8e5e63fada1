#include "core/infer/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/infer/blend_window.h"
#include "tests/unit/random_packs.h"

namespace nsic {
namespace {

EngineOptions CpuOptions() {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 1;  // the tiles are small; ThreadsDoNotChangeABit tries more
  return options;
}

std::unique_ptr<Enhancer> Load(const ModelPack& pack, const EngineOptions& options = CpuOptions()) {
  Result<std::unique_ptr<Enhancer>> enhancer = LoadEnhancer(pack, options);
  EXPECT_TRUE(enhancer.ok()) << enhancer.status();
  return enhancer.ok() ? *std::move(enhancer) : nullptr;
}

Rect Whole(Size size) { return {0, 0, size.width, size.height}; }

ReadPixels ReadFrom(const PlanarImage& picture) {
  return [&picture](const Rect& rect, float* planar) {
    EXPECT_FALSE(rect.empty());
    EXPECT_TRUE(Whole(picture.size()).Contains(rect));
    for (int channel = 0; channel < 3; ++channel) {
      for (int y = rect.y; y < rect.bottom(); ++y) {
        const float* row = picture.plane(channel) + int64_t{y} * picture.width + rect.x;
        planar = std::copy(row, row + rect.width, planar);
      }
    }
    return OkStatus();
  };
}

// Enhances `region` into `output`, which has the whole picture's size times the scale; counts how often each pixel is written.
Result<EnhanceStats> EnhanceInto(Enhancer& enhancer, const PlanarImage& picture, const Rect& region, PlanarImage& output,
                                 std::vector<int>& written) {
  const WritePixels write = [&](const Rect& rect, const float* planar) {
    EXPECT_TRUE(Whole(output.size()).Contains(rect));
    for (int channel = 0; channel < 3; ++channel) {
      for (int y = rect.y; y < rect.bottom(); ++y) {
        std::copy(planar, planar + rect.width, output.plane(channel) + int64_t{y} * output.width + rect.x);
        planar += rect.width;
        for (int x = rect.x; channel == 0 && x < rect.right(); ++x) ++written[int64_t{y} * output.width + x];
      }
    }
    return OkStatus();
  };
  return enhancer.Enhance(picture.size(), region, ReadFrom(picture), write, CancelToken());
}

// The whole picture in the given regions, each by a call of its own; every output pixel must be written once.
PlanarImage EnhanceParts(Enhancer& enhancer, const PlanarImage& picture, const std::vector<Rect>& regions) {
  const int scale = enhancer.card().scale;
  PlanarImage output(3, picture.width * scale, picture.height * scale);
  std::vector<int> written(static_cast<size_t>(output.size().area()));
  for (const Rect& region : regions) {
    const Result<EnhanceStats> stats = EnhanceInto(enhancer, picture, region, output, written);
    EXPECT_TRUE(stats.ok()) << stats.status();
    if (stats.ok()) {
      EXPECT_EQ(stats->pixels, region.area());
      EXPECT_GT(stats->tiles, 0);
      EXPECT_EQ(stats->tiles_redone, 0);
    }
  }
  EXPECT_TRUE(std::all_of(written.begin(), written.end(), [](int times) { return times == 1; }));
  return output;
}

PlanarImage EnhanceWhole(Enhancer& enhancer, const PlanarImage& picture) {
  return EnhanceParts(enhancer, picture, {Whole(picture.size())});
}

bool SameBits(const PlanarImage& a, const PlanarImage& b) {
  return a.size() == b.size() && std::memcmp(a.samples.data(), b.samples.data(), a.samples.size() * sizeof(float)) == 0;
}

float LargestDifference(const PlanarImage& a, const PlanarImage& b) {
  float largest = 0;
  for (size_t i = 0; i < a.samples.size(); ++i) largest = std::max(largest, std::abs(a.samples[i] - b.samples[i]));
  return largest;
}

std::string SizeText(Size size) { return std::to_string(size.width) + "x" + std::to_string(size.height); }

TEST(EngineTest, IdentityGivesBackTheInputBitForBit) {
  const TileSpec kSpecs[] = {HaloTiles(16, 0, 1), HaloTiles(32, 4, 2), HaloTiles(64, 12, 4), HaloTiles(512, 22, 2)};
  const Size kSizes[] = {{1, 1}, {3, 2}, {2, 300}, {300, 1}, {64, 64}, {97, 131}};
  for (const TileSpec& spec : kSpecs) {
    const std::unique_ptr<Enhancer> identity = Load(IdentityPack(spec));
    for (Size size : kSizes) {
      SCOPED_TRACE(SizeText(size) + " tile " + std::to_string(spec.tile));
      const PlanarImage picture = RandomPicture(size, 5);
      EXPECT_TRUE(SameBits(EnhanceWhole(*identity, picture), picture));
      EXPECT_TRUE(SameBits(EnhanceParts(*identity, picture, PlanTileTasks(TileGrid(size, spec), 1000)), picture));
    }
  }
}

TEST(EngineTest, BlendedIdentityGivesBackTheInput) {
  for (BlendWindow window : {BlendWindow::kImprovedGaussian, BlendWindow::kGaussian, BlendWindow::kLinear, BlendWindow::kCosine,
                             BlendWindow::kPoisson, BlendWindow::kFeather}) {
    SCOPED_TRACE(BlendWindowName(window));
    const std::unique_ptr<Enhancer> identity = Load(IdentityPack(BlendedTiles(32, 12, 4, window)));
    const PlanarImage picture = RandomPicture({101, 77}, 5);
    EXPECT_LT(LargestDifference(EnhanceWhole(*identity, picture), picture), 1e-6f);
  }
}

struct NamedPack {
  std::string name;
  ModelPack pack;
};

// However a picture is cut into regions, the pixels have the same bits as when it is enhanced in one call.
TEST(EngineTest, SplitInvariance) {
  std::vector<NamedPack> packs = {
      {"identity", IdentityPack(HaloTiles(48, 8, 4))},
      {"light", RandomLightPack(8, 2, HaloTiles(44, 10, 2))},
      {"light 48x8", RandomLightPack(48, 8, HaloTiles(96, 22, 2))},
      {"srvgg-compact x2", RandomSrvggPack(8, 4, 2, HaloTiles(24, 4, 1))},
  };
  for (BlendWindow window : {BlendWindow::kImprovedGaussian, BlendWindow::kGaussian, BlendWindow::kLinear, BlendWindow::kCosine,
                             BlendWindow::kPoisson, BlendWindow::kFeather}) {
    packs.push_back({"ns-iqe " + std::string(BlendWindowName(window)), RandomNsIqePack(16, 2, BlendedTiles(32, 8, 4, window))});
  }
  // Overlaps of more than half a tile: three tiles and more on a line touch one pixel.
  packs.push_back({"ns-iqe, wide overlap", RandomNsIqePack(8, 1, BlendedTiles(32, 20, 4, BlendWindow::kCosine))});

  std::mt19937 random(3);
  const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  for (const NamedPack& named : packs) {
    const std::unique_ptr<Enhancer> enhancer = Load(named.pack);
    for (int trial = 0; trial < 4; ++trial) {
      const Size size{pick(1, 130), pick(1, 130)};
      SCOPED_TRACE(named.name + ", " + SizeText(size));
      const PlanarImage picture = RandomPicture(size, 100 + static_cast<uint64_t>(trial));
      const PlanarImage whole = EnhanceWhole(*enhancer, picture);
      const TileGrid grid(size, named.pack.card.tiling);
      for (int64_t target : {1, 1500, 5000}) {
        const std::vector<Rect> tasks = PlanTileTasks(grid, target);
        EXPECT_TRUE(SameBits(EnhanceParts(*enhancer, picture, tasks), whole)) << tasks.size() << " tasks of about " << target << " pixels";
      }
      // Cuts that do not follow the grid.
      const int x = pick(0, size.width - 1), y = pick(0, size.height - 1);
      std::vector<Rect> quarters;
      for (const Rect& quarter :
           {Rect{0, 0, x, y}, Rect{x, 0, size.width - x, y}, Rect{0, y, x, size.height - y}, Rect{x, y, size.width - x, size.height - y}}) {
        if (!quarter.empty()) quarters.push_back(quarter);
      }
      EXPECT_TRUE(SameBits(EnhanceParts(*enhancer, picture, quarters), whole)) << "cut at " << x << ", " << y;
    }
  }
}

TEST(EngineTest, ThreadsDoNotChangeABit) {
  const NamedPack kPacks[] = {{"light", RandomLightPack(48, 8, HaloTiles(128, 22, 2))},
                              {"srvgg-compact", RandomSrvggPack(64, 6, 2, HaloTiles(64, 6, 1))},
                              {"ns-iqe", RandomNsIqePack(64, 2, BlendedTiles(128, 32, 4, BlendWindow::kImprovedGaussian))}};
  const PlanarImage picture = RandomPicture({203, 150}, 9);
  for (const NamedPack& named : kPacks) {
    EngineOptions options = CpuOptions();
    options.threads = 1;
    const PlanarImage one = EnhanceWhole(*Load(named.pack, options), picture);
    for (int threads : {2, 3}) {
      options.threads = threads;
      EXPECT_TRUE(SameBits(EnhanceWhole(*Load(named.pack, options), picture), one)) << named.name << ", " << threads << " threads";
    }
  }
}

// With an exact halo, tiles give what the network gives for the whole picture at once.
TEST(EngineTest, TiledEqualsUntiled) {
  std::vector<std::pair<NamedPack, int>> rows;  // with the tile that is to be tried
  rows.push_back({{"light", RandomLightPack(8, 3, HaloTiles(1024, 12, 2))}, 40});
  rows.push_back({{"light 48x8", RandomLightPack(48, 8, HaloTiles(1024, 22, 2))}, 64});
  rows.push_back({{"srvgg-compact x1", RandomSrvggPack(8, 5, 1, HaloTiles(1024, 5, 1))}, 21});
  rows.push_back({{"srvgg-compact x3", RandomSrvggPack(12, 4, 3, HaloTiles(1024, 4, 1))}, 32});
  for (auto& [named, tile] : rows) {
    const std::unique_ptr<Enhancer> untiled = Load(named.pack);
    named.pack.card.tiling.tile = tile;
    const std::unique_ptr<Enhancer> tiled = Load(named.pack);
    for (Size size : {Size{1, 1}, Size{3, 2}, Size{2, 90}, Size{97, 61}, Size{128, 128}}) {
      SCOPED_TRACE(named.name + ", " + SizeText(size));
      const PlanarImage picture = RandomPicture(size, 21);
      const PlanarImage expected = EnhanceWhole(*untiled, picture);
      EXPECT_LT(LargestDifference(EnhanceWhole(*tiled, picture), expected), 1e-5f);
    }
  }
}

// The blending of the original program, computed the plain way from single tiles.
TEST(EngineTest, BlendsAsTheOriginal) {
  constexpr int kTile = 32, kOverlap = 8;
  const PlanarImage picture = RandomPicture({75, 50}, 4);
  for (BlendWindow window : {BlendWindow::kImprovedGaussian, BlendWindow::kLinear}) {
    const std::unique_ptr<Enhancer> enhancer = Load(RandomNsIqePack(16, 1, BlendedTiles(kTile, kOverlap, 4, window)));
    const PlanarImage actual = EnhanceWhole(*enhancer, picture);

    const std::vector<float> weights = BlendWeights(window, {kTile, kTile}, kOverlap);
    std::vector<double> sums(picture.samples.size()), weight_sums(picture.samples.size());
    for (int top : {0, 18}) {
      for (int left : {0, 24, 43}) {
        PlanarImage tile(3, kTile, kTile);
        ASSERT_TRUE(ReadFrom(picture)({left, top, kTile, kTile}, tile.samples.data()).ok());
        const PlanarImage output = EnhanceWhole(*enhancer, tile);
        for (int channel = 0; channel < 3; ++channel) {
          for (int y = 0; y < kTile; ++y) {
            for (int x = 0; x < kTile; ++x) {
              const size_t at = static_cast<size_t>((channel * picture.height + top + y) * picture.width + left + x);
              sums[at] += static_cast<double>(weights[y * kTile + x]) * output.plane(channel)[y * kTile + x];
              weight_sums[at] += weights[y * kTile + x];
            }
          }
        }
      }
    }
    for (size_t i = 0; i < sums.size(); ++i) ASSERT_NEAR(actual.samples[i], sums[i] / weight_sums[i], 1e-5) << BlendWindowName(window);
  }
}

// Frames through a FrameEnhancer, two buffers in turn, as the worker does it.
class FrameRun {
 public:
  FrameRun(Enhancer& enhancer, Size frame, float threshold = 0)
      : frames_(enhancer.ForFrames(frame, threshold)), scale_(enhancer.card().scale) {}

  PlanarImage Next(const PlanarImage& frame) {
    PlanarImage& before = before_[turn_];
    PlanarImage& after = after_[turn_];
    turn_ = 1 - turn_;
    before = frame;
    after = PlanarImage(3, frame.width * scale_, frame.height * scale_);
    const Result<EnhanceStats> stats = frames_->Enhance(before.samples.data(), after.samples.data(), CancelToken());
    EXPECT_TRUE(stats.ok()) << stats.status();
    if (stats.ok()) last_ = *stats;
    return after;
  }
  const EnhanceStats& last() const { return last_; }
  int64_t memory_bytes() const { return frames_->memory_bytes(); }

 private:
  const std::unique_ptr<FrameEnhancer> frames_;
  const int scale_;
  PlanarImage before_[2], after_[2];
  int turn_ = 0;
  EnhanceStats last_;
};

int64_t TilesThatSee(const TileGrid& grid, const Rect& rect) {
  int64_t count = 0;
  for (int row = 0; row < grid.rows(); ++row) {
    for (int column = 0; column < grid.columns(); ++column) count += Intersect(grid.tile(column, row).input, rect).empty() ? 0 : 1;
  }
  return count;
}

TEST(FrameEnhancerTest, FramesHaveTheBitsOfPicturesAndOnlyChangedTilesAreInferred) {
  const NamedPack kPacks[] = {
      {"identity", IdentityPack(HaloTiles(48, 8, 4))},
      {"light", RandomLightPack(8, 2, HaloTiles(44, 10, 2))},
      {"srvgg-compact x2", RandomSrvggPack(8, 4, 2, HaloTiles(24, 4, 1))},
      {"ns-iqe", RandomNsIqePack(8, 1, BlendedTiles(32, 8, 4, BlendWindow::kImprovedGaussian))},
      {"ns-iqe, wide overlap", RandomNsIqePack(8, 1, BlendedTiles(32, 20, 4, BlendWindow::kCosine))},
  };
  const Size size{101, 67};
  const PlanarImage base = RandomPicture(size, 31);
  const auto patched = [&](const Rect& rect) {
    PlanarImage picture = base;
    for (int channel = 0; channel < 3; ++channel) {
      for (int y = rect.y; y < rect.bottom(); ++y) {
        for (int x = rect.x; x < rect.right(); ++x) picture.plane(channel)[y * size.width + x] = 0.25f;
      }
    }
    return picture;
  };
  const Rect nothing{}, all = Whole(size), corner{0, 0, 1, 1}, middle{50, 33, 1, 1}, block{20, 20, 30, 9};
  const struct {
    const char* name;
    PlanarImage frame;
    Rect changed;  // since the frame before
  } kFrames[] = {
      {"first", base, all},
      {"held", base, nothing},
      {"a pixel in the middle", patched(middle), middle},
      {"held again", patched(middle), nothing},
      {"and back", base, middle},
      {"a pixel in the corner", patched(corner), corner},
      {"a block", patched(block), {0, 0, 50, 29}},
      {"other", RandomPicture(size, 32), all},
      {"held other", RandomPicture(size, 32), nothing},
  };
  for (const NamedPack& named : kPacks) {
    const std::unique_ptr<Enhancer> enhancer = Load(named.pack);
    const TileGrid grid(size, named.pack.card.tiling);
    FrameRun run(*enhancer, size);
    for (const auto& row : kFrames) {
      SCOPED_TRACE(named.name + ", " + row.name);
      EXPECT_TRUE(SameBits(run.Next(row.frame), EnhanceWhole(*enhancer, row.frame)));
      const int64_t touched = TilesThatSee(grid, row.changed);
      EXPECT_LE(run.last().tiles, touched);
      if (row.changed.area() <= 1 || row.changed == all) {
        EXPECT_EQ(run.last().tiles, touched);
      }
      EXPECT_EQ(run.last().tiles + run.last().tiles_repeated, grid.count());
      EXPECT_EQ(run.last().pixels, size.area());
    }
  }
}

// What differs too little repeats, but is always compared with what the output was made from: small steps add up to a new inference.
TEST(FrameEnhancerTest, WithAThresholdNothingDrifts) {
  const NamedPack kPacks[] = {{"light", RandomLightPack(8, 2, HaloTiles(44, 10, 2))},
                              {"ns-iqe", RandomNsIqePack(8, 1, BlendedTiles(32, 8, 4, BlendWindow::kCosine))}};
  const Size size{70, 50};
  const PlanarImage base = RandomPicture(size, 33);
  const auto brighter = [&](int steps) {
    PlanarImage picture = base;
    for (float& sample : picture.samples) sample += static_cast<float>(steps) / 255;
    return picture;
  };
  for (const NamedPack& named : kPacks) {
    SCOPED_TRACE(named.name);
    const std::unique_ptr<Enhancer> enhancer = Load(named.pack);
    FrameRun run(*enhancer, size, 2.01f / 255);
    const int64_t tiles = TileGrid(size, named.pack.card.tiling).count();
    const int kStandsFor[] = {0, 0, 0, 3, 3, 3, 6};
    for (int steps = 0; steps < 7; ++steps) {
      const PlanarImage expected = EnhanceWhole(*enhancer, brighter(kStandsFor[steps]));
      EXPECT_TRUE(SameBits(run.Next(brighter(steps)), expected)) << steps;
      EXPECT_EQ(run.last().tiles_repeated, kStandsFor[steps] == steps ? 0 : tiles) << steps;
    }
    // One sample that differs by more is enough.
    PlanarImage spot = brighter(6);
    spot.samples[0] += 3.0f / 255;
    run.Next(spot);
    EXPECT_EQ(run.last().tiles, 1);
  }
}

TEST(FrameEnhancerTest, SaysWhatItKeeps) {
  const Size size{100, 64};
  const int64_t frame = 3 * 4 * size.area();
  const auto kept = [&](const ModelPack& pack, float threshold) { return FrameRun(*Load(pack), size, threshold).memory_bytes(); };
  EXPECT_EQ(kept(IdentityPack(HaloTiles(48, 8, 4)), 0), 0) << "all that is needed stands in the frame before";
  EXPECT_GT(kept(IdentityPack(HaloTiles(48, 8, 4)), 0.1f), frame) << "each tile's input";
  EXPECT_EQ(kept(IdentityPack(BlendedTiles(64, 28, 4, BlendWindow::kLinear)), 0), 2 * 3 * 4 * 64 * 64) << "each tile's output";
  EXPECT_EQ(kept(IdentityPack(BlendedTiles(64, 28, 4, BlendWindow::kLinear)), 0.1f), 4 * 3 * 4 * 64 * 64) << "both";
}

TEST(FrameEnhancerTest, StopsAndRefusesAsEnhanceDoes) {
  const Size size{100, 64};
  std::vector<float> before(static_cast<size_t>(3 * size.area()), 0.5f), after(before.size());
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_EQ(Load(IdentityPack(HaloTiles(48, 8, 4)))->ForFrames(size, 0)->Enhance(before.data(), after.data(), cancel).status().code(),
            StatusCode::kCancelled);
  EngineOptions little = CpuOptions();
  little.memory_budget = 1000;
  EXPECT_EQ(Load(IdentityPack(HaloTiles(48, 8, 4)), little)
                ->ForFrames(size, 0)
                ->Enhance(before.data(), after.data(), CancelToken())
                .status()
                .code(),
            StatusCode::kResourceExhausted);
}

TEST(BlendWeightsTest, KnownValues) {
  // In a tile of 5x5 the positions are -1, -0.5, 0, 0.5, 1.
  const struct {
    BlendWindow window;
    double middle, half, edge, corner;  // at (0, 0), (0.5, 0), (1, 0), (1, 1)
  } kRows[] = {
      {BlendWindow::kImprovedGaussian, 1.0, std::exp(-0.25 / 0.98), 0.1, 0.1},
      {BlendWindow::kGaussian, 1.0, std::exp(-0.5), std::exp(-2.0), std::exp(-4.0)},
      {BlendWindow::kLinear, 1.0, 0.5, 0.1, 0.1},
      {BlendWindow::kCosine, 1.0, std::cos(M_PI / 4), 0.1, 0.1},
  };
  for (const auto& row : kRows) {
    const std::vector<float> weights = BlendWeights(row.window, {5, 5}, 1);
    EXPECT_NEAR(weights[12], row.middle, 1e-6) << BlendWindowName(row.window);
    EXPECT_NEAR(weights[13], row.half, 1e-6) << BlendWindowName(row.window);
    EXPECT_NEAR(weights[14], row.edge, 1e-6) << BlendWindowName(row.window);
    EXPECT_NEAR(weights[24], row.corner, 1e-6) << BlendWindowName(row.window);
  }
  // Poisson is smoothed: below its peak of 1 in the middle, and symmetric.
  const std::vector<float> poisson = BlendWeights(BlendWindow::kPoisson, {65, 65}, 1);
  EXPECT_LT(poisson[32 * 65 + 32], 1.0f);
  EXPECT_GT(poisson[32 * 65 + 32], 0.8f);
  EXPECT_NEAR(poisson[32 * 65 + 48], std::exp(-1.5), 0.01);
  EXPECT_NEAR(poisson[0], 0.1, 1e-6);
  EXPECT_NEAR(poisson[20 * 65 + 10], poisson[44 * 65 + 54], 1e-6);
  EXPECT_EQ(BlendWeights(BlendWindow::kLinear, {1, 1}, 1), std::vector<float>{1.0f});
}

TEST(BlendWeightsTest, FeathersOfNeighboursAddUpToOne) {
  constexpr int kOverlap = 6;
  const Size tile{20, 9};
  const std::vector<float> weights = BlendWeights(BlendWindow::kFeather, tile, kOverlap);
  const int middle = 4 * tile.width;  // the row in the middle: no overlap reaches it from above and below at once with a weight of 1
  const auto at = [&](int x) { return weights[middle + x] / weights[middle + 10]; };
  for (int x = 0; x < kOverlap; ++x) EXPECT_NEAR(at(x) + at(tile.width - kOverlap + x), 1.0, 1e-6) << x;
  for (int x = kOverlap; x < tile.width - kOverlap; ++x) EXPECT_EQ(at(x), 1.0f) << x;
  EXPECT_LT(at(0), 0.02) << "no step at the edge";
  for (float weight : weights) EXPECT_GT(weight, 0.0f);
  EXPECT_GT(BlendWeights(BlendWindow::kFeather, {1, 1}, 64)[0], 0.0f);
}

HostTensor Zeros(std::vector<int64_t> shape) {
  HostTensor tensor;
  tensor.data.resize(sizeof(float));
  for (int64_t side : shape) tensor.data.resize(tensor.data.size() * static_cast<size_t>(side));
  tensor.shape = std::move(shape);
  return tensor;
}

TEST(EngineTest, RefusesPacksThatDoNotFit) {
  const struct {
    const char* name;
    ModelPack (*make)();
    const char* error;
  } kRows[] = {
      {"missing tensor",
       [] {
         ModelPack pack = RandomNsIqePack(16, 2, BlendedTiles(64, 16, 4, BlendWindow::kLinear));
         pack.weights.erase("rrdb_blocks.1.dense2.0.bias");
         return pack;
       },
       "tensor rrdb_blocks.1.dense2.0.bias [32] is missing"},
      {"extra tensor",
       [] {
         ModelPack pack = RandomLightPack(8, 2, HaloTiles(64, 10, 2));
         pack.weights["convs.4.weight"] = Zeros({8, 8, 3, 3});
         return pack;
       },
       "tensor convs.4.weight [8, 8, 3, 3] does not belong"},
      {"wrong shape",
       [] {
         ModelPack pack = RandomSrvggPack(8, 4, 2, HaloTiles(64, 4, 1));
         pack.weights["body.2.weight"] = Zeros({8, 4, 3, 3});
         return pack;
       },
       "tensor body.2.weight has shape [8, 4, 3, 3], the architecture wants [8, 8, 3, 3]"},
      {"missing parameter",
       [] {
         ModelPack pack = RandomSrvggPack(8, 4, 2, HaloTiles(64, 4, 1));
         pack.card.parameters.erase("layers");
         return pack;
       },
       "needs the parameter \"layers\""},
      {"huge parameter",
       [] {
         ModelPack pack = RandomNsIqePack(16, 2, BlendedTiles(64, 16, 4, BlendWindow::kLinear));
         pack.card.parameters["features"] = int64_t{1} << 40;
         return pack;
       },
       "needs the parameter \"features\" from 2 to 512"},
      {"unknown parameter",
       [] {
         ModelPack pack = IdentityPack(HaloTiles(64, 0, 1));
         pack.card.parameters["depth"] = 3;
         return pack;
       },
       "the architecture identity does not know all the parameters"},
      {"unknown architecture",
       [] {
         ModelPack pack = IdentityPack(HaloTiles(64, 0, 1));
         pack.card.architecture = "esrgan";
         return pack;
       },
       "unknown architecture 'esrgan'"},
      {"wrong scale",
       [] {
         ModelPack pack = IdentityPack(HaloTiles(64, 0, 1));
         pack.card.scale = 2;
         return pack;
       },
       "identity has scale 1"},
      {"wrong tiling",
       [] {
         ModelPack pack = IdentityPack(HaloTiles(64, 0, 1));
         pack.card.tiling.tile = 0;
         return pack;
       },
       "tile is 0"},
      {"no enhancer",
       [] {
         ModelPack pack = MakePack("ns-iqa", RandomNsIqa(1), {}, TileSpec());
         pack.card.task = ModelTask::kScore;
         return pack;
       },
       "is no enhancer"},
  };
  for (const auto& row : kRows) {
    const Status status = LoadEnhancer(row.make(), CpuOptions()).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << row.name;
    EXPECT_NE(status.message().find(row.error), std::string::npos) << row.name << ": " << status;
  }
}

TEST(EngineTest, RefusesRegionsOutsideThePicture) {
  const std::unique_ptr<Enhancer> identity = Load(IdentityPack(HaloTiles(64, 0, 1)));
  const PlanarImage picture = RandomPicture({10, 10}, 1);
  PlanarImage output(3, 10, 10);
  std::vector<int> written(100);
  for (const Rect& region : {Rect{0, 0, 11, 10}, Rect{-1, 0, 5, 5}, Rect{0, 0, 0, 5}, Rect{10, 10, 1, 1}}) {
    EXPECT_EQ(EnhanceInto(*identity, picture, region, output, written).status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(EngineTest, NotANumberFailsTheTileByName) {
  PlanarImage picture = RandomPicture({100, 100}, 1);
  picture.plane(1)[70 * 100 + 80] = std::numeric_limits<float>::quiet_NaN();
  PlanarImage output(3, 100, 100);
  std::vector<int> written(100 * 100);
  const std::unique_ptr<Enhancer> light = Load(RandomLightPack(8, 2, HaloTiles(70, 10, 2)));
  const Status status = EnhanceInto(*light, picture, Whole(picture.size()), output, written).status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_NE(status.message().find("tile 60x60 at (40, 40)"), std::string::npos) << status;
}

TEST(EngineTest, AFlatOutputOfAPictureIsAnError) {
  ModelPack pack = RandomNsIqePack(16, 1, BlendedTiles(64, 16, 4, BlendWindow::kLinear));
  pack.weights["final_conv.6.weight"] = Zeros({3, 16, 3, 3});
  pack.weights["final_conv.6.bias"] = Zeros({3});
  const std::unique_ptr<Enhancer> black = Load(pack);
  PlanarImage output(3, 64, 64);
  std::vector<int> written(64 * 64);
  const Status status = EnhanceInto(*black, RandomPicture({64, 64}, 1), {0, 0, 64, 64}, output, written).status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_NE(status.message().find("tile 64x64 at (0, 0)"), std::string::npos) << status;

  // A flat input may well come out flat.
  PlanarImage grey(3, 64, 64);
  std::fill(grey.samples.begin(), grey.samples.end(), 0.5f);
  EXPECT_TRUE(EnhanceInto(*black, grey, {0, 0, 64, 64}, output, written).ok());
}

TEST(EngineTest, ATileThatDoesNotFitTheBudgetIsRefusedWithTheFigure) {
  EngineOptions options = CpuOptions();
  options.memory_budget = int64_t{100} << 20;
  const std::unique_ptr<Enhancer> enhancer = Load(RandomNsIqePack(64, 1, BlendedTiles(256, 64, 4, BlendWindow::kLinear)), options);
  const PlanarImage picture = RandomPicture({300, 300}, 1);
  PlanarImage output(3, 300, 300);
  std::vector<int> written(300 * 300);
  const Status status = EnhanceInto(*enhancer, picture, Whole(picture.size()), output, written).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("memory budget of 100 MiB"), std::string::npos) << status;
  // A smaller picture needs less.
  EXPECT_TRUE(EnhanceInto(*enhancer, RandomPicture({64, 64}, 1), {0, 0, 64, 64}, output, written).ok());
}

TEST(EngineTest, CancelStopsAtTheNextTile) {
  const std::unique_ptr<Enhancer> identity = Load(IdentityPack(HaloTiles(10, 0, 1)));
  const PlanarImage picture = RandomPicture({100, 100}, 1);
  CancelToken cancel;
  int reads = 0;
  const ReadPixels read = [&](const Rect& rect, float* planar) {
    if (++reads == 3) cancel.Cancel();
    return ReadFrom(picture)(rect, planar);
  };
  const WritePixels write = [](const Rect&, const float*) { return OkStatus(); };
  EXPECT_EQ(identity->Enhance(picture.size(), Whole(picture.size()), read, write, cancel).status().code(), StatusCode::kCancelled);
  EXPECT_EQ(reads, 3);
}

TEST(EngineTest, ErrorsOfReadAndWriteComeBack) {
  const std::unique_ptr<Enhancer> identity = Load(IdentityPack(HaloTiles(10, 0, 1)));
  const PlanarImage picture = RandomPicture({20, 20}, 1);
  const ReadPixels good_read = ReadFrom(picture);
  const WritePixels good_write = [](const Rect&, const float*) { return OkStatus(); };
  const ReadPixels bad_read = [](const Rect&, float*) { return DataLossError("truncated"); };
  const WritePixels bad_write = [](const Rect&, const float*) { return ResourceExhaustedError("disk full"); };
  const Rect whole = Whole(picture.size());
  EXPECT_EQ(identity->Enhance(picture.size(), whole, bad_read, good_write, CancelToken()).status().message(), "truncated");
  EXPECT_EQ(identity->Enhance(picture.size(), whole, good_read, bad_write, CancelToken()).status().message(), "disk full");
}

TEST(EngineTest, Devices) {
  EXPECT_EQ(*ResolveDevice("cpu"), "cpu");
  EXPECT_TRUE(ResolveDevice("auto").ok());
  for (const char* device : {"", "gpu", "cuda:99", "cuda", "CPU"}) {
    const Status status = ResolveDevice(device).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << device;
    EXPECT_NE(status.message().find("use auto, cpu"), std::string::npos) << status;
  }
}

TEST(ScorerTest, ScoresAndRefuses) {
  ModelPack pack = MakePack("ns-iqa", RandomNsIqa(1), {}, TileSpec());
  EXPECT_EQ(LoadScorer(pack, CpuOptions()).status().code(), StatusCode::kInvalidArgument);  // its card says enhancer
  pack.card.task = ModelTask::kScore;
  Result<std::unique_ptr<Scorer>> scorer = LoadScorer(pack, CpuOptions());
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  for (Size size : {Size{1, 1}, Size{256, 256}, Size{700, 333}}) {
    const Result<PictureQuality> quality = (*scorer)->Score(RandomPicture(size, 3));
    ASSERT_TRUE(quality.ok()) << quality.status();
    EXPECT_GE(quality->score, 0.0);
    EXPECT_LE(quality->score, 100.0);
    EXPECT_EQ(quality->tile, std::max(size.width, size.height));
    EXPECT_EQ(quality->columns * quality->rows, 1);
    EXPECT_EQ(quality->map, std::vector<double>{quality->score});
    EXPECT_EQ(quality->score, (*scorer)->Score(RandomPicture(size, 3))->score);
  }
  EXPECT_EQ((*scorer)->Score(PlanarImage(1, 4, 4)).status().code(), StatusCode::kInvalidArgument);
  PlanarImage bad = RandomPicture({20, 20}, 3);
  bad.samples[5] = std::numeric_limits<float>::infinity();
  EXPECT_EQ((*scorer)->Score(bad).status().code(), StatusCode::kDataLoss);
}

TEST(ClassifierTest, RanksItsLabels) {
  ModelPack pack = MakePack("ns-c", RandomNsC(3, 1), {}, TileSpec());
  pack.card.task = ModelTask::kClassify;
  EXPECT_EQ(LoadClassifier(pack, CpuOptions()).status().code(), StatusCode::kInvalidArgument);  // no labels
  pack.card.labels = {"Kairitsu-LQ", "Kyouka-MQ", "Ritsuka-HQ"};
  Result<std::unique_ptr<Classifier>> classifier = LoadClassifier(pack, CpuOptions());
  ASSERT_TRUE(classifier.ok()) << classifier.status();
  const auto classes = (*classifier)->Classify(RandomPicture({300, 200}, 8), std::nullopt);
  ASSERT_TRUE(classes.ok()) << classes.status();
  ASSERT_EQ(classes->size(), 3u);
  double sum = 0;
  for (const auto& [label, probability] : *classes) sum += probability;
  EXPECT_NEAR(sum, 1.0, 1e-9);
  EXPECT_GE((*classes)[0].second, (*classes)[1].second);
  EXPECT_GE((*classes)[1].second, (*classes)[2].second);
}

ModelPack TileScorerPack(int tile) {
  TileSpec tiling;
  tiling.tile = tile;
  tiling.multiple = 16;
  ModelPack pack = MakePack("tile-iqa", RandomTileNet(8, 0, 1, 4), {{"features", 8}}, tiling);
  pack.card.task = ModelTask::kScore;
  return pack;
}

TEST(TileScorerTest, TheMapDoesNotDependOnThreadsOrOnWhatLiesBeyond) {
  Result<std::unique_ptr<Scorer>> scorer = LoadScorer(TileScorerPack(64), CpuOptions());
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  const PlanarImage large = RandomPicture({200, 150}, 5);
  PlanarImage small(3, 128, 64);
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < 64; ++y) std::copy_n(large.plane(c) + y * 200, 128, small.plane(c) + y * 128);
  }
  const Result<PictureQuality> all = (*scorer)->Score(large), part = (*scorer)->Score(small);
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_TRUE(part.ok()) << part.status();
  EXPECT_EQ(all->tile, 64);
  EXPECT_EQ(all->columns, 4);
  EXPECT_EQ(all->rows, 3);
  ASSERT_EQ(all->map.size(), 12u);
  EXPECT_EQ(part->map, (std::vector<double>{all->map[0], all->map[1]}));
  double mean = 0;
  for (double score : all->map) {
    EXPECT_GT(score, 0);
    EXPECT_LT(score, 100);
    mean += score / 12;
  }
  EXPECT_NEAR(all->score, mean, 1e-9);
  EXPECT_NE(all->map[0], all->map[1]);
  for (int threads : {2, 3, 8}) {
    EngineOptions options = CpuOptions();
    options.threads = threads;
    EXPECT_EQ((*LoadScorer(TileScorerPack(64), options))->Score(large)->map, all->map) << threads << " threads";
  }
}

TEST(TileScorerTest, TakesAnySizeAndRefusesWhatIsNoPicture) {
  Result<std::unique_ptr<Scorer>> scorer = LoadScorer(TileScorerPack(64), CpuOptions());
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  for (Size size : {Size{1, 1}, Size{5, 90}, Size{64, 64}, Size{65, 63}}) {
    const Result<PictureQuality> quality = (*scorer)->Score(RandomPicture(size, 3));
    ASSERT_TRUE(quality.ok()) << size.width << "x" << size.height << ": " << quality.status();
    EXPECT_EQ(quality->map.size(), static_cast<size_t>((size.width + 63) / 64 * ((size.height + 63) / 64)));
  }
  EXPECT_EQ((*scorer)->Score(PlanarImage(1, 4, 4)).status().code(), StatusCode::kInvalidArgument);
  for (float value : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    PlanarImage bad = RandomPicture({100, 20}, 3);
    bad.samples[90] = value;
    EXPECT_EQ((*scorer)->Score(bad).status().code(), StatusCode::kDataLoss);
  }
  EngineOptions options = CpuOptions();
  options.memory_budget = 1 << 10;
  EXPECT_EQ(LoadScorer(TileScorerPack(64), options).status().code(), StatusCode::kResourceExhausted);
}

TEST(TileClassifierTest, HearsOfTheTablesAndDoesNotDependOnThreads) {
  TileSpec tiling;
  tiling.tile = 128;
  tiling.multiple = 16;
  ModelPack pack = MakePack("tile-c", RandomTileNet(8, 3, 4, 4), {{"features", 8}}, tiling);
  pack.card.task = ModelTask::kClassify;
  EXPECT_EQ(LoadClassifier(pack, CpuOptions()).status().code(), StatusCode::kInvalidArgument);  // no labels
  pack.card.labels = {"a", "b", "c", "d"};
  Result<std::unique_ptr<Classifier>> classifier = LoadClassifier(pack, CpuOptions());
  ASSERT_TRUE(classifier.ok()) << classifier.status();
  JpegTables coarse, fine;
  coarse.luma.fill(80);
  coarse.chroma.fill(90);
  fine.luma.fill(2);
  fine.chroma.fill(3);
  for (Size size : {Size{10, 300}, Size{256, 256}, Size{900, 700}}) {
    const PlanarImage picture = RandomPicture(size, 8);
    const auto without = (*classifier)->Classify(picture, std::nullopt);
    ASSERT_TRUE(without.ok()) << without.status();
    ASSERT_EQ(without->size(), 4u);
    double sum = 0;
    for (const auto& [label, probability] : *without) sum += probability;
    EXPECT_NEAR(sum, 1.0, 1e-9);
    EXPECT_GE((*without)[0].second, (*without)[1].second);
    EXPECT_NE(*without, *(*classifier)->Classify(picture, coarse));
    EXPECT_NE(*(*classifier)->Classify(picture, fine), *(*classifier)->Classify(picture, coarse));
    EngineOptions options = CpuOptions();
    options.threads = 5;
    EXPECT_EQ(*(*LoadClassifier(pack, options))->Classify(picture, fine), *(*classifier)->Classify(picture, fine));
  }
  EXPECT_EQ((*classifier)->Classify(PlanarImage(1, 4, 4), std::nullopt).status().code(), StatusCode::kInvalidArgument);
}

TEST(TileClassifierTest, JudgesOnceFromWhatItSeesInAllCrops) {
  ModelPack pack = MakePack("tile-c", RandomTileNet(8, 3, 4, 4), {{"features", 8}}, TileSpec());
  pack.card.task = ModelTask::kClassify;
  pack.card.labels = {"a", "b", "c", "d"};
  Result<std::unique_ptr<Classifier>> classifier = LoadClassifier(pack, CpuOptions());
  ASSERT_TRUE(classifier.ok()) << classifier.status();
  const auto beside = [](const PlanarImage& left, const PlanarImage& right) {
    PlanarImage both(3, 512, 256);
    for (int c = 0; c < 3; ++c) {
      for (int y = 0; y < 256; ++y) {
        std::copy_n(left.plane(c) + y * 256, 256, both.plane(c) + y * 512);
        std::copy_n(right.plane(c) + y * 256, 256, both.plane(c) + y * 512 + 256);
      }
    }
    return both;
  };
  const auto ask = [&](const PlanarImage& picture) {
    std::map<std::string, double> said;
    const auto classes = (*classifier)->Classify(picture, std::nullopt);
    EXPECT_TRUE(classes.ok()) << classes.status();
    for (const auto& [label, probability] : *classes) said[label] = probability;
    return said;
  };
  const PlanarImage noise = RandomPicture({256, 256}, 8);
  PlanarImage calm = noise;
  for (float& sample : calm.samples) sample = 0.4f + 0.1f * sample;
  const auto of_noise = ask(noise), of_calm = ask(calm), of_both = ask(beside(noise, calm)), of_noise_twice = ask(beside(noise, noise)),
             swapped = ask(beside(calm, noise));
  double apart = 0, sum = 0;
  for (const auto& [label, probability] : of_noise) sum += std::sqrt(probability * of_calm.at(label));
  for (const auto& [label, probability] : of_noise) {
    EXPECT_NEAR(of_noise_twice.at(label), probability, 1e-5) << label;
    EXPECT_NEAR(swapped.at(label), of_both.at(label), 1e-5) << label;
    apart = std::max(apart, std::abs(of_both.at(label) - std::sqrt(probability * of_calm.at(label)) / sum));
  }
  EXPECT_GT(apart, 1e-3) << "no more than the mean of two verdicts";
}

}  // namespace
}  // namespace nsic
