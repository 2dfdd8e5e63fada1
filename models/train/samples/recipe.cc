#include "models/train/samples/recipe.h"

#include <toml++/toml.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <utility>

#include "core/base/files.h"
#include "models/train/samples/built_in_recipes.h"

namespace nsic {
namespace {

constexpr double kMost = std::numeric_limits<double>::max();

// Takes the fields of one table of the file. Remembers the first thing that is wrong, so that a table's reader reads like its description;
// Finish() tells, and finds fields that nobody took.
class TableReader {
 public:
  TableReader(const toml::table& table, const std::string& what, Status* error) : table_(table), what_(what), error_(error) {}

  void Take(const char* name, std::string* value) {
    const toml::node* node = Find(name);
    if (node == nullptr) return;
    if (!node->is_string()) return Fail(*node, name, "must be a string");
    *value = node->as_string()->get();
  }

  void Take(const char* name, bool* value) {
    const toml::node* node = Find(name);
    if (node == nullptr) return;
    if (!node->is_boolean()) return Fail(*node, name, "must be true or false");
    *value = node->as_boolean()->get();
  }

  void Take(const char* name, double* value, double lowest, double highest) {
    if (const toml::node* node = Find(name)) *value = Number(*node, name, lowest, highest);
  }
  void TakeShare(const char* name, double* value) { Take(name, value, 0, 1); }

  void Take(const char* name, Range* value, double lowest, double highest) {
    const toml::node* node = Find(name);
    if (node == nullptr) return;
    const toml::array* array = node->as_array();
    if (array == nullptr) {
      value->low = value->high = Number(*node, name, lowest, highest);
      return;
    }
    if (array->size() != 2) return Fail(*node, name, "must be a number or [low, high]");
    value->low = Number((*array)[0], name, lowest, highest);
    value->high = Number((*array)[1], name, lowest, highest);
    if (value->low > value->high) Fail(*node, name, "must not begin above its end");
  }

  void Take(const char* name, std::vector<Resampling>* value) {
    const toml::node* node = Find(name);
    if (node == nullptr) return;
    const toml::array* array = node->as_array();
    if (array == nullptr || array->empty()) return Fail(*node, name, "must be a list of box, triangle, cubic and lanczos");
    value->clear();
    for (const toml::node& entry : *array) {
      const std::string text = entry.value_or(std::string());
      if (text == "box") {
        value->push_back(Resampling::kBox);
      } else if (text == "triangle") {
        value->push_back(Resampling::kTriangle);
      } else if (text == "cubic") {
        value->push_back(Resampling::kCubic);
      } else if (text == "lanczos") {
        value->push_back(Resampling::kLanczos);
      } else {
        return Fail(entry, name, "must be a list of box, triangle, cubic and lanczos");
      }
    }
  }

  // Calls `read(table reader)` for each table of a list.
  template <typename Read>
  void TakeEach(const char* name, Read read) {
    const toml::node* node = Find(name);
    if (node == nullptr) return;
    const toml::array* array = node->as_array();
    if (array == nullptr) return Fail(*node, name, "must be a list of tables");
    for (const toml::node& entry : *array) {
      if (!entry.is_table()) return Fail(entry, name, "must be a list of tables");
      TableReader reader(*entry.as_table(), what_, error_);
      read(reader);
      reader.Finish();
    }
  }

  template <typename Read>
  void TakeTable(const char* name, Read read) {
    const toml::node* node = Find(name);
    if (node == nullptr) return;
    if (!node->is_table()) return Fail(*node, name, "must be a table");
    TableReader reader(*node->as_table(), what_, error_);
    read(reader);
    reader.Finish();
  }

  void Fail(const std::string& message) { Set(table_.source(), message); }

  void Finish() {
    for (const auto& [key, node] : table_) {
      if (taken_.count(std::string(key.str())) == 0) Set(key.source(), "there is no field '" + std::string(key.str()) + "' here");
    }
  }

 private:
  const toml::node* Find(const char* name) {
    taken_.insert(name);
    return table_.get(name);
  }

  double Number(const toml::node& node, const char* name, double lowest, double highest) {
    const double value = node.is_number() ? *node.value<double>() : lowest;
    if (node.is_number() && value >= lowest && value <= highest) return value;
    std::ostringstream message;
    message << "must be a number" << (highest == kMost ? " of at least " : " from ") << lowest;
    if (highest != kMost) message << " to " << highest;
    Fail(node, name, message.str());
    return lowest;
  }

  void Fail(const toml::node& node, const char* name, const std::string& message) {
    Set(node.source(), "'" + std::string(name) + "' " + message);
  }

  void Set(const toml::source_region& where, const std::string& message) {
    if (error_->ok()) *error_ = InvalidArgumentError(what_ + ":" + std::to_string(where.begin.line) + ": " + message);
  }

  const toml::table& table_;
  const std::string& what_;
  Status* const error_;
  std::set<std::string> taken_;
};

JpegStep ReadJpeg(TableReader& table) {
  JpegStep step;
  table.Take("quality", &step.quality, 1, 100);
  table.Take("skew", &step.skew, 0.1, 10);
  table.Take("first_quality", &step.first_quality, 1, 100);
  table.TakeShare("halved_chroma", &step.halved_chroma);
  table.TakeShare("shifted", &step.shifted);
  table.Take("shift", &step.shift, 0, 15);
  table.TakeShare("resized", &step.resized);
  table.Take("scale", &step.scale, 0.1, 4);
  table.Take("resampling", &step.resampling);
  if (step.shifted + step.resized > 1) table.Fail("'shifted' and 'resized' are shares of the same pictures: at most 1 together");
  return step;
}

MosaicStep ReadMosaic(TableReader& table) {
  MosaicStep step;
  table.Take("block", &step.block, 1, 64);
  table.TakeShare("region", &step.region);
  return step;
}

GaussianNoiseStep ReadGaussianNoise(TableReader& table) {
  GaussianNoiseStep step;
  table.Take("sigma", &step.sigma, 0, 255);
  table.TakeShare("grey", &step.grey);
  return step;
}

PoissonNoiseStep ReadPoissonNoise(TableReader& table) {
  PoissonNoiseStep step;
  table.Take("photons", &step.photons, 1, 1e6);
  return step;
}

BlurStep ReadBlur(TableReader& table) {
  BlurStep step;
  table.Take("sigma", &step.sigma, 0.05, 20);
  table.TakeShare("stretched", &step.stretched);
  return step;
}

RescaleStep ReadRescale(TableReader& table) {
  RescaleStep step;
  table.Take("scale", &step.scale, 0.1, 4);
  table.Take("resampling", &step.resampling);
  return step;
}

VideoStep ReadVideo(TableReader& table) {
  VideoStep step;
  table.Take("quantiser", &step.quantiser, 0, 51);
  table.Take("block", &step.block, 8, 32);
  for (const double side : {step.block.low, step.block.high}) {
    if (side != 8 && side != 16 && side != 32) table.Fail("the sides of a video's blocks are 8, 16 and 32");
  }
  table.Take("adaptive", &step.adaptive, 0, 2);
  return step;
}

DegradationStep ReadStep(TableReader& table) {
  DegradationStep step;
  std::string kind;
  table.Take("kind", &kind);
  table.TakeShare("share", &step.share);
  if (kind == "jpeg") {
    step.kind = ReadJpeg(table);
  } else if (kind == "mosaic") {
    step.kind = ReadMosaic(table);
  } else if (kind == "gaussian-noise") {
    step.kind = ReadGaussianNoise(table);
  } else if (kind == "poisson-noise") {
    step.kind = ReadPoissonNoise(table);
  } else if (kind == "blur") {
    step.kind = ReadBlur(table);
  } else if (kind == "rescale") {
    step.kind = ReadRescale(table);
  } else if (kind == "video") {
    step.kind = ReadVideo(table);
  } else {
    table.Fail("a step needs a 'kind': jpeg, mosaic, gaussian-noise, poisson-noise, blur, rescale or video");
  }
  return step;
}

void ReadDegradation(TableReader& table, Degradation* degradation) {
  table.TakeShare("clean", &degradation->clean);
  table.Take("shuffled", &degradation->shuffled);
  table.TakeEach("step", [&](TableReader& step) { degradation->steps.push_back(ReadStep(step)); });
  if (degradation->steps.empty()) table.Fail("there must be a 'step' at least");
}

void ReadValidation(TableReader& table, std::vector<ValidationCase>* cases) {
  ValidationCase read;
  table.Take("name", &read.name);
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; };
  if (read.name.empty() || !std::all_of(read.name.begin(), read.name.end(), allowed)) {
    table.Fail("what is validated needs a 'name' of lower case letters, digits and '_'");
  }
  for (const ValidationCase& other : *cases) {
    if (other.name == read.name) table.Fail("'" + read.name + "' is there twice");
  }
  ReadDegradation(table, &read.degradation);
  cases->push_back(std::move(read));
}

}  // namespace

std::vector<std::string> BuiltInRecipes() {
  std::vector<std::string> names;
  for (const BuiltInRecipe& recipe : kBuiltInRecipes) names.push_back(recipe.name);
  return names;
}

Result<Recipe> LoadRecipe(const std::string& name_or_path) {
  for (const BuiltInRecipe& recipe : kBuiltInRecipes) {
    if (name_or_path == recipe.name) return ParseRecipe(recipe.toml, name_or_path);
  }
  const Result<std::string> text = ReadFile(name_or_path);
  if (text.status().code() == StatusCode::kNotFound) {
    std::string known;
    for (const std::string& name : BuiltInRecipes()) known += (known.empty() ? "" : ", ") + name;
    return NotFoundError("there is no recipe " + name_or_path + ": give a TOML file, or one of " + known);
  }
  if (!text.ok()) return text.status();
  return ParseRecipe(*text, name_or_path);
}

Result<Recipe> ParseRecipe(std::string_view text, const std::string& what) {
  toml::table file;
  try {
    file = toml::parse(text, what);
  } catch (const toml::parse_error& error) {
    return InvalidArgumentError(what + ":" + std::to_string(error.source().begin.line) + ": " + std::string(error.description()));
  }
  Recipe recipe;
  Status error;
  TableReader table(file, what, &error);
  table.Take("description", &recipe.description);
  if (recipe.description.empty()) table.Fail("there must be a 'description' of the model");
  ReadDegradation(table, &recipe.degradation);
  table.TakeTable("loss", [&](TableReader& loss) {
    loss.Take("log_mse", &recipe.loss.log_mse, 0, kMost);
    loss.Take("charbonnier", &recipe.loss.charbonnier, 0, kMost);
    loss.Take("ssim", &recipe.loss.ssim, 0, kMost);
    loss.Take("edge", &recipe.loss.edge, 0, kMost);
    loss.Take("frequency", &recipe.loss.frequency, 0, kMost);
  });
  table.TakeEach("validate", [&](TableReader& validate) { ReadValidation(validate, &recipe.validation); });
  table.Finish();
  const LossWeights& loss = recipe.loss;
  if (!(loss.log_mse + loss.charbonnier + loss.ssim + loss.edge + loss.frequency > 0)) table.Fail("[loss] must weigh a term at least");
  if (recipe.validation.empty()) table.Fail("there must be a 'validate' at least");
  NSIC_RETURN_IF_ERROR(error);
  std::ostringstream json;
  json << toml::json_formatter{file};
  recipe.json = nlohmann::json::parse(json.str()).dump();
  return recipe;
}

}  // namespace nsic
