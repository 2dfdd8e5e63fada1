// What the models that judge pictures learn from, and the networks that learn it.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/base/digest.h"
#include "models/arch/network.h"
#include "models/arch/tile_net.h"
#include "models/io/model_pack.h"
#include "models/train/corpora/corpus.h"
#include "models/train/fit/checkpoint.h"
#include "models/train/fit/fit_judge.h"
#include "models/train/measure/rank_correlation.h"
#include "models/train/samples/degrade.h"
#include "models/train/samples/judge_samples.h"
#include "models/train/samples/reference_quality.h"

namespace nsic {
namespace {

using at::Tensor;

// Waves, edges and a little noise: 1 x 3 x height x width, whole numbers 0 to 255.
Tensor Scene(int64_t height, int64_t width, int64_t which = 0) {
  const Tensor y = at::arange(height, at::kFloat).view({1, height, 1}), x = at::arange(width, at::kFloat).view({1, 1, width});
  const Tensor c = at::arange(3, at::kFloat).view({3, 1, 1});
  const Tensor waves = (x * 0.21 + c).sin() * (y * 0.13 + static_cast<double>(which)).cos() * 50.0;
  const Tensor tiles = ((x / 11.0).floor() + (y / 17.0).floor()).remainder(2.0) * 40.0;
  const Tensor grain = ((x * 12.9898 + y * 78.233 + c).sin() * 43758.5453).frac() * 6.0;
  return (waves + tiles + grain + 100.0).round().clamp(0.0, 255.0).unsqueeze(0);
}

Tensor Spoilt(const Tensor& rgb, DegradationStep step) { return Degrade(rgb, {7}, {0, false, {std::move(step)}}); }

double Quality(const Tensor& original, const Tensor& picture) { return ReferenceQuality(original, picture).item<double>(); }

TEST(ReferenceQuality, IsHundredForEqualPicturesAndFallsWithEveryFault) {
  const Tensor original = Scene(192, 256);
  EXPECT_EQ(Quality(original, original), 100);
  const auto jpeg = [](double q) {
    JpegStep step;
    step.quality = {q, q};
    return DegradationStep{step};
  };
  const auto video = [](double q) { return DegradationStep{VideoStep{{q, q}}}; };
  const auto noise = [](double s) { return DegradationStep{GaussianNoiseStep{{s, s}}}; };
  const auto blur = [](double s) { return DegradationStep{BlurStep{{s, s}}}; };
  const auto rescale = [](double s) { return DegradationStep{RescaleStep{{s, s}, {Resampling::kLanczos}}}; };
  const auto mosaic = [](double s) { return DegradationStep{MosaicStep{{s, s}}}; };
  const std::vector<std::pair<const char*, std::vector<DegradationStep>>> rows = {
      {"jpeg", {jpeg(95), jpeg(80), jpeg(60), jpeg(40), jpeg(20), jpeg(8)}},
      {"video", {video(18), video(26), video(34), video(42)}},
      {"noise", {noise(1), noise(4), noise(12), noise(30)}},
      {"blur", {blur(0.4), blur(0.8), blur(1.6), blur(3)}},
      {"rescale", {rescale(0.8), rescale(0.5), rescale(0.25)}},
      {"mosaic", {mosaic(2), mosaic(4), mosaic(8)}}};
  for (const auto& [name, steps] : rows) {
    double before = 100;
    for (const DegradationStep& step : steps) {
      const double quality = Quality(original, Spoilt(original, step));
      EXPECT_LT(quality, before) << name;
      EXPECT_GT(quality, 0) << name;
      before = quality;
    }
    EXPECT_LT(before, 60) << name;
  }
}

TEST(ReferenceQuality, ThePartsAddUpToThePicture) {
  const Tensor original = Scene(256, 256);
  JpegStep step;
  step.quality = {20, 20};
  const Tensor spoilt = Spoilt(original, {step});
  double parts = 0;
  for (int64_t y : {0, 128}) {
    for (int64_t x : {0, 128}) {
      const auto cut = [&](const Tensor& whole) { return whole.narrow(2, y, 128).narrow(3, x, 128); };
      parts += ReferenceError(cut(original), cut(spoilt)).item<double>() / 4;
    }
  }
  const double whole = ReferenceError(original, spoilt).item<double>();
  EXPECT_NEAR(parts, whole, 0.05 * whole);
  // Small pictures have fewer scales.
  EXPECT_GT(Quality(Scene(11, 12), Scene(11, 12, 1)), 0);
  // Interleaved bytes say the same.
  const Tensor a = original.squeeze(0).permute({1, 2, 0}).to(at::kByte).contiguous();
  const Tensor b = spoilt.squeeze(0).permute({1, 2, 0}).to(at::kByte).contiguous();
  EXPECT_EQ(ReferenceQualityOf(a.data_ptr<uint8_t>(), b.data_ptr<uint8_t>(), 256, 256), Quality(original, spoilt));
}

TEST(RankCorrelation, KnownValues) {
  EXPECT_DOUBLE_EQ(RankCorrelation({1, 2, 3, 4}, {10, 20, 25, 90}), 1);
  EXPECT_DOUBLE_EQ(RankCorrelation({1, 2, 3, 4}, {4, 3, 2, -1}), -1);
  EXPECT_DOUBLE_EQ(RankCorrelation({1, 2, 3, 4, 5}, {2, 1, 4, 3, 5}), 0.8);  // 1 - 6 * 4 / (5 * 24)
  EXPECT_DOUBLE_EQ(RankCorrelation({1, 1}, {1, 2}), 0);
  EXPECT_NEAR(RankCorrelation({1, 2, 2, 3}, {1, 2, 3, 4}), 0.9486833, 1e-7);
}

class JudgeTest : public testing::Test {
 protected:
  JudgeTest() : folder_(std::filesystem::temp_directory_path() / ("nsic-judge-" + RandomHex(8))) {
    std::filesystem::create_directories(folder_);
    for (const auto& [name, which] : {std::pair<const char*, int64_t>{"photographs", 0}, {"drawings", 2}}) {
      Result<std::unique_ptr<CorpusWriter>> writer = CorpusWriter::Create(File(name));
      EXPECT_TRUE(writer.ok());
      for (int64_t i = 0; i < 2; ++i) {
        const Tensor bytes = Scene(300, 290, which + i).squeeze(0).permute({1, 2, 0}).to(at::kByte).contiguous();
        EXPECT_TRUE((*writer)
                        ->Add(name + std::to_string(i), 290, 300,
                              {reinterpret_cast<const char*>(bytes.data_ptr<uint8_t>()), static_cast<size_t>(bytes.numel())})
                        .ok());
      }
      (*writer)->AddSource({name, 2, "made by the test", "CC0-1.0"});
      EXPECT_TRUE((*writer)->Finish().ok());
    }
  }
  ~JudgeTest() override { std::filesystem::remove_all(folder_); }
  std::string File(const std::string& name) const { return folder_ / name; }

  FitJudgeOptions Options(ModelTask task, const std::string& state) const {
    FitJudgeOptions options;
    options.task = task;
    options.photographs = options.photograph_validation = {File("photographs")};
    options.drawings = options.drawing_validation = {File("drawings")};
    options.state = File(state);
    options.out = File(state + "-pack");
    options.name = "judge";
    options.features = 4;
    options.batch = 4;
    options.steps = 4;
    return options;
  }

  const std::filesystem::path folder_;
};

TEST_F(JudgeTest, SamplesDependOnTheirNumberAlone) {
  const Result<std::unique_ptr<Corpus>> photographs = Corpus::Open(File("photographs")), drawings = Corpus::Open(File("drawings"));
  ASSERT_TRUE(photographs.ok() && drawings.ok());
  const JudgePictures pictures{(*photographs)->pictures(), (*drawings)->pictures()};
  const JudgeBatch scored = MakeScoreBatch(pictures, 3, 0, 6, at::kCPU), some = MakeScoreBatch(pictures, 3, 4, 6, at::kCPU);
  EXPECT_EQ(scored.tiles.sizes(), (at::IntArrayRef{12, 3, kJudgeTile, kJudgeTile}));
  EXPECT_TRUE(at::equal(scored.tiles.narrow(0, 8, 4), some.tiles));
  EXPECT_TRUE(at::allclose(scored.target.narrow(0, 8, 4), some.target, 1e-4, 1e-3));
  EXPECT_GE(scored.target.min().item<double>(), 0);
  EXPECT_LE(scored.target.max().item<double>(), 100);

  const JudgeBatch classed = MakeClassBatch(pictures, 3, 0, 40, at::kCPU), few = MakeClassBatch(pictures, 3, 37, 40, at::kCPU);
  EXPECT_EQ(classed.tiles.sizes(), (at::IntArrayRef{40 * kClassTiles, 3 + kJpegHints, kJudgeTile, kJudgeTile}));
  EXPECT_TRUE(at::equal(classed.tiles.narrow(0, 37 * kClassTiles, 3 * kClassTiles), few.tiles));
  // A sample's tiles are different pieces, and are told the same of their file.
  const Tensor samples = classed.tiles.unflatten(0, {40, kClassTiles}), first = samples.select(1, 0), second = samples.select(1, 1);
  EXPECT_FALSE(at::equal(first.narrow(1, 0, 3), second.narrow(1, 0, 3)));
  EXPECT_TRUE(at::equal(first.narrow(1, 3, kJpegHints), second.narrow(1, 3, kJpegHints)));
  EXPECT_TRUE(at::equal(classed.target.narrow(0, 37, 3), few.target));
  EXPECT_GE(classed.target.min().item<int64_t>(), 0);
  EXPECT_LT(classed.target.max().item<int64_t>(), static_cast<int64_t>(JudgeLabels().size()));
}

TEST_F(JudgeTest, ColoursSayNothingOfAClass) {
  std::string rgb;
  for (int i = 0; i < 200 * 160; ++i) rgb += "\xc8\x64\x32";  // 200, 100, 50
  const CorpusPicture plain{"plain", 200, 160, reinterpret_cast<const uint8_t*>(rgb.data())};
  const JudgePictures pictures{{plain}, {plain}};
  const Tensor colours = MakeClassBatch(pictures, 3, 0, 40, at::kCPU).tiles.narrow(1, 0, 3).mean({2, 3}).mul(255.0);
  const Tensor strayed = (colours - torch::tensor({200.0, 100.0, 50.0})).abs().amax(1);
  EXPECT_GT((strayed > 10).to(at::kFloat).mean().item<double>(), 0.3);
  EXPECT_GT((strayed < 10).to(at::kFloat).mean().item<double>(), 0.2);
}

TEST_F(JudgeTest, LearnsFromWhatCodecsMadeOfPictures) {
  constexpr int kWidth = 200, kHeight = 160;
  const auto grey = [](int level) { return std::string(size_t{kWidth} * kHeight * 3, static_cast<char>(level)); };
  auto writer = CorpusWriter::Create(File("spoilt"));
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Add("first", kWidth, kHeight, grey(100)).ok());
  ASSERT_TRUE((*writer)->Add("second", kWidth, kHeight, grey(10)).ok());
  for (int level : {11, 12, 13}) ASSERT_TRUE((*writer)->AddSpoilt(1, "libwebp", grey(level)).ok());
  EXPECT_FALSE((*writer)->AddSpoilt(2, "libwebp", grey(1)).ok());
  EXPECT_FALSE((*writer)->AddSpoilt(1, "libwebp", "too short").ok());
  ASSERT_TRUE((*writer)->Finish().ok());

  const Result<std::unique_ptr<Corpus>> corpus = Corpus::Open(File("spoilt"));
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  EXPECT_EQ((*corpus)->pictures().size(), 2u);
  ASSERT_EQ((*corpus)->spoilt().size(), 3u);
  SpoiltVersions versions{(*corpus)->pictures()[1], {}};
  for (const SpoiltPicture& spoilt : (*corpus)->spoilt()) {
    EXPECT_EQ(spoilt.of, 1u);
    EXPECT_EQ(spoilt.by, "libwebp");
    EXPECT_EQ(spoilt.picture.name, "second");
    versions.versions.push_back(spoilt.picture);
  }

  // Of 100 pairs of tiles, about a third are two different versions; the rest are of the other picture, simulated.
  const JudgePictures pictures{{(*corpus)->pictures()[0]}, {(*corpus)->pictures()[0]}, {versions}, {versions}};
  const JudgeBatch batch = MakeScoreBatch(pictures, 3, 0, 100, at::kCPU);
  int64_t found = 0;
  for (int64_t i = 0; i < 200; i += 2) {
    const double one = std::round(255 * batch.tiles[i].mean().item<double>()), other = 255 * batch.tiles[i + 1].mean().item<double>();
    if (one < 10.5 || one > 13.5 || other > 13.5) continue;
    ++found;
    EXPECT_GT(std::abs(one - other), 0.5) << i;
    EXPECT_GT(batch.target[i].item<double>(), 0);
    EXPECT_LT(batch.target[i].item<double>(), 100);
  }
  EXPECT_GT(found, 20);
  EXPECT_LT(found, 50);
}

TEST_F(JudgeTest, AnInterruptedRunEndsWithTheSameWeights) {
  const SystemClock clock;
  const std::atomic<bool> go{false}, stop{true};
  for (const ModelTask task : {ModelTask::kScore, ModelTask::kClassify}) {
    std::ostringstream progress;
    const std::string name = task == ModelTask::kScore ? "score" : "classify";
    ASSERT_TRUE(FitJudge(Options(task, name), clock, go, progress).ok());
    // Stopped at once, then resumed: the checkpoint at step 0 and the rest.
    const FitJudgeOptions broken = Options(task, name + "-broken");
    EXPECT_EQ(FitJudge(broken, clock, stop, progress).code(), StatusCode::kCancelled);
    ASSERT_TRUE(FitJudge(broken, clock, go, progress).ok()) << progress.str();
    const Result<ModelPack> whole = ReadModelPack(File(name + "-pack")), resumed = ReadModelPack(File(name + "-broken-pack"));
    ASSERT_TRUE(whole.ok()) << whole.status();
    ASSERT_TRUE(resumed.ok()) << resumed.status();
    EXPECT_EQ(PackIdentity(whole->card), PackIdentity(resumed->card));
    EXPECT_EQ(whole->card.task, task);
    EXPECT_NE(whole->card.card_json.find("CC0-1.0"), std::string::npos);
    EXPECT_TRUE(std::filesystem::exists(File(name) + "/curve.svg"));
    // Other options are another run.
    FitJudgeOptions other = broken;
    other.batch = 5;
    EXPECT_EQ(FitJudge(other, clock, go, progress).code(), StatusCode::kFailedPrecondition);
  }
}

TEST_F(JudgeTest, GoesOnFromAPack) {
  const SystemClock clock;
  const std::atomic<bool> go{false};
  std::ostringstream progress;
  const FitJudgeOptions first = Options(ModelTask::kClassify, "first");
  ASSERT_TRUE(FitJudge(first, clock, go, progress).ok()) << progress.str();
  FitJudgeOptions second = Options(ModelTask::kClassify, "second");
  second.from = {first.out};
  second.steps = 1;
  second.learning_rate = 1e-9;  // that its only step leaves the half precision numbers of the pack as they were
  ASSERT_TRUE(FitJudge(second, clock, go, progress).ok()) << progress.str();
  const Result<ModelPack> before = ReadModelPack(first.out), after = ReadModelPack(second.out);
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_EQ(PackIdentity(after->card), PackIdentity(before->card));
  EXPECT_NE(after->card.card_json.find(PackIdentity(before->card)), std::string::npos) << after->card.card_json;

  FitJudgeOptions scorer = Options(ModelTask::kScore, "scorer");
  scorer.from = {first.out};
  const Status refused = FitJudge(scorer, clock, go, progress);
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(refused.message().find("another network"), std::string::npos) << refused;
}

TEST_F(JudgeTest, RefusesOptionsThatMakeNoSense) {
  const SystemClock clock;
  const std::atomic<bool> go{false};
  struct Row {
    const char* name;
    void (*change)(FitJudgeOptions&);
    const char* message;
  };
  const Row rows[] = {{"no end", [](FitJudgeOptions& o) { o.steps = 0; }, "either steps or minutes"},
                      {"no thread", [](FitJudgeOptions& o) { o.threads = 0; }, "at least one thread"},
                      {"no features", [](FitJudgeOptions& o) { o.features = 1; }, "4 to 256"},
                      {"no drawings", [](FitJudgeOptions& o) { o.drawings.clear(); }, "needs drawings"},
                      {"no such device", [](FitJudgeOptions& o) { o.device = "abacus"; }, "abacus"}};
  for (const Row& row : rows) {
    FitJudgeOptions options = Options(ModelTask::kScore, "refused");
    row.change(options);
    std::ostringstream progress;
    const Status status = FitJudge(options, clock, go, progress);
    EXPECT_FALSE(status.ok()) << row.name;
    EXPECT_NE(status.message().find(row.message), std::string::npos) << row.name << ": " << status;
  }
}

TEST(TileNet, WorksAsItLearnt) {
  torch::manual_seed(1);
  for (const int64_t hints : {int64_t{0}, kJpegHints}) {
    const TileNetShape shape{8, hints, hints > 0 ? 7 : 1};
    const std::unique_ptr<TrainableNet> net = MakeTrainableTileNet(shape);
    ModelPack pack;
    pack.card.name = "judge";
    pack.card.task = hints > 0 ? ModelTask::kClassify : ModelTask::kScore;
    pack.card.architecture = hints > 0 ? "tile-c" : "tile-iqa";
    pack.card.parameters = {{"features", 8}};
    if (hints > 0) pack.card.labels = JudgeLabels();
    pack.weights = ToHost(net->weights(), at::kFloat);
    const Result<std::unique_ptr<Network>> network = BuildNetwork(pack, {});
    ASSERT_TRUE(network.ok()) << network.status();
    const at::NoGradGuard no_grad;
    const Tensor tiles = at::rand({3, 3 + hints, 64, 48});
    const Tensor learnt = net->Conclude(net->Forward(tiles, at::kFloat)), working = (*network)->Conclude((*network)->Forward(tiles));
    EXPECT_EQ(learnt.size(1), shape.outputs);
    EXPECT_TRUE(at::allclose(learnt, working, 1e-3, 1e-4)) << learnt << working;
    EXPECT_GT((*network)->PeakBytes(64, 48), 0);
    pack.card.parameters = {{"features", 2}};
    EXPECT_FALSE(BuildNetwork(pack, {}).ok());
  }
}

}  // namespace
}  // namespace nsic
