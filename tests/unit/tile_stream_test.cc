// Batches of tiles, two of them in flight, and what happens when memory ends: on the CPU, where neither is the usual way.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/planar_image.h"
#include "core/infer/engine.h"
#include "core/infer/load_network.h"
#include "core/infer/tile_runner.h"
#include "models/arch/network.h"
#include "tests/unit/random_packs.h"

namespace nsic {
namespace {

constexpr Size kPicture{150, 110};

// What a device does, and what was asked of it.
struct Device {
  int64_t room = std::numeric_limits<int64_t>::max();  // tiles that fit its memory at once
  float poison = 2;                                    // a tile with a first sample above this comes out as NaN
  std::vector<int64_t> batches;                        // sizes of those that were computed
  int refusals = 0;
};

class DeviceNetwork : public Network {
 public:
  DeviceNetwork(std::unique_ptr<Network> real, Device* device) : real_(std::move(real)), device_(device) {}

  at::Tensor Forward(const at::Tensor& x) const override {
    if (x.size(0) > device_->room) {
      ++device_->refusals;
      TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried to allocate 2.00 GiB");
    }
    device_->batches.push_back(x.size(0));
    at::Tensor y = real_->Forward(x);
    for (int64_t n = 0; n < x.size(0); ++n) {
      if (x[n][0][0][0].item<float>() > device_->poison) y[n].fill_(std::numeric_limits<float>::quiet_NaN());
    }
    return y;
  }
  int64_t PeakBytes(int64_t height, int64_t width) const override { return 100 * height * width; }

 private:
  const std::unique_ptr<Network> real_;
  Device* const device_;
};

EngineOptions Options() {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 1;
  return options;
}

std::unique_ptr<LoadedNetwork> Load(const ModelPack& pack) {
  Result<LoadedNetwork> loaded = LoadNetwork(pack, Options());
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return std::make_unique<LoadedNetwork>(*std::move(loaded));
}

std::unique_ptr<Enhancer> EnhancerOn(Device* device, const ModelPack& pack, Batching batching, int64_t memory_budget = int64_t{1} << 30) {
  std::unique_ptr<LoadedNetwork> loaded = Load(pack);
  loaded->network = std::make_unique<DeviceNetwork>(std::move(loaded->network), device);
  const auto exact = [pack]() -> Result<std::unique_ptr<LoadedNetwork>> { return Load(pack); };
  auto runner =
      std::make_unique<TileRunner>(std::move(loaded), Precision::kFloat16, exact, pack.card.tiling.multiple, pack.card.scale, batching);
  return MakeEnhancer(pack.card, std::move(runner), memory_budget);
}

Result<EnhanceStats> Enhance(Enhancer& enhancer, const PlanarImage& picture, PlanarImage* output) {
  *output = PlanarImage(3, picture.width, picture.height);
  const ReadPixels read = [&](const Rect& rect, float* planar) {
    for (int channel = 0; channel < 3; ++channel) {
      for (int y = rect.y; y < rect.bottom(); ++y) {
        planar = std::copy_n(picture.plane(channel) + int64_t{y} * picture.width + rect.x, rect.width, planar);
      }
    }
    return OkStatus();
  };
  const WritePixels write = [&](const Rect& rect, const float* planar) {
    for (int channel = 0; channel < 3; ++channel) {
      for (int y = rect.y; y < rect.bottom(); ++y, planar += rect.width) {
        std::copy_n(planar, rect.width, output->plane(channel) + int64_t{y} * output->width + rect.x);
      }
    }
    return OkStatus();
  };
  return enhancer.Enhance(picture.size(), {0, 0, picture.width, picture.height}, read, write, CancelToken());
}

PlanarImage Plain(const ModelPack& pack, const PlanarImage& picture) {
  PlanarImage output;
  const Result<EnhanceStats> stats = Enhance(**LoadEnhancer(pack, Options()), picture, &output);
  EXPECT_TRUE(stats.ok()) << stats.status();
  return output;
}

struct Row {
  const char* name;
  ModelPack pack;
};
std::vector<Row> Rows() {
  return {{"exact halo", RandomLightPack(8, 1, HaloTiles(48, 8, 2))},
          {"blended", RandomLightPack(8, 1, BlendedTiles(48, 16, 2, BlendWindow::kFeather))}};
}

TEST(TileStreamTest, BatchesGiveTheSamePixels) {
  const PlanarImage picture = RandomPicture(kPicture, 1);
  for (const Row& row : Rows()) {
    const PlanarImage expected = Plain(row.pack, picture);
    for (const Batching batching : {Batching{1, 1}, Batching{1, 2}, Batching{3, 1}, Batching{4, 2}, Batching{100, 2}}) {
      SCOPED_TRACE(std::string(row.name) + ", " + std::to_string(batching.tiles) + " tiles, " + std::to_string(batching.in_flight) +
                   " in flight");
      Device device;
      const std::unique_ptr<Enhancer> enhancer = EnhancerOn(&device, row.pack, batching);
      PlanarImage output;
      const Result<EnhanceStats> stats = Enhance(*enhancer, picture, &output);
      ASSERT_TRUE(stats.ok()) << stats.status();
      EXPECT_TRUE(output.samples == expected.samples);
      EXPECT_EQ(stats->tiles, TileGrid(kPicture, row.pack.card.tiling).count());
      EXPECT_EQ(stats->tiles_redone, 0);
      EXPECT_EQ(stats->batches_halved, 0);
      const int64_t largest = *std::max_element(device.batches.begin(), device.batches.end());
      EXPECT_EQ(largest > 1, batching.tiles > 1);
      EXPECT_LE(largest, batching.tiles);
    }
  }
}

TEST(TileStreamTest, ABatchFitsTheMemoryBudget) {
  const PlanarImage picture = RandomPicture(kPicture, 1);
  const ModelPack pack = Rows()[0].pack;
  Device device;
  const int64_t tile = TileRunner(Load(pack), Precision::kFloat32, nullptr, 2, 1).TileBytes({48, 48});
  const int64_t of_device = tile - Load(pack)->network->PeakBytes(48, 48) + 100 * 48 * 48;
  const struct {
    int64_t tiles_of_memory;
    int in_flight;
    int64_t largest;
  } kRows[] = {{1, 1, 1}, {1, 2, 1}, {3, 1, 3}, {5, 2, 2}, {1000, 1, 6}};
  for (const auto& row : kRows) {
    device.batches.clear();
    PlanarImage output;
    ASSERT_TRUE(Enhance(*EnhancerOn(&device, pack, {6, row.in_flight}, row.tiles_of_memory * of_device), picture, &output).ok());
    EXPECT_EQ(*std::max_element(device.batches.begin(), device.batches.end()), row.largest)
        << row.tiles_of_memory << " tiles of memory, " << row.in_flight << " in flight";
  }
}

TEST(TileStreamTest, OutOfMemoryHalvesTheBatch) {
  const PlanarImage picture = RandomPicture(kPicture, 1);
  for (const Row& row : Rows()) {
    const PlanarImage expected = Plain(row.pack, picture);
    for (const int in_flight : {1, 2}) {
      SCOPED_TRACE(std::string(row.name) + ", " + std::to_string(in_flight) + " in flight");
      Device device;
      device.room = 2;
      const std::unique_ptr<Enhancer> enhancer = EnhancerOn(&device, row.pack, {8, in_flight});
      for (int picture_number = 0; picture_number < 2; ++picture_number) {
        PlanarImage output;
        const Result<EnhanceStats> stats = Enhance(*enhancer, picture, &output);
        ASSERT_TRUE(stats.ok()) << stats.status();
        EXPECT_TRUE(output.samples == expected.samples);
        EXPECT_EQ(stats->batches_halved > 0, picture_number == 0) << "what was learnt stays";
      }
      EXPECT_LE(device.refusals, 3);
      EXPECT_EQ(*std::max_element(device.batches.begin(), device.batches.end()), 2);
    }
  }
}

// Has memory for one tile at a time.
class NarrowNetwork : public Network {
 public:
  NarrowNetwork(std::unique_ptr<Network> real, std::atomic<int>* refusals) : real_(std::move(real)), refusals_(refusals) {}

  at::Tensor Forward(const at::Tensor& x) const override {
    const bool alone = inside_.fetch_add(1) == 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(alone ? 20 : 0));  // long enough to be met by the next tile
    const at::Tensor y = alone ? real_->Forward(x) : at::Tensor();
    --inside_;
    if (!alone) {
      ++*refusals_;
      TORCH_CHECK_WITH(OutOfMemoryError, false, "out of memory. Tried to allocate 2.00 GiB");
    }
    return y;
  }
  int64_t PeakBytes(int64_t height, int64_t width) const override { return 100 * height * width; }

 private:
  const std::unique_ptr<Network> real_;
  std::atomic<int>* const refusals_;
  mutable std::atomic<int> inside_{0};
};

TEST(TileStreamTest, TilesOnThreadsOfTheirOwnGiveTheSamePixels) {
  const PlanarImage picture = RandomPicture(kPicture, 5);
  for (const Row& row : Rows()) {
    for (const Batching batching : {Batching{1, 1, 1}, Batching{1, 3, 2}, Batching{1, 6, 5}, Batching{1, 65, 64}}) {
      auto runner = std::make_unique<TileRunner>(Load(row.pack), Precision::kFloat32, nullptr, row.pack.card.tiling.multiple,
                                                 row.pack.card.scale, batching);
      const std::unique_ptr<Enhancer> enhancer = MakeEnhancer(row.pack.card, std::move(runner), int64_t{1} << 30);
      PlanarImage output;
      const Result<EnhanceStats> stats = Enhance(*enhancer, picture, &output);
      ASSERT_TRUE(stats.ok()) << row.name << ": " << stats.status();
      EXPECT_EQ(output.samples, Plain(row.pack, picture).samples) << row.name << ", " << batching.threads << " threads";
    }
  }
}

TEST(TileStreamTest, NoPrecisionDependsOnTheNumberOfThreads) {
  const PlanarImage picture = RandomPicture(kPicture, 7);
  std::vector<Precision> precisions = FasterPrecisions("cpu");
  precisions.push_back(Precision::kFloat32);
  for (const Row& row : Rows()) {
    for (const Precision precision : precisions) {
      EngineOptions options = Options();
      options.precision = precision;
      PlanarImage alone;
      ASSERT_TRUE(Enhance(**LoadEnhancer(row.pack, options), picture, &alone).ok()) << row.name;
      for (const int threads : {2, 3, 8}) {
        options.threads = threads;
        PlanarImage output;
        const Result<EnhanceStats> stats = Enhance(**LoadEnhancer(row.pack, options), picture, &output);
        ASSERT_TRUE(stats.ok()) << row.name << ": " << stats.status();
        EXPECT_EQ(output.samples, alone.samples) << row.name << " in " << PrecisionName(precision) << " on " << threads << " threads";
      }
    }
  }
}

TEST(TileStreamTest, OutOfMemoryLeavesATileAlone) {
  const Row row = Rows()[0];
  const PlanarImage picture = RandomPicture(kPicture, 6);
  std::atomic<int> refusals{0};
  std::unique_ptr<LoadedNetwork> loaded = Load(row.pack);
  loaded->network = std::make_unique<NarrowNetwork>(std::move(loaded->network), &refusals);
  auto runner = std::make_unique<TileRunner>(std::move(loaded), Precision::kFloat32, nullptr, row.pack.card.tiling.multiple,
                                             row.pack.card.scale, Batching{1, 5, 4});
  const std::unique_ptr<Enhancer> enhancer = MakeEnhancer(row.pack.card, std::move(runner), int64_t{1} << 30);
  PlanarImage output;
  const Result<EnhanceStats> stats = Enhance(*enhancer, picture, &output);
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(output.samples, Plain(row.pack, picture).samples);
  EXPECT_GT(refusals, 0);
  EXPECT_GT(stats->batches_halved, 0);
}

TEST(TileStreamTest, NoMemoryForOneTileFailsByName) {
  const PlanarImage picture = RandomPicture(kPicture, 1);
  Device device;
  device.room = 0;
  PlanarImage output;
  const Status status = Enhance(*EnhancerOn(&device, Rows()[0].pack, {8, 2}), picture, &output).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("random-light, tile "), std::string::npos) << status;
  EXPECT_NE(status.message().find("out of memory"), std::string::npos) << status;
}

TEST(TileStreamTest, OnlyTheBadTileOfABatchIsRedone) {
  PlanarImage picture = RandomPicture(kPicture, 1);
  for (float& sample : picture.samples) sample = std::min(std::max(sample, 0.0f), 0.9f);
  for (const Row& row : Rows()) {
    SCOPED_TRACE(row.name);
    PlanarImage marked = picture;
    const Rect second = TileGrid(kPicture, row.pack.card.tiling).tile(1, 0).input;
    marked.plane(0)[int64_t{second.y} * marked.width + second.x] = 1.0f;
    Device device;
    device.poison = 0.95f;
    PlanarImage output;
    const Result<EnhanceStats> stats = Enhance(*EnhancerOn(&device, row.pack, {4, 2}), marked, &output);
    ASSERT_TRUE(stats.ok()) << stats.status();
    EXPECT_EQ(stats->tiles_redone, 1);
    EXPECT_TRUE(output.samples == Plain(row.pack, marked).samples);
  }
}

TEST(TileStreamTest, FramesInBatchesRepeatWhatHasNotChanged) {
  PlanarImage first = RandomPicture(kPicture, 1);
  PlanarImage second = first;
  for (int channel = 0; channel < 3; ++channel) second.plane(channel)[0] = 0.5f;  // one tile changes
  for (const Row& row : Rows()) {
    SCOPED_TRACE(row.name);
    Device device;
    device.room = 3;
    const std::unique_ptr<Enhancer> enhancer = EnhancerOn(&device, row.pack, {5, 2});
    const std::unique_ptr<FrameEnhancer> frames = enhancer->ForFrames(kPicture, 0);
    PlanarImage outputs[3];
    const PlanarImage* const sources[] = {&first, &second, &first};
    for (int i = 0; i < 3; ++i) {
      outputs[i] = PlanarImage(3, kPicture.width, kPicture.height);
      const Result<EnhanceStats> stats = frames->Enhance(sources[i]->samples.data(), outputs[i].samples.data(), CancelToken());
      ASSERT_TRUE(stats.ok()) << stats.status();
      EXPECT_EQ(stats->tiles + stats->tiles_repeated, TileGrid(kPicture, row.pack.card.tiling).count());
      EXPECT_EQ(stats->tiles, i == 0 ? TileGrid(kPicture, row.pack.card.tiling).count() : 1) << "frame " << i;
      EXPECT_TRUE(outputs[i].samples == Plain(row.pack, *sources[i]).samples) << "frame " << i;
    }
  }
}

}  // namespace
}  // namespace nsic
