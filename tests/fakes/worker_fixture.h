// A whole worker in this process, against a fake coordinator on loopback, its engine under the test's control.
#ifndef NSIC_TESTS_FAKES_WORKER_FIXTURE_H_
#define NSIC_TESTS_FAKES_WORKER_FIXTURE_H_

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/base/digest.h"
#include "core/infer/engine.h"
#include "core/media/picture.h"
#include "tests/fakes/fake_coordinator.h"
#include "tests/fakes/identity_task.h"
#include "tests/unit/media_pictures.h"
#include "worker/work_loop.h"
#include "worker/worker_metrics.h"

namespace nsic {

using std::chrono::milliseconds;

// What the engine does when the worker's own benchmark is over, set by the test.
struct EngineScript {
  std::atomic<bool> blocked{false};  // Enhance waits until this is false or it is cancelled
  std::atomic<int> computing{0};     // how many calls have begun
  std::atomic<int> cancelled{0};
  std::atomic<bool> out_of_memory{false};
  std::atomic<bool> not_a_number{false};
  std::atomic<int> scored{0};  // calls
  std::atomic<int> classified{0};
};

// Does what the script says; CANCELLED, or an error of its.
inline Status Obey(EngineScript* script, const CancelToken& cancel) {
  ++script->computing;
  while (script->blocked && !cancel.cancelled()) std::this_thread::sleep_for(milliseconds(1));
  if (cancel.cancelled()) ++script->cancelled;
  NSIC_RETURN_IF_ERROR(cancel.Check());
  if (script->out_of_memory) throw std::bad_alloc();
  if (script->not_a_number) return DataLossError("tile 0 stays NaN in fp32");
  return OkStatus();
}

class ScriptedFrameEnhancer : public FrameEnhancer {
 public:
  ScriptedFrameEnhancer(std::unique_ptr<FrameEnhancer> real, EngineScript* script) : real_(std::move(real)), script_(script) {}
  int64_t memory_bytes() const override { return real_->memory_bytes(); }
  Result<EnhanceStats> Enhance(const float* before, float* after, const CancelToken& cancel) override {
    NSIC_RETURN_IF_ERROR(Obey(script_, cancel));
    return real_->Enhance(before, after, cancel);
  }

 private:
  const std::unique_ptr<FrameEnhancer> real_;
  EngineScript* const script_;
};

// A real enhancer with switches.
class ScriptedEnhancer : public Enhancer {
 public:
  ScriptedEnhancer(std::unique_ptr<Enhancer> real, EngineScript* script) : real_(std::move(real)), script_(script) {}
  const ModelCard& card() const override { return real_->card(); }
  Precision precision() const override { return real_->precision(); }
  std::unique_ptr<FrameEnhancer> ForFrames(Size frame, float threshold) override {
    return std::make_unique<ScriptedFrameEnhancer>(real_->ForFrames(frame, threshold), script_);
  }
  Result<EnhanceStats> Enhance(Size picture, const Rect& region, const ReadPixels& read, const WritePixels& write,
                               const CancelToken& cancel) override {
    if (benchmarked_) NSIC_RETURN_IF_ERROR(Obey(script_, cancel));
    const Result<EnhanceStats> stats = real_->Enhance(picture, region, read, write, cancel);
    if (++calls_ == kBenchmarkCalls) benchmarked_ = true;
    return stats;
  }

 private:
  static constexpr int kBenchmarkCalls = 8;  // the identity is quick: the benchmark makes all of its runs
  const std::unique_ptr<Enhancer> real_;
  EngineScript* const script_;
  int calls_ = 0;
  bool benchmarked_ = false;
};

// Scores by a rule that a test can follow: the mean of all samples, as hundredths.
class FakeScorer : public Scorer {
 public:
  explicit FakeScorer(EngineScript* script) : script_(script) {}
  Result<PictureQuality> Score(const PlanarImage& picture) override {
    ++script_->scored;
    if (script_->not_a_number) return DataLossError("the network gives NaN or Inf for this picture");
    double sum = 0;
    for (const float sample : picture.samples) sum += sample;
    PictureQuality quality;
    quality.score = 100 * sum / static_cast<double>(picture.samples.size());
    return quality;
  }

 private:
  EngineScript* const script_;
};

// Likewise: the first label where red outweighs blue, else the second; more surely by a tenth when it is told a JPEG's tables.
class FakeClassifier : public Classifier {
 public:
  FakeClassifier(std::vector<std::string> labels, EngineScript* script) : labels_(std::move(labels)), script_(script) {}
  Result<std::vector<std::pair<std::string, double>>> Classify(const PlanarImage& picture, const std::optional<JpegTables>& jpeg) override {
    ++script_->classified;
    double red = 0;
    for (int64_t i = 0; i < picture.size().area(); ++i) red += picture.plane(0)[i] - picture.plane(2)[i];
    const double sure = jpeg.has_value() ? 0.9 : 0.8;
    return std::vector<std::pair<std::string, double>>{{labels_[red > 0 ? 0 : 1], sure}, {labels_[red > 0 ? 1 : 0], 1 - sure}};
  }

 private:
  const std::vector<std::string> labels_;
  EngineScript* const script_;
};

inline Result<std::unique_ptr<Scorer>> LoadFakeScorer(const ModelPack& /*pack*/, EngineScript* script) {
  return std::unique_ptr<Scorer>(std::make_unique<FakeScorer>(script));
}
inline Result<std::unique_ptr<Classifier>> LoadFakeClassifier(const ModelPack& pack, EngineScript* script) {
  return std::unique_ptr<Classifier>(std::make_unique<FakeClassifier>(pack.card.labels, script));
}

class WorkerTest : public PictureTest {
 protected:
  void SetUp() override {
    ::unsetenv("http_proxy");
    options_.coordinator = coordinator_.address();
    options_.name = "w1";
    options_.version = "0.1.0";
    options_.device_name = "test";
    options_.max_memory = int64_t{1} << 30;
    options_.cache = Path("cache");
    options_.lease_wait_ms = 2000;
    options_.drain_patience = milliseconds(300);
    std::filesystem::create_directories(Path("root/sub"));
    options_.media_roots["home"] = Path("root");
  }
  void TearDown() override {
    script_.blocked = false;
    StopWorker();
  }

  void StartWorker() {
    EngineOptions engine;
    engine.device = "cpu";
    ModelLoaders loaders;
    loaders.enhancer = [this, engine](const ModelPack& pack) -> Result<std::unique_ptr<Enhancer>> {
      NSIC_ASSIGN_OR_RETURN(std::unique_ptr<Enhancer> real, LoadEnhancer(pack, engine));
      return std::unique_ptr<Enhancer>(std::make_unique<ScriptedEnhancer>(std::move(real), &script_));
    };
    loaders.scorer = [this](const ModelPack& pack) { return LoadFakeScorer(pack, &script_); };
    loaders.classifier = [this](const ModelPack& pack) { return LoadFakeClassifier(pack, &script_); };
    Result<std::unique_ptr<WorkLoop>> loop = WorkLoop::Make(options_, std::move(loaders), &clock_, &metrics_);
    ASSERT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    ended_ = false;
    runner_ = std::thread([this] {
      end_ = loop_->Run();
      ended_ = true;
    });
  }
  void StopWorker() {
    if (!runner_.joinable()) return;
    loop_->Drain();
    Join();
  }
  void Join() {
    ASSERT_TRUE(WaitUntil([&] { return ended_.load(); }));
    runner_.join();
    loop_.reset();
  }

  std::string Png(int width, int height, int bands = 3, VipsBandFormat format = VIPS_FORMAT_UCHAR) {
    const std::string path = Path("made.png");
    Noise(width, height, bands, format).pngsave(path.c_str());
    return Slurp(path);
  }
  std::string Encoded(int width, int height, const std::string& suffix) {
    const std::string path = Path("made" + suffix);
    Noise(width, height, 3, VIPS_FORMAT_UCHAR).write_to_file(path.c_str());
    return Slurp(path);
  }
  v1::LeasedTask Task(const std::string& token) { return IdentityTask(&coordinator_, token, Png(100, 80), 100, 80); }
  v1::LeasedTask InPlaceTask(const std::string& token, const std::string& path, const std::string& bytes) {
    v1::LeasedTask task = IdentityTask(&coordinator_, token, bytes, 100, 80);
    task.mutable_source()->mutable_in_place()->set_root_id("home");
    task.mutable_source()->mutable_in_place()->set_path(path);
    return task;
  }
  void ExpectDone(const std::string& token) {
    EXPECT_TRUE(WaitUntil([&] { return coordinator_.Completed(token) || coordinator_.Failed(token); })) << token;
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    EXPECT_EQ(coordinator_.work.failed.count(token), 0u) << token << ": " << coordinator_.work.failed[token].message();
  }
  void ExpectOutput(const std::string& token, const std::string& source) {
    Spill(Path("source"), source);
    Spill(Path("output"), coordinator_.Output(token));
    EXPECT_TRUE(DecodeFile(Path("source")) == DecodeFile(Path("output"))) << token;
  }

  FakeCoordinator coordinator_;
  EngineScript script_;
  SystemClock clock_;
  WorkerMetrics metrics_;
  WorkerOptions options_;
  std::unique_ptr<WorkLoop> loop_;
  std::thread runner_;
  std::atomic<bool> ended_{false};
  Status end_;
};

}  // namespace nsic

#endif  // NSIC_TESTS_FAKES_WORKER_FIXTURE_H_
