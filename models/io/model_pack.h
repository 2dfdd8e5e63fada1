// A model pack: a folder with `model.json` (what it is) and `weights.safetensors` (what it learned).
//
// The pack's identity is a SHA-256 over weights, architecture, parameters and tiling (not its name, recommendations or card): results are
// keyed by it, and workers fetch packs from the coordinator by it.
#ifndef NSIC_MODELS_IO_MODEL_PACK_H_
#define NSIC_MODELS_IO_MODEL_PACK_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/farm/tile_grid.h"
#include "models/io/tensor_map.h"

namespace nsic {

// What a pack's network computes.
enum class ModelTask { kEnhance, kScore, kClassify };

// Everything in model.json.
struct ModelCard {
  std::string name;  // "kairitsu-lite": lower case letters, digits, '-', '_', '.'
  ModelTask task = ModelTask::kEnhance;
  std::string architecture;                   // as BuildNetwork knows it
  std::map<std::string, int64_t> parameters;  // of the architecture: {"features": 48, "layers": 8}
  int scale = 1;                              // output pixels per input pixel, each way
  TileSpec tiling;
  std::string weights_sha256;  // of weights.safetensors, checked at load
  std::string licence;         // SPDX
  std::string description;
  std::string card_json;            // free-form "card" object (training data, metrics), kept as JSON text
  std::vector<std::string> labels;  // of a classifier, in the order of its outputs
  // Of a classifier: for a label, the name of the pack that repairs such pictures. Labels that need no repair are not here.
  std::map<std::string, std::string> recommends;
};

struct ModelPack {
  ModelCard card;
  TensorMap weights;
};

// INVALID_ARGUMENT names the field that is missing or wrong.
Result<ModelCard> ParseModelCard(std::string_view json, const std::string& what);
std::string SerializeModelCard(const ModelCard& card);  // pretty-printed, keys sorted

// Reads and checks both files. DATA_LOSS when the weights do not have the hash that model.json names.
Result<ModelPack> ReadModelPack(const std::string& folder);

// Writes both files (weights first, each by rename) and fills in weights_sha256. Creates the folder.
Status WriteModelPack(const std::string& folder, const ModelPack& pack);

// Replaces one field of the free "card" object in the folder's model.json by `value`, JSON text; the pack's identity stays.
Status WriteCardField(const std::string& folder, const std::string& field, const std::string& value);

// The identity, 64 hexadecimal digits: SHA-256 over the canonical JSON of {architecture, parameters, scale, task, tiling, weights_sha256,
// labels}.
std::string PackIdentity(const ModelCard& card);

// One file that travels: the two files, length-prefixed ("NSICPACK1\n", then for each: 8-byte little-endian length, bytes; model.json
// first). This is the blob that Models.Put takes and workers fetch.
std::string BundleModelPack(const ModelPack& pack);
Result<ModelPack> UnbundleModelPack(std::string_view bytes, const std::string& what);

// Recognises the architecture of a foreign checkpoint from its keys and shapes and makes a pack of it, with the published name,
// scale and tiling of that architecture. INVALID_ARGUMENT lists what is supported and the first keys found.
Result<ModelPack> ImportCheckpoint(TensorMap tensors, const std::string& name);

}  // namespace nsic

#endif  // NSIC_MODELS_IO_MODEL_PACK_H_
