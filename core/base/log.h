// The log of a program: one line an event on standard error, times in UTC. Log with spdlog::info(...) and its siblings.
#ifndef NSIC_CORE_BASE_LOG_H_
#define NSIC_CORE_BASE_LOG_H_

#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace nsic {

// The names that SetLogLevel takes, from the most to the least talkative.
const std::vector<std::string>& LogLevels();  // "trace", "debug", "info", "warning", "error"

// Makes standard error the log of the process: "2026-11-23T05:02:39.123Z info nsic-worker: message". Thread-safe afterwards.
// ParseCommandLine (program.h) calls it; only a program without a command line calls it itself.
void SetUpLog(std::string_view program);

// INVALID_ARGUMENT for a name that is not in LogLevels().
Status SetLogLevel(std::string_view level);

}  // namespace nsic

#endif  // NSIC_CORE_BASE_LOG_H_
