#include "worker/remember_precision.h"

#include <spdlog/spdlog.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/files.h"

namespace nsic {

// By machine and model. Written and read here alone.
std::map<std::string, std::map<std::string, std::string>> PrecisionBook::Read() const {
  std::error_code error;
  if (!std::filesystem::exists(file_, error)) return {};
  const Result<std::string> text = ReadFile(file_, int64_t{16} << 20);
  if (!text.ok()) {
    spdlog::warn("{}; precisions are measured again", text.status().message());
    return {};
  }
  try {
    return nlohmann::json::parse(*text).get<std::map<std::string, std::map<std::string, std::string>>>();
  } catch (const nlohmann::json::exception& bad) {
    spdlog::warn("{} is damaged ({}); precisions are measured again", file_, bad.what());
    return {};
  }
}

Result<Precision> PrecisionBook::Choose(const std::string& model_id, const Measure& measure) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::map<std::string, std::map<std::string, std::string>> book = Read();
  std::string& chosen = book[machine_][model_id];
  if (!chosen.empty()) {
    const Result<Precision> precision = ParsePrecision(chosen);
    if (precision.ok()) return precision;
    spdlog::warn("{}: {}; precisions are measured again", file_, precision.status().message());
  }
  NSIC_ASSIGN_OR_RETURN(const PrecisionChoice choice, measure());
  spdlog::info("model {}: {}", model_id, ChoiceText(choice));
  chosen = PrecisionName(choice.precision);
  NSIC_RETURN_IF_ERROR(WriteFileAtomically(file_, nlohmann::json(book).dump(1)));
  return choice.precision;
}

}  // namespace nsic
