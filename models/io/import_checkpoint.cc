// Recognises published checkpoints by the names and shapes of their tensors.
#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "models/io/model_pack.h"
#include "models/io/usual_tiling.h"

namespace nsic {
namespace {

// The shape of tensor `name` if it is there and has `dimensions` of them.
std::optional<std::vector<int64_t>> Shape(const TensorMap& tensors, const std::string& name, size_t dimensions) {
  const auto found = tensors.find(name);
  if (found == tensors.end() || found->second.shape.size() != dimensions) return std::nullopt;
  return found->second.shape;
}

// How many of PREFIX0SUFFIX, PREFIX1SUFFIX, ... there are without a gap.
int64_t Count(const TensorMap& tensors, const std::string& prefix, const std::string& suffix) {
  int64_t count = 0;
  while (tensors.count(prefix + std::to_string(count) + suffix) > 0) ++count;
  return count;
}

std::optional<ModelCard> RecogniseNsIqe(const TensorMap& tensors) {
  const auto first = Shape(tensors, "conv_first.weight", 4);
  const int64_t blocks = Count(tensors, "rrdb_blocks.", ".final_conv.weight");
  if (!first || blocks == 0) return std::nullopt;
  ModelCard card;
  card.architecture = "ns-iqe";
  card.parameters = {{"features", (*first)[0]}, {"blocks", blocks}};
  card.tiling = UsualTiling(card.architecture, card.parameters);
  return card;
}

std::optional<ModelCard> RecogniseNsIqa(const TensorMap& tensors) {
  if (!Shape(tensors, "features.3.depthwise.weight", 4) || !Shape(tensors, "classifier.1.weight", 2)) return std::nullopt;
  ModelCard card;
  card.task = ModelTask::kScore;
  card.architecture = "ns-iqa";
  return card;
}

std::optional<ModelCard> RecogniseNsC(const TensorMap& tensors) {
  const auto head = Shape(tensors, "classifier.1.weight", 2);
  if (!head || !Shape(tensors, "features.1.0.block.0.0.weight", 4) || !Shape(tensors, "features.8.0.weight", 4)) return std::nullopt;
  ModelCard card;
  card.task = ModelTask::kClassify;
  card.architecture = "ns-c";
  // The names of the classes are in a file of their own; until somebody writes them into model.json the classes are numbered.
  const int64_t classes = std::min<int64_t>((*head)[0], 1 << 16);
  for (int64_t i = 0; i < classes; ++i) card.labels.push_back("class " + std::to_string(i));
  return card;
}

std::optional<ModelCard> RecogniseSrvgg(const TensorMap& tensors) {
  const auto first = Shape(tensors, "body.0.weight", 4);
  if (!first || !Shape(tensors, "body.1.weight", 1)) return std::nullopt;
  int64_t layers = 0;
  while (Shape(tensors, "body." + std::to_string(2 * layers) + ".weight", 4)) ++layers;
  const int64_t planes = (*Shape(tensors, "body." + std::to_string(2 * (layers - 1)) + ".weight", 4))[0];
  int scale = 1;
  while (scale < 8 && 3 * scale * scale < planes) ++scale;
  if (layers < 2 || 3 * scale * scale != planes) return std::nullopt;
  ModelCard card;
  card.architecture = "srvgg-compact";
  card.parameters = {{"features", (*first)[0]}, {"layers", layers}};
  card.scale = scale;
  card.tiling = UsualTiling(card.architecture, card.parameters);
  return card;
}

std::optional<ModelCard> RecogniseLight(const TensorMap& tensors) {
  const auto first = Shape(tensors, "convs.0.weight", 4);
  const int64_t convolutions = Count(tensors, "convs.", ".weight");
  if (!first || (*first)[1] != 12 || convolutions < 2) return std::nullopt;
  ModelCard card;
  card.architecture = "light";
  card.parameters = {{"features", (*first)[0]}, {"layers", convolutions - 2}};
  card.tiling = UsualTiling(card.architecture, card.parameters);
  return card;
}

}  // namespace

Result<ModelPack> ImportCheckpoint(TensorMap tensors, const std::string& name) {
  for (const auto recognise : {RecogniseNsIqe, RecogniseNsIqa, RecogniseNsC, RecogniseSrvgg, RecogniseLight}) {
    std::optional<ModelCard> card = recognise(tensors);
    if (!card) continue;
    card->name = name;
    card->licence = "NOASSERTION";  // SPDX for: the checkpoint does not say
    card->description = "Imported " + card->architecture + " checkpoint";
    return ModelPack{*std::move(card), std::move(tensors)};
  }
  std::string keys;
  int shown = 0;
  for (const auto& [key, tensor] : tensors) {
    if (++shown > 5) break;
    keys += (keys.empty() ? "" : ", ") + key;
  }
  return InvalidArgumentError(
      "the checkpoint's architecture is not known; supported are ns-iqe, ns-iqa, ns-c, srvgg-compact and light; "
      "its first tensors of " +
      std::to_string(tensors.size()) + " are: " + keys);
}

}  // namespace nsic
