#include "models/io/model_pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/base/files.h"
#include "models/io/safetensors.h"

namespace nsic {
namespace {

using nlohmann::json;
using testing::HasSubstr;

ModelPack Example() {
  ModelPack pack;
  pack.card.name = "example-1.0";
  pack.card.architecture = "light";
  pack.card.parameters = {{"features", 4}, {"layers", 0}};
  pack.card.tiling = {64, 6, 0, 2, BlendWindow::kNone};
  pack.card.licence = "Apache-2.0";
  pack.card.description = "描述";
  pack.card.labels = {"one", "two"};
  pack.card.recommends = {{"two", "kairitsu-lite"}};
  pack.card.card_json = R"({"training":{"hours":1.5}})";
  HostTensor tensor{DType::kFloat16, {2, 3}, std::vector<std::byte>(12, std::byte{7})};
  pack.weights = {{"b", tensor}, {"a", tensor}};
  return pack;
}

class ModelPackFolder : public testing::Test {
 protected:
  ModelPackFolder() : folder_(std::filesystem::temp_directory_path() / ("nsic-pack-" + RandomHex(8))) {}
  ~ModelPackFolder() override { std::filesystem::remove_all(folder_); }
  const std::filesystem::path folder_;
};

TEST_F(ModelPackFolder, RoundTrip) {
  ASSERT_TRUE(WriteModelPack(folder_, Example()).ok());
  const Result<ModelPack> read = ReadModelPack(folder_);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->card.weights_sha256, Sha256Hex(SerializeSafetensors(Example().weights)));
  ModelCard expected = Example().card;
  expected.weights_sha256 = read->card.weights_sha256;
  EXPECT_EQ(SerializeModelCard(read->card), SerializeModelCard(expected));
  EXPECT_EQ(SerializeSafetensors(read->weights), SerializeSafetensors(Example().weights));
}

TEST_F(ModelPackFolder, AlteredWeightsAreRefused) {
  ASSERT_TRUE(WriteModelPack(folder_, Example()).ok());
  const std::string path = folder_ / "weights.safetensors";
  std::string bytes = *ReadFile(path);
  bytes.back() ^= 1;
  ASSERT_TRUE(WriteFileAtomically(path, bytes).ok());
  const Result<ModelPack> read = ReadModelPack(folder_);
  EXPECT_EQ(read.status().code(), StatusCode::kDataLoss);
  EXPECT_THAT(read.status().message(), HasSubstr(path));
}

TEST_F(ModelPackFolder, MissingFilesAreNamed) {
  EXPECT_EQ(ReadModelPack(folder_).status().code(), StatusCode::kNotFound);
  EXPECT_THAT(ReadModelPack(folder_).status().message(), HasSubstr("model.json"));
}

TEST_F(ModelPackFolder, TheIdentityDoesNotDependOnHowTheWeightsWereWritten) {
  ASSERT_TRUE(WriteModelPack(folder_, Example()).ok());
  const Result<ModelPack> ours = ReadModelPack(folder_);
  ASSERT_TRUE(ours.ok()) << ours.status();
  // The same tensors as another program might write them: other order, metadata.
  const std::string header =
      R"({"__metadata__":{"by":"other"},"b":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[12,24]}})";
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(header.size());
  bytes += header + std::string(24, '\7');
  ASSERT_LT(header.size(), 256u);
  ModelCard card = ours->card;
  card.weights_sha256 = Sha256Hex(bytes);
  ASSERT_TRUE(WriteFileAtomically(folder_ / "weights.safetensors", bytes).ok());
  ASSERT_TRUE(WriteFileAtomically(folder_ / "model.json", SerializeModelCard(card)).ok());
  const Result<ModelPack> theirs = ReadModelPack(folder_);
  ASSERT_TRUE(theirs.ok()) << theirs.status();
  EXPECT_EQ(PackIdentity(theirs->card), PackIdentity(ours->card));
}

TEST(ModelCard, ErrorsNameTheField) {
  ModelCard card = Example().card;
  card.weights_sha256 = Sha256Hex("");
  const json good = json::parse(SerializeModelCard(card));
  ASSERT_TRUE(ParseModelCard(good.dump(), "model.json").ok());
  struct Row {
    const char* name;
    std::function<void(json&)> damage;
    const char* message;
  };
  const std::vector<Row> rows = {
      {"no format", [](json& j) { j.erase("format"); }, "'format' is missing"},
      {"a later format", [](json& j) { j["format"] = 2; }, "'format' must be"},
      {"no name", [](json& j) { j.erase("name"); }, "'name' is missing"},
      {"name is a number", [](json& j) { j["name"] = 5; }, "'name' must be a string"},
      {"name with a slash", [](json& j) { j["name"] = "../x"; }, "'name' must be 1 to 64"},
      {"upper-case name", [](json& j) { j["name"] = "Model"; }, "'name' must be 1 to 64"},
      {"empty name", [](json& j) { j["name"] = ""; }, "'name' must be 1 to 64"},
      {"dots as name", [](json& j) { j["name"] = ".."; }, "'name' must be 1 to 64"},
      {"name like a flag", [](json& j) { j["name"] = "-rf"; }, "'name' must be 1 to 64"},
      {"endless name", [](json& j) { j["name"] = std::string(65, 'a'); }, "'name' must be 1 to 64"},
      {"unknown task", [](json& j) { j["task"] = "paint"; }, "'task' must be"},
      {"no architecture", [](json& j) { j.erase("architecture"); }, "'architecture' is missing"},
      {"empty architecture", [](json& j) { j["architecture"] = ""; }, "'architecture' is empty"},
      {"no parameters", [](json& j) { j.erase("parameters"); }, "'parameters' is missing"},
      {"parameters as an array", [](json& j) { j["parameters"] = json::array(); }, "'parameters' must be an object"},
      {"fractional parameter", [](json& j) { j["parameters"]["layers"] = 1.5; }, "'parameters.layers' must be a whole number"},
      {"parameter over int64", [](json& j) { j["parameters"]["layers"] = uint64_t{1} << 63; }, "'parameters.layers' must be"},
      {"scale 0", [](json& j) { j["scale"] = 0; }, "'scale' must be"},
      {"scale 9", [](json& j) { j["scale"] = 9; }, "'scale' must be"},
      {"no tiling", [](json& j) { j.erase("tiling"); }, "'tiling' is missing"},
      {"tile missing", [](json& j) { j["tiling"].erase("tile"); }, "'tile' is missing"},
      {"tile over the limit", [](json& j) { j["tiling"]["tile"] = 1 << 20; }, "'tile' must be"},
      {"tile as text", [](json& j) { j["tiling"]["tile"] = "64"; }, "'tile' must be"},
      {"negative halo", [](json& j) { j["tiling"]["halo"] = -2; }, "'halo' must be"},
      {"unknown window", [](json& j) { j["tiling"]["blend"] = "round"; }, "'blend' is unknown"},
      {"halo eats the tile", [](json& j) { j["tiling"]["halo"] = 32; }, "tiling"},
      {"field of the tiling misspelt", [](json& j) { j["tiling"]["halos"] = 6; }, "'halos' is no field"},
      {"no hash", [](json& j) { j.erase("weights_sha256"); }, "'weights_sha256' is missing"},
      {"short hash", [](json& j) { j["weights_sha256"] = "abc"; }, "'weights_sha256' must be"},
      {"no licence", [](json& j) { j.erase("licence"); }, "'licence' is missing"},
      {"no description", [](json& j) { j.erase("description"); }, "'description' is missing"},
      {"labels as an object", [](json& j) { j["labels"] = json::object(); }, "'labels' must be an array"},
      {"a label is a number",
       [](json& j) {
         j["labels"] = {"a", 1};
       },
       "'labels' must be an array of strings"},
      {"recommends as an array", [](json& j) { j["recommends"] = json::array(); }, "'recommends' must be an object"},
      {"a recommendation for no label", [](json& j) { j["recommends"]["three"] = "x"; }, "'recommends.three' is none of the labels"},
      {"a recommended model is no name", [](json& j) { j["recommends"]["two"] = "../x"; }, "'recommends.two' must be the name of a model"},
      {"card as text", [](json& j) { j["card"] = "x"; }, "'card' must be an object"},
      {"misspelt field", [](json& j) { j["license"] = "MIT"; }, "'license' is no field"},
  };
  for (const Row& row : rows) {
    json damaged = good;
    row.damage(damaged);
    const Result<ModelCard> parsed = ParseModelCard(damaged.dump(), "folder/model.json");
    ASSERT_FALSE(parsed.ok()) << row.name;
    EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument) << row.name;
    EXPECT_THAT(parsed.status().message(), HasSubstr(row.message)) << row.name;
    EXPECT_THAT(parsed.status().message(), HasSubstr("folder/model.json")) << row.name;
  }
  EXPECT_EQ(ParseModelCard("{", "m").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseModelCard("", "m").status().code(), StatusCode::kInvalidArgument);
}

TEST(PackIdentity, IsStable) {
  // Written out: results are keyed by it, so it must survive every later version.
  ModelCard card = Example().card;
  card.weights_sha256 = Sha256Hex("weights");
  EXPECT_EQ(PackIdentity(card), "2204bcf379f8fe022ccb9ded5a5fd6a487bbb581be59de7fd325864dd6a40ce6");
}

TEST(PackIdentity, ChangesWithEverythingThatChangesPixelsAndNothingElse) {
  const ModelCard base = Example().card;
  struct Row {
    const char* name;
    std::function<void(ModelCard&)> change;
    bool same;
  };
  const std::vector<Row> rows = {
      {"name", [](ModelCard& c) { c.name = "other"; }, true},
      {"licence", [](ModelCard& c) { c.licence = "MIT"; }, true},
      {"description", [](ModelCard& c) { c.description = ""; }, true},
      {"card", [](ModelCard& c) { c.card_json = ""; }, true},
      {"recommendations", [](ModelCard& c) { c.recommends.clear(); }, true},
      {"task", [](ModelCard& c) { c.task = ModelTask::kScore; }, false},
      {"architecture", [](ModelCard& c) { c.architecture = "identity"; }, false},
      {"parameter", [](ModelCard& c) { c.parameters["layers"] = 1; }, false},
      {"scale", [](ModelCard& c) { c.scale = 2; }, false},
      {"tile", [](ModelCard& c) { c.tiling.tile = 128; }, false},
      {"halo", [](ModelCard& c) { c.tiling.halo = 8; }, false},
      {"overlap", [](ModelCard& c) { c.tiling.overlap = 2; }, false},
      {"multiple", [](ModelCard& c) { c.tiling.multiple = 4; }, false},
      {"blend", [](ModelCard& c) { c.tiling.blend = BlendWindow::kCosine; }, false},
      {"weights", [](ModelCard& c) { c.weights_sha256 = Sha256Hex("x"); }, false},
      {"labels", [](ModelCard& c) { c.labels.pop_back(); }, false},
  };
  for (const Row& row : rows) {
    ModelCard changed = base;
    row.change(changed);
    EXPECT_EQ(PackIdentity(changed) == PackIdentity(base), row.same) << row.name;
  }
}

TEST(ModelBundle, RoundTripAndDamage) {
  const std::string bundle = BundleModelPack(Example());
  const Result<ModelPack> pack = UnbundleModelPack(bundle, "bundle");
  ASSERT_TRUE(pack.ok()) << pack.status();
  EXPECT_EQ(BundleModelPack(*pack), bundle);

  struct Row {
    const char* name;
    std::string bytes;
    StatusCode code;
  };
  std::string flipped = bundle;
  flipped.back() ^= 1;
  std::string huge = bundle;
  for (size_t i = 10; i < 18; ++i) huge[i] = '\xff';
  const std::vector<Row> rows = {
      {"empty", "", StatusCode::kInvalidArgument},
      {"another file", "PK\3\4 something else", StatusCode::kInvalidArgument},
      {"only the magic", bundle.substr(0, 10), StatusCode::kDataLoss},
      {"cut in a length", bundle.substr(0, 14), StatusCode::kDataLoss},
      {"cut in the card", bundle.substr(0, 40), StatusCode::kDataLoss},
      {"cut in the weights", bundle.substr(0, bundle.size() - 1), StatusCode::kDataLoss},
      {"too long", bundle + "x", StatusCode::kDataLoss},
      {"a length of all ones", huge, StatusCode::kDataLoss},
      {"a flipped bit of the weights", flipped, StatusCode::kDataLoss},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(UnbundleModelPack(row.bytes, "bundle").status().code(), row.code) << row.name;
  }
}

}  // namespace
}  // namespace nsic
