// Training, on small made-up pictures: it learns, resumes to the same weights, and packs what it learnt.
#include "models/train/fit/fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/base/files.h"
#include "models/io/model_pack.h"
#include "models/train/corpora/corpus.h"
#include "models/train/fit/checkpoint.h"
#include "models/train/fit/export.h"

namespace nsic {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string MakePicture(int width, int height, int phase) {
  std::string rgb;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double wave = std::sin(0.21 * (x + phase)) * std::cos(0.17 * (y - phase));
      const int edge = ((x + phase) / 11 + y / 13) % 2 * 40;
      for (int c = 0; c < 3; ++c) rgb.push_back(static_cast<char>(static_cast<uint8_t>(100 + 55 * wave + edge + 10 * c)));
    }
  }
  return rgb;
}

// Asks for a stop at the n-th look at the clock, which Fit takes once a step.
class StoppingClock : public Clock {
 public:
  StoppingClock(int looks, std::atomic<bool>* stop) : left_(looks), stop_(stop) {}
  int64_t WallMs() const override { return 0; }
  int64_t MonotonicUs() const override {
    if (--left_ == 0) *stop_ = true;
    return 0;
  }

 private:
  mutable int left_;
  std::atomic<bool>* stop_;
};

class FitTest : public testing::Test {
 protected:
  FitTest() : folder_(std::filesystem::temp_directory_path() / ("nsic-fit-" + RandomHex(8))) {
    std::filesystem::create_directories(folder_);
    for (const char* name : {"train", "val"}) {
      auto writer = CorpusWriter::Create(folder_ / name);
      EXPECT_TRUE(writer.ok());
      for (int i = 0; i < 3; ++i) {
        const int width = 71 + 4 * i, height = 66 + i;
        EXPECT_TRUE((*writer)->Add("picture " + std::to_string(i), width, height, MakePicture(width, height, 5 * i)).ok());
      }
      EXPECT_TRUE((*writer)->Finish().ok());
    }
  }
  ~FitTest() override { std::filesystem::remove_all(folder_); }

  FitOptions Options(const std::string& state, int64_t steps) {
    FitOptions options;
    options.data = {folder_ / "train"};
    options.validation = {folder_ / "val"};
    options.state = folder_ / state;
    options.out = folder_ / (state + "-pack");
    options.name = "tiny";
    options.source = "made up";
    options.parameters = {{"features", 8}, {"layers", 1}};
    options.steps = steps;
    options.batch = 4;
    options.patch = 48;
    options.learning_rate = 0.02;
    options.threads = 2;
    return options;
  }

  Status Run(const FitOptions& options) {
    const ManualClock clock;
    const std::atomic<bool> stop{false};
    return Fit(options, clock, stop, log_);
  }

  const std::filesystem::path folder_;
  std::ostringstream log_;
};

TEST_F(FitTest, LearnsAndWritesThePack) {
  const FitOptions options = Options("state", 120);
  const Status status = Run(options);
  ASSERT_TRUE(status.ok()) << status;
  // The network begins as the identity, so any gain is learnt.
  std::istringstream csv(*ReadFile(options.state + "/log.csv"));
  std::string header, row;
  std::getline(csv, header);
  std::getline(csv, row);
  EXPECT_EQ(header, "step,minutes,learning_rate,loss,q10_before,q10_after,q40_before,q40_after,q90_before,q90_after");
  std::vector<double> values;
  std::istringstream cells(row);
  for (std::string cell; std::getline(cells, cell, ',');) values.push_back(std::stod(cell));
  ASSERT_EQ(values.size(), 10u) << row;
  EXPECT_EQ(values[0], 120);
  EXPECT_GT(values[5], values[4] + 0.1) << row;
  EXPECT_THAT(log_.str(), HasSubstr("validation after step 120"));

  const Result<ModelPack> pack = ReadModelPack(options.out);
  ASSERT_TRUE(pack.ok()) << pack.status();
  EXPECT_EQ(pack->card.name, "tiny");
  EXPECT_EQ(pack->card.architecture, "light");
  EXPECT_EQ(pack->card.parameters, options.parameters);
  EXPECT_EQ(pack->weights.at("convs.0.weight").dtype, DType::kFloat16);
  EXPECT_EQ(pack->card.description, "Repairs JPEG compression of any strength.");
  const json card = json::parse(pack->card.card_json);
  EXPECT_EQ(card["training"]["source"], "made up");
  EXPECT_EQ(card["training"]["steps"], 120);
  EXPECT_EQ(card["training"]["device"], "cpu");
  EXPECT_EQ(card["training"]["data"][0]["pictures"], 3);
  EXPECT_EQ(card["training"]["recipe"]["step"][0]["kind"], "jpeg");
  EXPECT_EQ(card["validation"]["data"][0]["pictures"], 3);
  EXPECT_EQ(card["validation"]["psnr_rgb"][0]["name"], "q10");
  EXPECT_NEAR(card["validation"]["psnr_rgb"][0]["after"], values[5], 0.001);
  EXPECT_THAT(*ReadFile(options.state + "/curve.svg"), HasSubstr(">q10 "));
}

TEST_F(FitTest, FollowsTheRecipe) {
  FitOptions options = Options("state", 3);
  options.recipe = folder_ / "recipe.toml";
  ASSERT_TRUE(WriteFileAtomically(options.recipe, R"(description = "Everything at once."
shuffled = true
step = [{ kind = "jpeg", shifted = 0.3, resized = 0.3 }, { kind = "mosaic", share = 0.5 }, { kind = "gaussian-noise", share = 0.5 },
        { kind = "poisson-noise", share = 0.5 }, { kind = "blur", share = 0.5 }, { kind = "rescale", share = 0.5 },
        { kind = "video", share = 0.5 }]
loss = { charbonnier = 1, ssim = 0.2, edge = 0.2, frequency = 0.1 }
validate = [{ name = "mosaic4", step = [{ kind = "mosaic", block = 4 }] }]
)")
                  .ok());
  ASSERT_TRUE(Run(options).ok()) << log_.str();
  EXPECT_THAT(*ReadFile(options.state + "/log.csv"), HasSubstr("loss,mosaic4_before,mosaic4_after\n3,"));
  EXPECT_EQ(ReadModelPack(options.out)->card.description, "Everything at once.");
}

TEST_F(FitTest, ExportsTheCheckpoint) {
  const FitOptions options = Options("state", 3);
  ASSERT_TRUE(Run(options).ok()) << log_.str();
  ASSERT_TRUE(Export(options.state, folder_ / "exported").ok());
  for (const char* file : {"/model.json", "/weights.safetensors"}) {
    EXPECT_EQ(*ReadFile(folder_.string() + "/exported" + file), *ReadFile(options.out + file)) << file;
  }
  EXPECT_EQ(Export(folder_ / "nowhere", folder_ / "x").code(), StatusCode::kNotFound);
  Result<Checkpoint> checkpoint = ReadCheckpoint(CheckpointPath(options.state));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  checkpoint->notes = "{}";
  EXPECT_EQ(PackOf(*checkpoint).status().code(), StatusCode::kDataLoss);
}

TEST_F(FitTest, GoesOnFromAPackAndSaysSoInTheCard) {
  const FitOptions first = Options("first", 120);
  ASSERT_TRUE(Run(first).ok()) << log_.str();
  FitOptions second = Options("second", 1);
  second.from = {first.out};
  second.parameters.clear();
  second.seed = first.seed + 1;
  ASSERT_TRUE(Run(second).ok()) << log_.str();

  const Result<ModelPack> before = ReadModelPack(first.out), after = ReadModelPack(second.out);
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_EQ(after->card.parameters, first.parameters) << "of the pack";
  const json a = json::parse(before->card.card_json), b = json::parse(after->card.card_json);
  // One step of the warm-up changes next to nothing; what a new network gains in one step is 0 dB.
  EXPECT_NEAR(b["validation"]["psnr_rgb"][0]["after"], a["validation"]["psnr_rgb"][0]["after"], 0.02);
  EXPECT_FALSE(a["training"].contains("from"));
  EXPECT_EQ(b["training"]["steps"], 1);
  json differing = json::object();
  for (const char* name : {"steps", "hours", "device", "source", "seed"}) differing[name] = a["training"][name];
  EXPECT_EQ(b["training"]["from"], json::array({{{"identity", PackIdentity(before->card)}, {"name", "tiny"}, {"training", differing}}}));

  struct Row {
    const char* name;
    std::map<std::string, int64_t> parameters;
  };
  for (const Row& row : {Row{"wider", {{"features", 16}, {"layers", 1}}}, Row{"wider and deeper", {{"features", 16}, {"layers", 2}}},
                         Row{"shallower", {{"features", 8}, {"layers", 0}}}}) {
    FitOptions other = Options(row.name, 1);
    other.from = {first.out};
    other.parameters = row.parameters;
    const Status refused = Run(other);
    EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument) << row.name << ": " << refused;
    EXPECT_THAT(refused.message(), testing::AllOf(HasSubstr(first.out), HasSubstr("another network"))) << row.name;
  }
}

TEST_F(FitTest, ADeeperNetworkGoesOnFromAShallowerOne) {
  const FitOptions first = Options("first", 120);
  ASSERT_TRUE(Run(first).ok()) << log_.str();
  for (const int64_t layers : {2, 5}) {
    FitOptions deeper = Options("deeper" + std::to_string(layers), 1);
    deeper.from = {first.out};
    deeper.parameters["layers"] = layers;
    ASSERT_TRUE(Run(deeper).ok()) << layers << ": " << log_.str();
    const Result<ModelPack> before = ReadModelPack(first.out), after = ReadModelPack(deeper.out);
    ASSERT_TRUE(before.ok() && after.ok()) << layers;
    EXPECT_EQ(after->card.parameters.at("layers"), layers);
    const json a = json::parse(before->card.card_json), b = json::parse(after->card.card_json);
    EXPECT_NEAR(b["validation"]["psnr_rgb"][0]["after"], a["validation"]["psnr_rgb"][0]["after"], 0.02) << layers;
  }
}

TEST_F(FitTest, AnEnsembleGoesOnFromItsMembers) {
  const FitOptions light = Options("light", 120);
  FitOptions unet = Options("unet", 40);
  unet.architecture = "unet";
  unet.parameters = {{"features", 8}, {"blocks", 1}};
  ASSERT_TRUE(Run(light).ok() && Run(unet).ok()) << log_.str();
  FitOptions both = Options("both", 1);
  both.from = {unet.out, light.out};
  both.parameters.clear();
  const Status status = Run(both);
  ASSERT_TRUE(status.ok()) << status;
  const Result<ModelPack> pack = ReadModelPack(both.out);
  ASSERT_TRUE(pack.ok()) << pack.status();
  EXPECT_EQ(pack->card.architecture, "ensemble");
  const std::map<std::string, int64_t> parameters = {{"light_features", 8}, {"light_layers", 1}, {"unet_features", 8}, {"unet_blocks", 1}};
  EXPECT_EQ(pack->card.parameters, parameters);
  const json card = json::parse(pack->card.card_json);
  ASSERT_EQ(card["training"]["from"].size(), 2u);
  EXPECT_EQ(card["training"]["from"][0]["training"]["architecture"], "unet");
  EXPECT_EQ(card["training"]["from"][0]["training"]["parameters"], json(unet.parameters));
  // A pack has half the precision, and one step of the warm-up changes next to nothing.
  const auto weights = [](const FitOptions& options) { return ReadCheckpoint(CheckpointPath(options.state))->averaged; };
  const auto begun = weights(both);
  for (const FitOptions* member : {&light, static_cast<const FitOptions*>(&unet)}) {
    for (const auto& [name, tensor] : weights(*member)) {
      const std::string of_both = (member == &light ? "light." : "unet.") + name;
      EXPECT_LT((begun.at(of_both) - tensor).abs().max().item<double>(), 2e-3) << of_both;
    }
  }
}

TEST_F(FitTest, GoesOnFromTheMeanOfPacksOfOneNetwork) {
  const FitOptions first = Options("first", 40);
  FitOptions second = Options("second", 40);
  second.from = {first.out};
  second.seed = first.seed + 1;
  ASSERT_TRUE(Run(first).ok() && Run(second).ok()) << log_.str();
  FitOptions mean = Options("mean", 1);
  mean.from = {first.out, second.out};
  mean.parameters.clear();
  const Status status = Run(mean);
  ASSERT_TRUE(status.ok()) << status;
  const auto weights = [](const FitOptions& options) { return ReadCheckpoint(CheckpointPath(options.state))->averaged; };
  const auto a = weights(first), b = weights(second), begun = weights(mean);
  double apart = 0;
  for (const auto& [name, tensor] : begun) {  // within a pack's precision and one step of the warm-up
    EXPECT_LT((tensor - (a.at(name) + b.at(name)) / 2).abs().max().item<double>(), 1e-3) << name;
    apart = std::max(apart, (a.at(name) - b.at(name)).abs().max().item<double>());
  }
  EXPECT_GT(apart, 5e-3) << "the two are alike: this test shows nothing";

  // What the second says of the first is not said again.
  const Result<ModelPack> one = ReadModelPack(first.out), pack = ReadModelPack(mean.out);
  ASSERT_TRUE(one.ok() && pack.ok());
  const json from = json::parse(pack->card.card_json)["training"]["from"];
  ASSERT_EQ(from.size(), 2u);
  EXPECT_EQ(from[0], (json{{"identity", PackIdentity(one->card)}, {"name", "tiny"}}));
  EXPECT_EQ(from[1]["training"]["from"][0]["identity"], PackIdentity(one->card));

  FitOptions wider = Options("wider", 1);
  wider.parameters["features"] = 12;
  ASSERT_TRUE(Run(wider).ok()) << log_.str();
  mean = Options("of different ones", 1);
  mean.from = {first.out, wider.out};
  mean.parameters.clear();
  EXPECT_EQ(Run(mean).code(), StatusCode::kInvalidArgument);
}

TEST_F(FitTest, AsksForSourcesUnlessTheDataHasThem) {
  FitOptions options = Options("state", 1);
  options.source.clear();
  EXPECT_THAT(Run(options).message(), HasSubstr("give --source"));
  auto writer = CorpusWriter::Create(folder_ / "described");
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Add("picture", 70, 70, MakePicture(70, 70, 3)).ok());
  (*writer)->AddSource({"mine/holidays", 1, "our camera", "CC0-1.0"});
  ASSERT_TRUE((*writer)->Finish().ok());
  options.data = {folder_ / "described"};
  const Status status = Run(options);
  ASSERT_TRUE(status.ok()) << status;
  const json card = json::parse(ReadModelPack(options.out)->card.card_json);
  const json source = card["training"]["data"][0]["sources"][0];
  EXPECT_EQ(source, json({{"folder", "mine/holidays"}, {"pictures", 1}, {"source", "our camera"}, {"licence", "CC0-1.0"}}));
}

TEST_F(FitTest, AResumedRunEndsWithTheSameWeights) {
  const FitOptions whole = Options("whole", 12);
  ASSERT_TRUE(Run(whole).ok()) << log_.str();

  const FitOptions broken = Options("broken", 12);
  std::atomic<bool> stop{false};
  const StoppingClock clock(6, &stop);
  const Status stopped = Fit(broken, clock, stop, log_);
  EXPECT_EQ(stopped.code(), StatusCode::kCancelled) << stopped;
  const Result<Checkpoint> middle = ReadCheckpoint(broken.state + "/checkpoint.safetensors");
  ASSERT_TRUE(middle.ok()) << middle.status();
  EXPECT_GT(middle->step, 0);
  EXPECT_LT(middle->step, 12);
  ASSERT_TRUE(Run(broken).ok()) << log_.str();
  EXPECT_THAT(log_.str(), HasSubstr("resumed after step"));

  const Result<Checkpoint> a = ReadCheckpoint(whole.state + "/checkpoint.safetensors");
  const Result<Checkpoint> b = ReadCheckpoint(broken.state + "/checkpoint.safetensors");
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->step, 12);
  EXPECT_EQ(b->step, 12);
  const auto expect_same = [](const char* what, const NamedTensors& x, const NamedTensors& y) {
    ASSERT_EQ(x.size(), y.size()) << what;
    for (const auto& [name, tensor] : x) EXPECT_TRUE(tensor.equal(y.at(name))) << what << " " << name;
  };
  expect_same("weights", a->weights, b->weights);
  expect_same("averaged", a->averaged, b->averaged);
  expect_same("mean", a->mean, b->mean);
  expect_same("variance", a->variance, b->variance);
}

TEST_F(FitTest, RefusesACheckpointOfOtherSettings) {
  FitOptions options = Options("state", 2);
  ASSERT_TRUE(Run(options).ok()) << log_.str();
  options.seed = 2;
  EXPECT_EQ(Run(options).code(), StatusCode::kFailedPrecondition);
  options.seed = 1;
  options.recipe = "kairitsu";
  const Status status = Run(options);
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("other settings"));
}

TEST_F(FitTest, RefusesOptionsThatMakeNoSense) {
  struct Row {
    const char* name;
    void (*change)(FitOptions&);
    const char* message;
  };
  const std::vector<Row> rows = {
      {"neither steps nor minutes", [](FitOptions& o) { o.steps = 0; }, "either steps or minutes"},
      {"both", [](FitOptions& o) { o.minutes = 1; }, "either steps or minutes"},
      {"crop of 40", [](FitOptions& o) { o.patch = 40; }, "multiple of 16"},
      {"no thread", [](FitOptions& o) { o.threads = 0; }, "at least one thread"},
      {"more threads than crops", [](FitOptions& o) { o.threads = 5; }, "one sample a thread"},
      {"rate of zero", [](FitOptions& o) { o.learning_rate = 0; }, "learning rate"},
      {"unknown parameter", [](FitOptions& o) { o.parameters["depth"] = 1; }, "does not know all"},
      {"crops larger than the pictures", [](FitOptions& o) { o.patch = 96; }, "no picture of at least 96 pixels"},
      {"no such recipe", [](FitOptions& o) { o.recipe = "soup"; }, "no recipe soup"},
      {"no such device", [](FitOptions& o) { o.device = "abacus"; }, "abacus"},
      {"no such data", [](FitOptions& o) { o.data = {"nowhere"}; }, "nowhere"},
  };
  for (const Row& row : rows) {
    FitOptions options = Options(row.name, 2);
    row.change(options);
    const Status status = Run(options);
    EXPECT_FALSE(status.ok()) << row.name;
    EXPECT_THAT(status.message(), HasSubstr(row.message)) << row.name;
  }
}

TEST_F(FitTest, RefusesDamagedCorpora) {
  const std::string good = *ReadFile(folder_ / "train");
  struct Row {
    const char* name;
    std::string bytes;
    StatusCode code;
  };
  std::string huge = good;
  for (size_t i = 0; i < 8; ++i) huge[huge.size() - 18 + i] = '\xff';
  const std::vector<Row> rows = {
      {"empty", "", StatusCode::kInvalidArgument},
      {"another file", std::string(100, 'x'), StatusCode::kInvalidArgument},
      {"truncated", good.substr(0, good.size() - 5), StatusCode::kDataLoss},
      {"only the ends", good.substr(0, 10) + good.substr(good.size() - 18), StatusCode::kDataLoss},
      {"manifest of a huge length", huge, StatusCode::kDataLoss},
  };
  for (const Row& row : rows) {
    const std::string path = folder_ / "damaged";
    ASSERT_TRUE(WriteFileAtomically(path, row.bytes).ok());
    EXPECT_EQ(Corpus::Open(path).status().code(), row.code) << row.name;
  }
}

}  // namespace
}  // namespace nsic
