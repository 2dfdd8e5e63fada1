#include "models/io/safetensors.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "core/base/files.h"

namespace nsic {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // the limit of the reference implementation
constexpr size_t kMaxRank = 16;

constexpr std::array<DType, 10> kDTypes = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64, DType::kInt64,
                                           DType::kInt32,   DType::kInt16,   DType::kInt8,     DType::kUInt8,   DType::kBool};

std::optional<DType> ParseDType(std::string_view name) {
  for (DType dtype : kDTypes) {
    if (DTypeName(dtype) == name) return dtype;
  }
  return std::nullopt;
}

uint64_t LoadLittleEndian64(const char* bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = (value << 8) | static_cast<unsigned char>(bytes[i]);
  return value;
}

struct Entry {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  uint64_t begin;
  uint64_t end;
};

// One tensor's entry in the header, checked against the `data_size` bytes that follow the header.
Result<Entry> ParseEntry(const std::string& name, const json& value, uint64_t data_size, const std::string& what) {
  auto broken = [&](const std::string& why) { return DataLossError(what + ": tensor '" + name + "': " + why); };
  if (!value.is_object()) return broken("its entry is no JSON object");
  const auto dtype = value.find("dtype"), shape = value.find("shape"), offsets = value.find("data_offsets");
  if (dtype == value.end() || !dtype->is_string()) return broken("dtype is missing");
  if (shape == value.end() || !shape->is_array() || shape->size() > kMaxRank) return broken("shape is missing or too long");
  if (offsets == value.end() || !offsets->is_array() || offsets->size() != 2 || !(*offsets)[0].is_number_unsigned() ||
      !(*offsets)[1].is_number_unsigned()) {
    return broken("data_offsets is no pair of numbers");
  }
  Entry entry;
  entry.name = name;
  const std::optional<DType> parsed = ParseDType(dtype->get_ref<const std::string&>());
  if (!parsed) return InvalidArgumentError(what + ": tensor '" + name + "': unknown dtype '" + dtype->get<std::string>() + "'");
  entry.dtype = *parsed;
  entry.begin = (*offsets)[0].get<uint64_t>();
  entry.end = (*offsets)[1].get<uint64_t>();
  if (entry.begin > entry.end || entry.end > data_size) return broken("its range lies outside the file; the file is truncated or damaged");

  uint64_t bytes = DTypeSize(entry.dtype);
  for (const json& side : *shape) {
    if (!side.is_number_unsigned()) return broken("a side of its shape is no natural number");
    const uint64_t length = side.get<uint64_t>();
    if (length > static_cast<uint64_t>(INT64_MAX) || __builtin_mul_overflow(bytes, length, &bytes)) return broken("its shape overflows");
    entry.shape.push_back(static_cast<int64_t>(length));
  }
  if (bytes != entry.end - entry.begin) {
    return broken("its shape needs " + std::to_string(bytes) + " bytes, but its range has " + std::to_string(entry.end - entry.begin));
  }
  return entry;
}

}  // namespace

Result<TensorMap> ParseSafetensors(std::string_view bytes, const std::string& what) {
  if (bytes.size() < 8) return DataLossError(what + ": truncated: a safetensors file has at least 8 bytes");
  const uint64_t header_size = LoadLittleEndian64(bytes.data());
  if (header_size > kMaxHeader)
    return DataLossError(what + ": the header claims " + std::to_string(header_size) + " bytes; no safetensors file");
  if (header_size > bytes.size() - 8) return DataLossError(what + ": truncated inside its header");
  const std::string_view header = bytes.substr(8, header_size);
  const std::string_view data = bytes.substr(8 + header_size);
  const json root = json::parse(header, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return DataLossError(what + ": the header is no JSON object");

  std::vector<Entry> entries;
  for (const auto& [name, value] : root.items()) {
    if (name == "__metadata__") continue;
    NSIC_ASSIGN_OR_RETURN(Entry entry, ParseEntry(name, value, data.size(), what));
    entries.push_back(std::move(entry));
  }
  // The ranges must tile the data: an overlap or a hole means that the header and the data are not of one file.
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name); });
  uint64_t position = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != position) {
      return DataLossError(what + ": tensor '" + entry.name + "' begins at byte " + std::to_string(entry.begin) + " instead of " +
                           std::to_string(position) + ": the ranges overlap or leave a hole");
    }
    position = entry.end;
  }
  if (position != data.size()) {
    return DataLossError(what + ": " + std::to_string(data.size() - position) + " bytes after the last tensor belong to none");
  }

  TensorMap tensors;
  for (Entry& entry : entries) {
    HostTensor tensor;
    tensor.dtype = entry.dtype;
    tensor.shape = std::move(entry.shape);
    tensor.data.resize(entry.end - entry.begin);
    if (!tensor.data.empty()) std::memcpy(tensor.data.data(), data.data() + entry.begin, tensor.data.size());
    tensors.emplace(std::move(entry.name), std::move(tensor));
  }
  return tensors;
}

Result<TensorMap> ReadSafetensors(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  return ParseSafetensors(bytes, path);
}

std::string SerializeSafetensors(const TensorMap& tensors) {
  json header = json::object();
  uint64_t position = 0;
  for (const auto& [name, tensor] : tensors) {
    const uint64_t end = position + tensor.data.size();
    header[name] = {{"dtype", DTypeName(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {position, end}}};
    position = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // so that the data begins at a multiple of 8, as the format recommends

  std::string bytes;
  bytes.reserve(8 + text.size() + position);
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>((uint64_t{text.size()} >> (8 * i)) & 0xff));
  bytes += text;
  for (const auto& [name, tensor] : tensors) bytes.append(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  return bytes;
}

}  // namespace nsic
