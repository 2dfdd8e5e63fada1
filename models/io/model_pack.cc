#include "models/io/model_pack.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "core/base/digest.h"
#include "core/base/files.h"
#include "models/io/safetensors.h"

namespace nsic {
namespace {

using nlohmann::json;

constexpr char kCardFile[] = "model.json";
constexpr char kWeightsFile[] = "weights.safetensors";
constexpr std::string_view kBundleMagic = "NSICPACK1\n";
constexpr int kFormat = 1;
constexpr size_t kMaxName = 64;
constexpr int kMaxScale = 8;
constexpr int kMaxTile = 1 << 16;
constexpr int64_t kMaxCardBytes = 16 << 20;

constexpr std::array<std::pair<ModelTask, std::string_view>, 3> kTasks = {
    {{ModelTask::kEnhance, "enhance"}, {ModelTask::kScore, "score"}, {ModelTask::kClassify, "classify"}}};

std::string_view TaskName(ModelTask task) {
  for (const auto& [value, name] : kTasks) {
    if (value == task) return name;
  }
  return "";
}

bool IsName(std::string_view text) {
  if (text.empty() || text.size() > kMaxName || text.front() == '.' || text.front() == '-') return false;
  return text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_.") == std::string_view::npos;
}

// Reads the fields of one JSON object and remembers which were asked for, so that a misspelt one is an error and not a default.
class Fields {
 public:
  Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {}

  Status Wrong(const std::string& field, const std::string& why) const { return InvalidArgumentError(where_ + ": '" + field + "' " + why); }

  Result<std::string> String(const std::string& field) {
    const json* value = Find(field);
    if (value == nullptr) return Wrong(field, "is missing");
    if (!value->is_string()) return Wrong(field, "must be a string");
    return value->get<std::string>();
  }

  Result<int> Int(const std::string& field, int lowest, int highest) {
    const json* value = Find(field);
    if (value == nullptr) return Wrong(field, "is missing");
    const std::optional<int64_t> number = Whole(*value);
    if (!number || *number < lowest || *number > highest) {
      return Wrong(field, "must be a whole number from " + std::to_string(lowest) + " to " + std::to_string(highest));
    }
    return static_cast<int>(*number);
  }

  Result<const json*> Object(const std::string& field) {
    const json* value = Find(field);
    if (value == nullptr) return Wrong(field, "is missing");
    if (!value->is_object()) return Wrong(field, "must be an object");
    return value;
  }

  // nullptr when it is not there.
  const json* Find(const std::string& field) {
    known_.push_back(field);
    const auto found = object_.find(field);
    return found == object_.end() ? nullptr : &*found;
  }

  Status NothingElse() const {
    for (const auto& [field, value] : object_.items()) {
      if (std::find(known_.begin(), known_.end(), field) == known_.end()) return Wrong(field, "is no field of model.json");
    }
    return OkStatus();
  }

  static std::optional<int64_t> Whole(const json& value) {
    if (!value.is_number_integer()) return std::nullopt;
    if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return std::nullopt;
    return value.get<int64_t>();
  }

 private:
  const json& object_;
  const std::string where_;
  std::vector<std::string> known_;
};

Result<TileSpec> ParseTiling(const json& object, const std::string& what) {
  Fields fields(object, what + ": 'tiling'");
  TileSpec spec;
  NSIC_ASSIGN_OR_RETURN(spec.tile, fields.Int("tile", 1, kMaxTile));
  NSIC_ASSIGN_OR_RETURN(spec.halo, fields.Int("halo", 0, kMaxTile));
  NSIC_ASSIGN_OR_RETURN(spec.overlap, fields.Int("overlap", 0, kMaxTile));
  NSIC_ASSIGN_OR_RETURN(spec.multiple, fields.Int("multiple", 1, kMaxTile));
  NSIC_ASSIGN_OR_RETURN(const std::string blend, fields.String("blend"));
  Result<BlendWindow> window = ParseBlendWindow(blend);
  if (!window.ok()) return fields.Wrong("blend", "is unknown: " + window.status().message());
  spec.blend = *window;
  NSIC_RETURN_IF_ERROR(fields.NothingElse());
  NSIC_RETURN_IF_ERROR(spec.Validate().WithContext(what + ": 'tiling'"));
  return spec;
}

json TilingJson(const TileSpec& spec) {
  return {{"tile", spec.tile},
          {"halo", spec.halo},
          {"overlap", spec.overlap},
          {"multiple", spec.multiple},
          {"blend", BlendWindowName(spec.blend)}};
}

// A pack from its two files' bytes, with the hash checked.
Result<ModelPack> MakePack(std::string_view card_bytes, std::string_view weight_bytes, const std::string& card_name,
                           const std::string& weights_name) {
  ModelPack pack;
  NSIC_ASSIGN_OR_RETURN(pack.card, ParseModelCard(card_bytes, card_name));
  const std::string digest = Sha256Hex(weight_bytes);
  if (digest != pack.card.weights_sha256) {
    return DataLossError(weights_name + ": its SHA-256 is " + digest + ", but " + card_name + " names " + pack.card.weights_sha256 +
                         "; fetch or import the model again");
  }
  NSIC_ASSIGN_OR_RETURN(pack.weights, ParseSafetensors(weight_bytes, weights_name));
  // Other programs order the tensors as they like. The identity is that of our order, so that bundling a pack never changes it.
  const std::string canonical = SerializeSafetensors(pack.weights);
  if (canonical != weight_bytes) pack.card.weights_sha256 = Sha256Hex(canonical);
  return pack;
}

void AppendPiece(std::string& bundle, std::string_view bytes) {
  for (int i = 0; i < 8; ++i) bundle.push_back(static_cast<char>((uint64_t{bytes.size()} >> (8 * i)) & 0xff));
  bundle += bytes;
}

// Takes one length-prefixed piece off the front of `rest`.
std::optional<std::string_view> TakePiece(std::string_view& rest) {
  if (rest.size() < 8) return std::nullopt;
  uint64_t size = 0;
  for (int i = 7; i >= 0; --i) size = (size << 8) | static_cast<unsigned char>(rest[static_cast<size_t>(i)]);
  rest.remove_prefix(8);
  if (size > rest.size()) return std::nullopt;
  const std::string_view piece = rest.substr(0, size);
  rest.remove_prefix(size);
  return piece;
}

}  // namespace

Result<ModelCard> ParseModelCard(std::string_view text, const std::string& what) {
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return InvalidArgumentError(what + ": no JSON object");
  Fields fields(root, what);
  ModelCard card;
  NSIC_RETURN_IF_ERROR(fields.Int("format", kFormat, kFormat).status());
  NSIC_ASSIGN_OR_RETURN(card.name, fields.String("name"));
  if (!IsName(card.name)) {
    return fields.Wrong("name", "must be 1 to 64 of a-z, 0-9, '-', '_' and '.', and begin with a letter, a digit or '_'");
  }
  NSIC_ASSIGN_OR_RETURN(const std::string task, fields.String("task"));
  const auto* known = std::find_if(kTasks.begin(), kTasks.end(), [&](const auto& entry) { return entry.second == task; });
  if (known == kTasks.end()) return fields.Wrong("task", "must be enhance, score or classify, not '" + task + "'");
  card.task = known->first;
  NSIC_ASSIGN_OR_RETURN(card.architecture, fields.String("architecture"));
  if (card.architecture.empty()) return fields.Wrong("architecture", "is empty");
  NSIC_ASSIGN_OR_RETURN(const json* parameters, fields.Object("parameters"));
  for (const auto& [name, value] : parameters->items()) {
    const std::optional<int64_t> number = Fields::Whole(value);
    if (!number) return fields.Wrong("parameters." + name, "must be a whole number");
    card.parameters[name] = *number;
  }
  NSIC_ASSIGN_OR_RETURN(card.scale, fields.Int("scale", 1, kMaxScale));
  NSIC_ASSIGN_OR_RETURN(const json* tiling, fields.Object("tiling"));
  NSIC_ASSIGN_OR_RETURN(card.tiling, ParseTiling(*tiling, what));
  NSIC_ASSIGN_OR_RETURN(card.weights_sha256, fields.String("weights_sha256"));
  if (!IsSha256Hex(card.weights_sha256)) return fields.Wrong("weights_sha256", "must be 64 lower-case hexadecimal digits");
  NSIC_ASSIGN_OR_RETURN(card.licence, fields.String("licence"));
  NSIC_ASSIGN_OR_RETURN(card.description, fields.String("description"));
  if (const json* labels = fields.Find("labels")) {
    if (!labels->is_array()) return fields.Wrong("labels", "must be an array of strings");
    for (const json& label : *labels) {
      if (!label.is_string()) return fields.Wrong("labels", "must be an array of strings");
      card.labels.push_back(label.get<std::string>());
    }
  }
  if (const json* recommends = fields.Find("recommends")) {
    if (!recommends->is_object()) return fields.Wrong("recommends", "must be an object of a model's name for each label");
    for (const auto& [label, model] : recommends->items()) {
      if (std::find(card.labels.begin(), card.labels.end(), label) == card.labels.end()) {
        return fields.Wrong("recommends." + label, "is none of the labels");
      }
      if (!model.is_string() || !IsName(model.get<std::string>()))
        return fields.Wrong("recommends." + label, "must be the name of a model");
      card.recommends[label] = model.get<std::string>();
    }
  }
  if (const json* free = fields.Find("card")) {
    if (!free->is_object()) return fields.Wrong("card", "must be an object");
    card.card_json = free->dump();
  }
  NSIC_RETURN_IF_ERROR(fields.NothingElse());
  return card;
}

std::string SerializeModelCard(const ModelCard& card) {
  json root = {{"format", kFormat},
               {"name", card.name},
               {"task", TaskName(card.task)},
               {"architecture", card.architecture},
               {"parameters", json(json::value_t::object)},
               {"scale", card.scale},
               {"tiling", TilingJson(card.tiling)},
               {"weights_sha256", card.weights_sha256},
               {"licence", card.licence},
               {"description", card.description}};
  for (const auto& [name, value] : card.parameters) root["parameters"][name] = value;
  if (!card.labels.empty()) root["labels"] = card.labels;
  if (!card.recommends.empty()) root["recommends"] = card.recommends;
  if (!card.card_json.empty()) root["card"] = json::parse(card.card_json, nullptr, /*allow_exceptions=*/false);
  return root.dump(2) + "\n";
}

Result<ModelPack> ReadModelPack(const std::string& folder) {
  const std::string card_path = folder + "/" + kCardFile;
  const std::string weights_path = folder + "/" + kWeightsFile;
  NSIC_ASSIGN_OR_RETURN(const std::string card, ReadFile(card_path, kMaxCardBytes));
  NSIC_ASSIGN_OR_RETURN(const std::string weights, ReadFile(weights_path));
  return MakePack(card, weights, card_path, weights_path);
}

Status WriteModelPack(const std::string& folder, const ModelPack& pack) {
  NSIC_RETURN_IF_ERROR(MakeFolders(folder));
  const std::string weights = SerializeSafetensors(pack.weights);
  ModelCard card = pack.card;
  card.weights_sha256 = Sha256Hex(weights);
  NSIC_RETURN_IF_ERROR(WriteFileAtomically(folder + "/" + kWeightsFile, weights));
  return WriteFileAtomically(folder + "/" + kCardFile, SerializeModelCard(card));
}

Status WriteCardField(const std::string& folder, const std::string& field, const std::string& value) {
  const std::string path = folder + "/" + kCardFile;
  NSIC_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxCardBytes));
  NSIC_ASSIGN_OR_RETURN(ModelCard card, ParseModelCard(text, path));
  const auto parse = [](const std::string& from) { return json::parse(from, nullptr, /*allow_exceptions=*/false); };
  json free = card.card_json.empty() ? json::object() : parse(card.card_json);
  free[field] = parse(value);
  if (free[field].is_discarded()) return InternalError(path + ": the card's field " + field + " would be no JSON");
  card.card_json = free.dump();
  return WriteFileAtomically(path, SerializeModelCard(card));
}

std::string PackIdentity(const ModelCard& card) {
  json canonical = {{"architecture", card.architecture},
                    {"parameters", json(json::value_t::object)},
                    {"scale", card.scale},
                    {"task", TaskName(card.task)},
                    {"tiling", TilingJson(card.tiling)},
                    {"weights_sha256", card.weights_sha256},
                    {"labels", card.labels}};
  for (const auto& [name, value] : card.parameters) canonical["parameters"][name] = value;
  return Sha256Hex(canonical.dump());
}

std::string BundleModelPack(const ModelPack& pack) {
  const std::string weights = SerializeSafetensors(pack.weights);
  ModelCard card = pack.card;
  card.weights_sha256 = Sha256Hex(weights);
  std::string bundle(kBundleMagic);
  AppendPiece(bundle, SerializeModelCard(card));
  AppendPiece(bundle, weights);
  return bundle;
}

Result<ModelPack> UnbundleModelPack(std::string_view bytes, const std::string& what) {
  if (bytes.substr(0, kBundleMagic.size()) != kBundleMagic) return InvalidArgumentError(what + ": no bundle of a model pack");
  std::string_view rest = bytes.substr(kBundleMagic.size());
  const std::optional<std::string_view> card = TakePiece(rest);
  const std::optional<std::string_view> weights = card ? TakePiece(rest) : std::nullopt;
  if (!weights) return DataLossError(what + ": the bundle is truncated");
  if (!rest.empty()) return DataLossError(what + ": " + std::to_string(rest.size()) + " bytes after the bundle's end");
  return MakePack(*card, *weights, what + ": " + kCardFile, what + ": " + kWeightsFile);
}

}  // namespace nsic
