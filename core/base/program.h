// What the three programs have in common: signals, the conventions of the command line, the version, where the program lies.
#ifndef NSIC_CORE_BASE_PROGRAM_H_
#define NSIC_CORE_BASE_PROGRAM_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/base/files.h"
#include "core/base/status.h"

namespace nsic {

// Turns SIGINT and SIGTERM into calls of a function on a thread of its own, where locks may be taken and gRPC called, and ignores
// SIGPIPE. One at a time in a process, made at the top of main. The destructor waits for a running call and restores the default
// actions of SIGINT and SIGTERM. Programs that are started with exec do not inherit the handler.
class SignalWatcher {
 public:
  // `on_signal` gets 1 for the first signal of either kind, 2 for the second...: the first asks to drain, the second to leave at once.
  explicit SignalWatcher(std::function<void(int count)> on_signal);
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

 private:
  void Run();

  const std::function<void(int)> on_signal_;
  UniqueFd read_end_;  // a byte a signal; closed write end: stop
  UniqueFd write_end_;
  std::thread thread_;
};

// "512M", "4G", "1.5G", "300k", "1048576" in bytes, powers of 1024. INVALID_ARGUMENT for anything else and for negative sizes.
Result<int64_t> ParseSize(std::string_view text);

// An option that takes a SIZE as ParseSize reads it, in bytes. `*bytes` holds the default.
CLI::Option* AddSizeOption(CLI::App* command, const std::string& flags, int64_t* bytes, const std::string& help);

// "0.1.0". Coordinator and worker compare it at Register.
std::string VersionString();

// The folder that holds the running program, without a slash at the end.
Result<std::string> ProgramFolder();

// Parses the command line of `app` (named like the program: "nsic-worker") with the conventions of all NSIC programs:
// - Every option with a long name can also come from the environment and from a file: flags beat environment beat file.
//   Environment: --token-file is NSIC_TOKEN_FILE. An empty variable counts as unset.
//   File: $XDG_CONFIG_HOME/nsic/config.toml (~/.config/nsic/config.toml), or --config FILE. The three programs share it: a key at the
//   top, `token-file = "..."`, holds for every command that has the option; a key in a table named like the command ([serve],
//   [submit], [models.import]) for that command, and beats the key at the top. An unknown key in the table of the running command is an
//   error; at the top it belongs to another program.
// - --version, --help, --config FILE and --log-level LEVEL are added, the log is set up, program flags may stand after the command, and
//   exactly one command must be given if there are any.
// Because settings come from three places, CLI11's excludes() and needs() must not be used between options: judge the values instead.
// Empty: go on. Otherwise the process should exit with this code: 0 after --help or --version, 2 after a usage error (already printed).
std::optional<int> ParseCommandLine(CLI::App* app, int argc, char** argv, const std::string& log_level = "info");

// The environment without NSIC_* variables, as "NAME=value": for child programs that must not take up settings meant for their parent.
// They also need "--config", "/dev/null".
std::vector<std::string> EnvironmentWithoutSettings();

}  // namespace nsic

#endif  // NSIC_CORE_BASE_PROGRAM_H_
