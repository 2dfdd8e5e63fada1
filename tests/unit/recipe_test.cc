// Recipes: what they say is what training does; what they get wrong is named by line.
#include "models/train/samples/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <variant>
#include <vector>

#include "core/base/digest.h"
#include "core/base/files.h"

namespace nsic {
namespace {

using testing::HasSubstr;

constexpr char kWhole[] = R"(description = "All kinds."
clean = 0.1
shuffled = true
[[step]]
kind = "jpeg"
share = 0.8
quality = [5, 60]
skew = 2
first_quality = 20
halved_chroma = 0.5
shifted = 0.25
shift = [1, 7]
resized = 0.125
scale = [0.5, 1.5]
resampling = ["cubic", "box"]
[[step]]
kind = "mosaic"
block = [3, 5]
region = 0.5
[[step]]
kind = "gaussian-noise"
sigma = 4.5
grey = 0.25
[[step]]
kind = "poisson-noise"
photons = [100, 200]
[[step]]
kind = "blur"
sigma = [1, 2]
stretched = 1
[[step]]
kind = "rescale"
scale = 0.5
resampling = ["lanczos", "triangle"]
[[step]]
kind = "video"
quantiser = [18, 40]
block = [8, 16]
adaptive = 0.5
[loss]
charbonnier = 1
ssim = 0.25
edge = 0.5
frequency = 0.125
[[validate]]
name = "q10"
step = [{ kind = "jpeg", quality = 10 }]
[[validate]]
name = "both"
step = [{ kind = "blur" }, { kind = "mosaic", block = 4 }]
)";

TEST(ParseRecipe, ReadsEveryField) {
  const Result<Recipe> recipe = ParseRecipe(kWhole, "whole.toml");
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_EQ(recipe->description, "All kinds.");
  EXPECT_EQ(recipe->degradation.clean, 0.1);
  EXPECT_TRUE(recipe->degradation.shuffled);
  const std::vector<DegradationStep>& steps = recipe->degradation.steps;
  ASSERT_EQ(steps.size(), 7u);
  const auto expect_range = [](const Range& range, double low, double high) {
    EXPECT_EQ(range.low, low);
    EXPECT_EQ(range.high, high);
  };
  EXPECT_EQ(steps[0].share, 0.8);
  EXPECT_EQ(steps[1].share, 1);
  const JpegStep& jpeg = std::get<JpegStep>(steps[0].kind);
  expect_range(jpeg.quality, 5, 60);
  EXPECT_EQ(jpeg.skew, 2);
  expect_range(jpeg.first_quality, 20, 20);
  EXPECT_EQ(jpeg.halved_chroma, 0.5);
  EXPECT_EQ(jpeg.shifted, 0.25);
  expect_range(jpeg.shift, 1, 7);
  EXPECT_EQ(jpeg.resized, 0.125);
  expect_range(jpeg.scale, 0.5, 1.5);
  EXPECT_EQ(jpeg.resampling, (std::vector<Resampling>{Resampling::kCubic, Resampling::kBox}));
  expect_range(std::get<MosaicStep>(steps[1].kind).block, 3, 5);
  EXPECT_EQ(std::get<MosaicStep>(steps[1].kind).region, 0.5);
  expect_range(std::get<GaussianNoiseStep>(steps[2].kind).sigma, 4.5, 4.5);
  EXPECT_EQ(std::get<GaussianNoiseStep>(steps[2].kind).grey, 0.25);
  expect_range(std::get<PoissonNoiseStep>(steps[3].kind).photons, 100, 200);
  expect_range(std::get<BlurStep>(steps[4].kind).sigma, 1, 2);
  EXPECT_EQ(std::get<BlurStep>(steps[4].kind).stretched, 1);
  expect_range(std::get<RescaleStep>(steps[5].kind).scale, 0.5, 0.5);
  EXPECT_EQ(std::get<RescaleStep>(steps[5].kind).resampling, (std::vector<Resampling>{Resampling::kLanczos, Resampling::kTriangle}));
  const VideoStep& video = std::get<VideoStep>(steps[6].kind);
  expect_range(video.quantiser, 18, 40);
  expect_range(video.block, 8, 16);
  expect_range(video.adaptive, 0.5, 0.5);
  EXPECT_EQ(recipe->loss.log_mse, 0);
  EXPECT_EQ(recipe->loss.charbonnier, 1);
  EXPECT_EQ(recipe->loss.ssim, 0.25);
  EXPECT_EQ(recipe->loss.edge, 0.5);
  EXPECT_EQ(recipe->loss.frequency, 0.125);
  ASSERT_EQ(recipe->validation.size(), 2u);
  EXPECT_EQ(recipe->validation[0].name, "q10");
  EXPECT_EQ(recipe->validation[1].degradation.steps.size(), 2u);
}

TEST(ParseRecipe, IsEqualForEqualRecipes) {
  const std::string spaced = "# the same\n" + std::string(kWhole);
  EXPECT_EQ(ParseRecipe(kWhole, "a")->json, ParseRecipe(spaced, "b")->json);
  std::string other = kWhole;
  other.replace(other.find("0.8"), 3, "0.7");
  EXPECT_NE(ParseRecipe(kWhole, "a")->json, ParseRecipe(other, "b")->json);
}

TEST(ParseRecipe, NamesWhatIsWrong) {
  struct Row {
    const char* name;
    const char* from;  // of kWhole
    const char* to;
    const char* message;
  };
  const std::vector<Row> rows = {
      {"no TOML", "clean = 0.1", "clean = ", "r.toml:2: "},
      {"no description", "description = \"All kinds.\"", "", "'description'"},
      {"a share of two", "share = 0.8", "share = 2", "r.toml:6: 'share' must be a number from 0 to 1"},
      {"quality of none", "quality = [5, 60]", "quality = [0, 60]", "r.toml:7: 'quality' must be a number from 1 to 100"},
      {"range backwards", "quality = [5, 60]", "quality = [60, 5]", "r.toml:7: 'quality' must not begin above its end"},
      {"range of three", "quality = [5, 60]", "quality = [5, 6, 7]", "[low, high]"},
      {"a word for a number", "skew = 2", "skew = \"two\"", "r.toml:8: 'skew' must be a number"},
      {"a misspelt field", "halved_chroma", "halfed_chroma", "r.toml:10: there is no field 'halfed_chroma'"},
      {"a field of another kind", "grey = 0.25", "region = 0.25", "r.toml:23: there is no field 'region'"},
      {"an unknown kind", "\"mosaic\"\nblock", "\"mosaik\"\nblock", "'kind'"},
      {"blocks of 12 pixels", "block = [8, 16]", "block = [8, 12]", "8, 16 and 32"},
      {"an unknown filter", "\"cubic\"", "\"qubic\"", "r.toml:15: 'resampling'"},
      {"both ways, over one", "shifted = 0.25", "shifted = 0.9", "at most 1 together"},
      {"an unknown loss", "edge = 0.5", "gan = 0.5", "there is no field 'gan'"},
      {"a negative loss", "edge = 0.5", "edge = -0.5", "of at least 0"},
      {"a name with a comma", "name = \"both\"", "name = \"a,b\"", "'name'"},
      {"a name twice", "name = \"both\"", "name = \"q10\"", "'q10' is there twice"},
      {"nothing to validate with", "step = [{ kind = \"jpeg\", quality = 10 }]", "", "'step'"},
      {"true for a table", "[loss]", "[lost]", "there is no field 'lost'"},
  };
  for (const Row& row : rows) {
    std::string text = kWhole;
    const size_t at = text.find(row.from);
    ASSERT_NE(at, std::string::npos) << row.name;
    text.replace(at, std::string(row.from).size(), row.to);
    const Result<Recipe> recipe = ParseRecipe(text, "r.toml");
    EXPECT_EQ(recipe.status().code(), StatusCode::kInvalidArgument) << row.name;
    EXPECT_THAT(recipe.status().message(), HasSubstr("r.toml:")) << row.name;
    EXPECT_THAT(recipe.status().message(), HasSubstr(row.message)) << row.name;
  }
  EXPECT_THAT(ParseRecipe("description = \"x\"\n[[step]]\nkind = \"blur\"\n", "r").status().message(), HasSubstr("[loss]"));
  EXPECT_THAT(ParseRecipe("description = \"x\"\n[[step]]\nkind = \"blur\"\n[loss]\nedge = 1\n", "r").status().message(),
              HasSubstr("'validate'"));
  EXPECT_THAT(ParseRecipe("description = \"x\"\n[loss]\nedge = 1\n", "r").status().message(), HasSubstr("'step'"));
}

TEST(LoadRecipe, CarriesRecipesAndReadsFiles) {
  EXPECT_EQ(BuiltInRecipes(), (std::vector<std::string>{"jpeg", "kairitsu", "kyouka", "ritsuka"}));
  for (const std::string& name : BuiltInRecipes()) {
    const Result<Recipe> recipe = LoadRecipe(name);
    EXPECT_TRUE(recipe.ok()) << recipe.status();
  }
  const std::string path = std::filesystem::temp_directory_path() / ("nsic-recipe-" + RandomHex(8) + ".toml");
  ASSERT_TRUE(WriteFileAtomically(path, kWhole).ok());
  const Result<Recipe> recipe = LoadRecipe(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_EQ(recipe->json, ParseRecipe(kWhole, "whole")->json);
  EXPECT_THAT(LoadRecipe("no-such").status().message(), HasSubstr("one of jpeg, kairitsu, kyouka, ritsuka"));
}

}  // namespace
}  // namespace nsic
