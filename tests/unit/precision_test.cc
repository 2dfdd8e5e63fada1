// The choice of a precision, on devices that are simulated. No measured time decides anything here.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/farm/tile_grid.h"
#include "core/infer/choose_precision.h"
#include "core/infer/engine.h"
#include "tests/fakes/simulated_device.h"
#include "tests/unit/random_packs.h"

namespace nsic {
namespace {

constexpr double kTolerance = 2.0 / 255;  // what the policy allows a single sample

TEST(ChoosePrecisionTest, EachDeviceItsOwn) {
  const struct {
    const char* device;
    const char* model;
    Precision expected;
    const char* says;  // in the text for the log
  } kRows[] = {
      {"rounds like fp16", "small corrections", Precision::kFloat16, "bf16 3.0000 s, error"},
      {"rounds like fp16", "overflows fp16", Precision::kFloat32, "fp16, refused: it gives NaN or Inf"},
      {"rounds like bf16", "small corrections", Precision::kBFloat16, "fp16, refused: no kernel for this type"},
      {"rounds like bf16", "overflows fp16", Precision::kBFloat16, "bf16: "},
      {"rounds like bf16", "large corrections", Precision::kFloat32, "is too large"},
      {"both", "small corrections", Precision::kBFloat16, "fp16 0.3500 s"},
      {"both", "large corrections", Precision::kFloat16, "is too large"},
      {"both", "overflows fp16", Precision::kBFloat16, "NaN or Inf"},
      {"rounds like tf32", "small corrections", Precision::kTensorFloat32, "fp16 0.8000 s"},
      {"rounds like tf32", "large corrections", Precision::kTensorFloat32, "tf32: "},
      {"rounds like tf32", "overflows fp16", Precision::kTensorFloat32, "NaN or Inf"},
      {"overflows", "small corrections", Precision::kFloat32, "NaN or Inf"},
      {"slow", "small corrections", Precision::kFloat32, "it is not faster"},
      {"black frames", "small corrections", Precision::kFloat32, "it gives a flat picture"},
      {"old", "small corrections", Precision::kFloat32, "fp32"},
  };
  for (const auto& row : kRows) {
    SCOPED_TRACE(std::string(row.device) + ", " + row.model);
    const std::string model = row.model;
    const ModelPack pack = model == "overflows fp16"      ? OverflowingPack(0.02f)
                           : model == "large corrections" ? CorrectingPack(1.5f)
                                                          : CorrectingPack(0.02f);
    SimulatedProbe probe(FindSimulatedDevice(row.device), pack);
    const Result<PrecisionChoice> choice = ChoosePrecision(&probe);
    ASSERT_TRUE(choice.ok()) << choice.status();
    EXPECT_EQ(PrecisionName(choice->precision), PrecisionName(row.expected)) << ChoiceText(*choice);
    EXPECT_NE(ChoiceText(*choice).find(row.says), std::string::npos) << ChoiceText(*choice);
    EXPECT_EQ(ChoiceText(*ChoosePrecision(&probe)), ChoiceText(*choice)) << "not the same again";
  }
}

TEST(ChoosePrecisionTest, AModelThatFailsInFp32FailsByName) {
  ModelPack pack = CorrectingPack(0.02f);
  ScaleTensor(&pack.weights["convs.0.weight"], std::nanf(""));
  SimulatedProbe probe(FindSimulatedDevice("both"), pack);
  EXPECT_EQ(ChoosePrecision(&probe).status().code(), StatusCode::kDataLoss);
  SimulatedProbe old(FindSimulatedDevice("old"), pack);
  ASSERT_TRUE(ChoosePrecision(&old).ok());
  EXPECT_EQ(old.runs, 0) << "nothing to compare, nothing to measure";
}

Result<EnhanceStats> EnhanceRegion(Enhancer& enhancer, const PlanarImage& picture, const Rect& region, PlanarImage* output) {
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
  return enhancer.Enhance(picture.size(), region, read, write, CancelToken());
}

PlanarImage EnhanceWhole(Enhancer& enhancer, const PlanarImage& picture) {
  PlanarImage output(3, picture.width * enhancer.card().scale, picture.height * enhancer.card().scale);
  const Result<EnhanceStats> stats = EnhanceRegion(enhancer, picture, {0, 0, picture.width, picture.height}, &output);
  EXPECT_TRUE(stats.ok()) << stats.status();
  return output;
}

double LargestDifference(const PlanarImage& a, const PlanarImage& b) {
  double largest = 0;
  for (size_t i = 0; i < a.samples.size(); ++i) largest = std::max(largest, std::fabs(static_cast<double>(a.samples[i]) - b.samples[i]));
  return largest;
}

// A farm of such devices restores one picture in pieces: each computes as it chose, and together they stay within tolerance.
TEST(ChoosePrecisionTest, AFarmOfUnlikeDevicesStaysWithinTolerance) {
  const ModelPack packs[] = {CorrectingPack(0.02f), OverflowingPack(0.02f)};
  for (const ModelPack& pack : packs) {
    const PlanarImage picture = RandomPicture({180, 140}, 11);
    const PlanarImage exact = EnhanceWhole(*SimulatedEnhancer(pack, Precision::kFloat32, Rounding::kFp32), picture);
    const std::vector<Rect> tasks = PlanTileTasks(TileGrid(picture.size(), pack.card.tiling), 2000);
    ASSERT_GE(tasks.size(), SimulatedDevices().size());
    PlanarImage output(3, picture.width, picture.height);
    std::map<Precision, int> taken;
    for (size_t i = 0; i < tasks.size(); ++i) {
      const SimulatedDevice& device = SimulatedDevices()[i % SimulatedDevices().size()];
      SimulatedProbe probe(device, pack);
      const Result<PrecisionChoice> choice = ChoosePrecision(&probe);
      ASSERT_TRUE(choice.ok()) << device.name << ": " << choice.status();
      ++taken[choice->precision];
      const std::unique_ptr<Enhancer> enhancer = SimulatedEnhancer(device, pack, choice->precision);
      EXPECT_EQ(enhancer->precision(), choice->precision);
      const Result<EnhanceStats> stats = EnhanceRegion(*enhancer, picture, tasks[i], &output);
      ASSERT_TRUE(stats.ok()) << device.name << ": " << stats.status();
      EXPECT_EQ(stats->tiles_redone, 0) << device.name;
    }
    const bool overflows = &pack == &packs[1];
    EXPECT_EQ(taken[Precision::kFloat16] > 0, !overflows);
    EXPECT_GT(taken[Precision::kBFloat16], 0);
    EXPECT_GT(taken[Precision::kFloat32], 0);
    EXPECT_LT(LargestDifference(output, exact), kTolerance);
    EXPECT_GT(LargestDifference(output, exact), 0.0) << "the devices were meant to differ";
  }
}

// The probe cannot show everything: tiles that overflow later are redone in fp32, and only those.
TEST(ChoosePrecisionTest, TilesThatOverflowAreRedoneInFp32) {
  ModelPack pack = CorrectingPack(0.02f);
  // The first layer adds up two samples of each cell, times 50,000: within fp16 while both are below 0.65.
  HostTensor& first = pack.weights["convs.0.weight"];  // 8 x 12 x 3 x 3
  ScaleTensor(&first, 0.0f);
  for (size_t out = 0; out < 8; ++out) {
    for (size_t in = 0; in < 2; ++in) {
      const float weight = 5e4f;
      std::memcpy(first.data.data() + ((out * 12 + in) * 9 + 4) * sizeof weight, &weight, sizeof weight);
    }
  }
  ScaleTensor(&pack.weights["convs.1.weight"], 1e-5f);
  PlanarImage picture = RandomPicture({120, 100}, 3);
  for (float& sample : picture.samples) sample = std::clamp(sample, 0.0f, 1.0f) * 0.5f;
  const Rect bright{90, 70, 20, 20};
  for (int channel = 0; channel < 3; ++channel) {
    for (int y = bright.y; y < bright.bottom(); ++y) {
      for (int x = bright.x; x < bright.right(); ++x) picture.plane(channel)[y * picture.width + x] = 1.0f;
    }
  }
  const TileGrid grid(picture.size(), pack.card.tiling);
  int64_t expected = 0;
  for (int row = 0; row < grid.rows(); ++row) {
    for (int column = 0; column < grid.columns(); ++column) {
      expected += Intersect(grid.tile(column, row).input, bright).empty() ? 0 : 1;
    }
  }
  ASSERT_GT(expected, 0);
  ASSERT_LT(expected, grid.count());

  const PlanarImage exact = EnhanceWhole(*SimulatedEnhancer(pack, Precision::kFloat32, Rounding::kFp32), picture);
  PlanarImage output(3, picture.width, picture.height);
  const std::unique_ptr<Enhancer> half = SimulatedEnhancer(pack, Precision::kFloat16, Rounding::kFp16);
  const Result<EnhanceStats> stats = EnhanceRegion(*half, picture, {0, 0, picture.width, picture.height}, &output);
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(stats->tiles_redone, expected);
  EXPECT_LT(LargestDifference(output, exact), kTolerance);

  // And black frames: every tile.
  const std::unique_ptr<Enhancer> black = SimulatedEnhancer(pack, Precision::kFloat16, Rounding::kNothing);
  const Result<EnhanceStats> redone = EnhanceRegion(*black, picture, {0, 0, picture.width, picture.height}, &output);
  ASSERT_TRUE(redone.ok()) << redone.status();
  EXPECT_EQ(redone->tiles_redone, grid.count());
  EXPECT_EQ(LargestDifference(output, exact), 0.0);
}

EngineOptions CpuOptions(Precision precision, int threads) {
  EngineOptions options;
  options.device = "cpu";
  options.precision = precision;
  options.threads = threads;
  return options;
}

// What this processor offers besides fp32, which may be nothing.
TEST(PrecisionTest, TheProcessorsOwnPrecisionsComputeTheSamePicture) {
  const struct {
    const char* name;
    ModelPack pack;
  } kRows[] = {
      {"light", RandomLightPack(16, 4, HaloTiles(64, 14, 2))},
      {"srvgg-compact", RandomSrvggPack(16, 4, 2, HaloTiles(48, 4, 1))},
      {"ns-iqe", RandomNsIqePack(16, 1, BlendedTiles(64, 16, 4, BlendWindow::kFeather))},
  };
  const PlanarImage picture = RandomPicture({110, 70}, 5);
  for (const Precision precision : FasterPrecisions("cpu")) {
    EXPECT_TRUE(CheckPrecision("cpu", precision).ok());
    for (const auto& row : kRows) {
      SCOPED_TRACE(std::string(row.name) + ", " + std::string(PrecisionName(precision)));
      const std::unique_ptr<Enhancer> exact = *LoadEnhancer(row.pack, CpuOptions(Precision::kFloat32, 1));
      const std::unique_ptr<Enhancer> half = *LoadEnhancer(row.pack, CpuOptions(precision, 1));
      EXPECT_EQ(half->precision(), precision);
      const PlanarImage expected = EnhanceWhole(*exact, picture);
      const PlanarImage actual = EnhanceWhole(*half, picture);
      EXPECT_GT(LargestDifference(actual, expected), 0.0);
      EXPECT_LT(LargestDifference(actual, expected), 0.1) << "random weights make large corrections";

      // Neither the threads nor the cut of the work change a bit.
      const std::unique_ptr<Enhancer> threaded = *LoadEnhancer(row.pack, CpuOptions(precision, 2));
      EXPECT_EQ(LargestDifference(EnhanceWhole(*threaded, picture), actual), 0.0) << "two threads";
      const int scale = row.pack.card.scale;
      const Rect region{40, 20, 60, 40};
      PlanarImage part(3, picture.width * scale, picture.height * scale);
      ASSERT_TRUE(EnhanceRegion(*half, picture, region, &part).ok());
      for (int channel = 0; channel < 3; ++channel) {
        for (int y = region.y * scale; y < region.bottom() * scale; ++y) {
          const int64_t at = int64_t{y} * part.width + region.x * scale;
          ASSERT_EQ(
              std::memcmp(part.plane(channel) + at, actual.plane(channel) + at, static_cast<size_t>(region.width * scale) * sizeof(float)),
              0)
              << "row " << y;
        }
      }
    }
  }
}

TEST(PrecisionTest, TheProbeOfARealNetwork) {
  const ModelPack pack = RandomLightPack(16, 2, HaloTiles(64, 10, 2));
  const ManualClock clock;  // stands still: no candidate is faster
  EngineOptions options = CpuOptions(Precision::kFloat32, 1);
  const Result<std::unique_ptr<PrecisionProbe>> probe = MakeNetworkProbe(pack, options, &clock);
  ASSERT_TRUE(probe.ok()) << probe.status();
  const Result<ProbeRun> run = (*probe)->Run(Precision::kFloat32);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->output.size(), 3u * 64 * 64);
  EXPECT_EQ((*probe)->Run(Precision::kFloat32)->output, run->output);
  EXPECT_EQ((*probe)->Run(Precision::kFloat16).status().code(), StatusCode::kInvalidArgument) << "no CPU computes fp16 here";
  const Result<PrecisionChoice> choice = ChoosePrecision(probe->get());
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_EQ(choice->precision, Precision::kFloat32) << ChoiceText(*choice);
  EXPECT_EQ(choice->trials.size(), FasterPrecisions("cpu").empty() ? 0u : 1 + FasterPrecisions("cpu").size());

  options.memory_budget = 1;  // the smallest tile, then
  EXPECT_EQ((*MakeNetworkProbe(pack, options, &clock))->Run(Precision::kFloat32)->output.size(), 3u * 2 * 2);
}

TEST(PrecisionTest, NamesAndRefusals) {
  for (const Precision precision : {Precision::kFloat32, Precision::kTensorFloat32, Precision::kBFloat16, Precision::kFloat16}) {
    const Result<Precision> parsed = ParsePrecision(PrecisionName(precision));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, precision);
  }
  EXPECT_NE(ParsePrecision("half").status().message().find("known: fp32, tf32, bf16, fp16"), std::string::npos);
  EXPECT_TRUE(CheckPrecision("cpu", Precision::kFloat32).ok());
  EXPECT_EQ(CheckPrecision("cpu", Precision::kTensorFloat32).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(CheckPrecision("cuda:0", Precision::kTensorFloat32).ok());
  const Status refused = CheckPrecision("cpu", Precision::kFloat16);
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(refused.message().find("device cpu has no hardware for fp16; use fp32"), std::string::npos) << refused;
  EXPECT_EQ(LoadEnhancer(RandomLightPack(8, 1, HaloTiles(64, 8, 2)), CpuOptions(Precision::kFloat16, 1)).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_NE(EngineSoftware("cpu").find("LibTorch "), std::string::npos);
}

}  // namespace
}  // namespace nsic
