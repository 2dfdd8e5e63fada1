#include "models/train/fit/export.h"

#include <torch/torch.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>

#include "models/io/usual_tiling.h"
#include "models/train/samples/judge_samples.h"

namespace nsic {

using nlohmann::json;

std::string CheckpointPath(const std::string& state) { return state + "/checkpoint.safetensors"; }

Result<ModelPack> PackOf(const Checkpoint& checkpoint) {
  ModelPack pack;
  try {
    json training = json::parse(checkpoint.settings);
    const json notes = json::parse(checkpoint.notes);
    pack.card.parameters = training.at("parameters").get<std::map<std::string, int64_t>>();
    pack.card.architecture = training.at("architecture").get<std::string>();
    training.erase("parameters");
    training.erase("architecture");
    training["steps"] = checkpoint.step;
    training["hours"] = std::round(static_cast<double>(checkpoint.elapsed_us) / 36e6) / 100;
    training["device"] = notes.at("device");
    if (notes.contains("source")) training["source"] = notes["source"];
    pack.card.name = notes.at("name").get<std::string>();
    pack.card.licence = notes.at("licence").get<std::string>();
    if (training.contains("recipe")) pack.card.description = training["recipe"].at("description").get<std::string>();
    const json card = {{"training", training}, {"validation", notes.at("validation")}};
    pack.card.card_json = card.dump(-1, ' ', false, json::error_handler_t::replace);
  } catch (const json::exception& error) {
    return DataLossError(std::string("the checkpoint does not say what it is of: ") + error.what());
  }
  pack.card.tiling = UsualTiling(pack.card.architecture, pack.card.parameters);
  if (pack.card.architecture == "tile-iqa" || pack.card.architecture == "ns-iqa") {
    pack.card.task = ModelTask::kScore;
    pack.card.description = "Scores how good a picture looks, 0 to 100, without its original.";
  } else if (pack.card.architecture == "tile-c") {
    pack.card.task = ModelTask::kClassify;
    pack.card.description = "Says what a picture is, photograph or drawing, how much it was compressed, or that it is a mosaic.";
    pack.card.labels = JudgeLabels();
    pack.card.recommends = JudgeRecommendations();
  }
  pack.weights = ToHost(checkpoint.averaged, at::kHalf);
  for (auto& [name, tensor] : ToHost(checkpoint.statistics, at::kFloat)) pack.weights.emplace(name, std::move(tensor));
  return pack;
}

Status Export(const std::string& state, const std::string& out) {
  const std::string path = CheckpointPath(state);
  NSIC_ASSIGN_OR_RETURN(const Checkpoint checkpoint, ReadCheckpoint(path));
  Result<ModelPack> pack = PackOf(checkpoint);
  if (!pack.ok()) return pack.status().WithContext(path);
  return WriteModelPack(out, *pack);
}

}  // namespace nsic
