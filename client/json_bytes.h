// File names are bytes, JSON strings are UTF-8: names that are not stand as {"bytes": [..]}.
#ifndef NSIC_CLIENT_JSON_BYTES_H_
#define NSIC_CLIENT_JSON_BYTES_H_

#include <nlohmann/json.hpp>
#include <string>

#include "client/text.h"

namespace nsic {

inline nlohmann::json BytesToJson(const std::string& bytes) {
  if (IsUtf8(bytes)) return bytes;
  nlohmann::json list = nlohmann::json::array();
  for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return {{"bytes", std::move(list)}};
}

// Throws nlohmann::json::exception for anything else.
inline std::string BytesFromJson(const nlohmann::json& json) {
  if (json.is_string()) return json.get<std::string>();
  std::string bytes;
  for (const nlohmann::json& value : json.at("bytes")) bytes += static_cast<char>(value.get<unsigned char>());
  return bytes;
}

}  // namespace nsic

#endif  // NSIC_CLIENT_JSON_BYTES_H_
