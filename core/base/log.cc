#include "core/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>

namespace nsic {

const std::vector<std::string>& LogLevels() {
  static const std::vector<std::string> kLevels = {"trace", "debug", "info", "warning", "error"};
  return kLevels;
}

void SetUpLog(std::string_view program) {
  // Not registered by name: the default logger is the only one, and a second call replaces it.
  auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  auto logger = std::make_shared<spdlog::logger>(std::string(program), std::move(sink));
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %^%l%$ %n: %v", spdlog::pattern_time_type::utc);
  spdlog::set_default_logger(std::move(logger));
}

Status SetLogLevel(std::string_view level) {
  if (std::find(LogLevels().begin(), LogLevels().end(), level) == LogLevels().end()) {
    return InvalidArgumentError("no log level '" + std::string(level) + "': take trace, debug, info, warning or error");
  }
  spdlog::set_level(spdlog::level::from_str(std::string(level)));
  return OkStatus();
}

}  // namespace nsic
