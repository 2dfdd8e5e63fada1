// A farm of unlike devices: whole workers that each measure a simulated device, choose for themselves and restore their share of one
// picture.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/farm/tile_grid.h"
#include "core/infer/choose_precision.h"
#include "core/infer/engine.h"
#include "core/media/picture.h"
#include "tests/fakes/fake_coordinator.h"
#include "tests/fakes/identity_task.h"
#include "tests/fakes/simulated_device.h"
#include "tests/unit/media_pictures.h"
#include "worker/remember_precision.h"
#include "worker/work_loop.h"
#include "worker/worker_metrics.h"

namespace nsic {
namespace {

constexpr int kTolerance = 2 * 65535 / 255;  // what the policy allows a single sample

// A worker on a simulated device, and what it is given to do.
class Station {
 public:
  Station(const SimulatedDevice& device, const std::string& cache)
      : device_(device), cache_(cache), book_(cache + "/precisions.json", "here") {}
  ~Station() {
    if (!runner_.joinable()) return;
    loop_->Drain();
    runner_.join();
  }

  void Start() {
    WorkerOptions options;
    options.coordinator = coordinator.address();
    options.name = device_.name;
    options.version = "0.1.0";
    options.device_name = device_.name;
    options.max_memory = int64_t{1} << 30;
    options.cache = cache_;
    options.lease_wait_ms = 2000;
    ModelLoaders loaders;
    loaders.enhancer = [this](const ModelPack& pack) -> Result<std::unique_ptr<Enhancer>> {
      NSIC_ASSIGN_OR_RETURN(const Precision precision, book_.Choose(PackIdentity(pack.card), [&] {
        ++measured;
        SimulatedProbe probe(device_, pack);
        return ChoosePrecision(&probe);
      }));
      return SimulatedEnhancer(device_, pack, precision);
    };
    Result<std::unique_ptr<WorkLoop>> loop = WorkLoop::Make(std::move(options), std::move(loaders), &clock_, &metrics_);
    ASSERT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    runner_ = std::thread([this] { EXPECT_TRUE(loop_->Run().ok()) << device_.name; });
  }

  FakeCoordinator coordinator;
  std::map<std::string, Rect> regions;  // by token
  std::atomic<int> measured{0};

 private:
  const SimulatedDevice& device_;
  const std::string cache_;
  PrecisionBook book_;
  SystemClock clock_;
  WorkerMetrics metrics_;
  std::unique_ptr<WorkLoop> loop_;
  std::thread runner_;
};

class PrecisionFarmTest : public PictureTest {};

TEST_F(PrecisionFarmTest, EachWorkerChoosesForItselfAndTheJobIsWithinTolerance) {
  const struct {
    const char* device;
    const char* expected;
  } kRows[] = {
      {"rounds like fp16", "fp16"}, {"rounds like bf16", "bf16"}, {"rounds like tf32", "tf32"}, {"overflows", "fp32"}, {"slow", "fp32"},
      {"black frames", "fp32"}};
  ::unsetenv("http_proxy");
  ModelPack pack = CorrectingPack(0.02f);
  pack.card.licence = "CC0-1.0";
  pack.card.description = "random";
  pack.card.card_json = "{}";
  const Size size{230, 170};
  const std::string source = Path("source.png");
  Noise(size.width, size.height, 3, VIPS_FORMAT_USHORT).pngsave(source.c_str());
  const std::string bytes = Slurp(source);

  std::vector<std::unique_ptr<Station>> stations;
  for (const auto& row : kRows) {
    stations.push_back(std::make_unique<Station>(FindSimulatedDevice(row.device), Path("cache-" + std::string(row.device))));
  }
  const std::vector<Rect> regions = PlanTileTasks(TileGrid(size, pack.card.tiling), 2500);
  ASSERT_GE(regions.size(), 2 * stations.size()) << "each is to have more than one";
  for (size_t i = 0; i < regions.size(); ++i) {
    Station& station = *stations[i % stations.size()];
    const std::string token = "part " + std::to_string(i);
    v1::LeasedTask task = IdentityTask(&station.coordinator, token, bytes, size.width, size.height);
    task.mutable_source()->mutable_picture()->set_depth(16);
    SetModel(&station.coordinator, pack, &task);
    task.mutable_region()->set_x(regions[i].x);
    task.mutable_region()->set_y(regions[i].y);
    task.mutable_region()->set_width(regions[i].width);
    task.mutable_region()->set_height(regions[i].height);
    station.coordinator.Add(task);
    station.regions[token] = regions[i];
  }
  for (const auto& station : stations) station->Start();

  std::vector<SavedPiece> pieces;
  std::set<std::string> precisions;
  for (size_t i = 0; i < stations.size(); ++i) {
    SCOPED_TRACE(kRows[i].device);
    Station& station = *stations[i];
    for (const auto& [token, region] : station.regions) {
      ASSERT_TRUE(WaitUntil([&, token = token] { return station.coordinator.Completed(token); })) << token;
      pieces.push_back({region, Path("piece " + token)});
      Spill(pieces.back().path, station.coordinator.Output(token));
      std::lock_guard<std::mutex> lock(station.coordinator.work.mutex);
      const v1::TaskResult& result = station.coordinator.work.completed[token];
      EXPECT_EQ(result.precision(), kRows[i].expected) << token;
      EXPECT_EQ(result.tiles_redone(), 0) << token;
      precisions.insert(result.precision());
    }
    EXPECT_EQ(station.measured, 1);
    EXPECT_TRUE(WaitUntil([&] {
      std::lock_guard<std::mutex> lock(station.coordinator.work.mutex);
      const v1::LeaseRequest& last = station.coordinator.work.leases.back();
      return last.speeds_size() == 1 && last.speeds(0).precision() == kRows[i].expected;
    })) << "the coordinator is told, for `workers`";
  }
  EXPECT_EQ(precisions.size(), 4u);

  const std::string restored = Path("restored.png");
  const Status finished = FinishPictureFromPieces(source, pieces, 1, FinishOptions(), restored);
  ASSERT_TRUE(finished.ok()) << finished;

  const std::unique_ptr<Enhancer> exact = SimulatedEnhancer(pack, Precision::kFloat32, Rounding::kFp32);
  const std::unique_ptr<PictureReader> reader = *PictureReader::Open(source);
  WorkingPicture working({0, 0, size.width, size.height});
  const Result<EnhanceStats> stats = exact->Enhance(
      size, {0, 0, size.width, size.height}, [&](const Rect& rect, float* planar) { return reader->Read(rect, planar); },
      [&](const Rect& rect, const float* planar) {
        working.Write(rect, planar);
        return OkStatus();
      },
      CancelToken());
  ASSERT_TRUE(stats.ok()) << stats.status();
  const Decoded output = DecodeFile(restored), before = DecodeFile(source);
  ASSERT_EQ(output.samples.size(), working.samples().size());
  int largest = 0, change = 0;
  for (size_t i = 0; i < output.samples.size(); ++i) {
    largest = std::max(largest, std::abs(output.samples[i] - working.samples()[i]));
    change = std::max(change, std::abs(before.samples[i] - working.samples()[i]));
  }
  EXPECT_GT(largest, 0) << "the devices were meant to differ";
  EXPECT_LE(largest, kTolerance);
  EXPECT_GT(change, kTolerance) << "the model was meant to do something";
}

}  // namespace
}  // namespace nsic
