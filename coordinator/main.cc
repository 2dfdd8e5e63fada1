// nsic-coordinator: keeps the farm's jobs, hands out work, stores blobs.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>

#include "coordinator/coordinator.h"
#include "core/base/clock.h"
#include "core/base/files.h"
#include "core/base/program.h"
#include "core/rpc/channel.h"

namespace nsic {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

struct Flags {
  std::string listen = "127.0.0.1:" + std::to_string(kDefaultPort);
  std::string state;
  std::string models;
  std::string metrics;
  std::string token_file;
  std::string address_file;
  int64_t quota = 0;
  bool insecure = false;
};

// Where CMake puts the shipped packs: ../share/nsic/models beside the program. Empty if they are not there.
std::string ShippedModels() {
  const Result<std::string> folder = ProgramFolder();
  if (!folder.ok()) return "";
  const std::filesystem::path models = std::filesystem::path(*folder).parent_path() / "share/nsic/models";
  std::error_code ignored;  // not there: nothing is shipped
  return std::filesystem::is_directory(models, ignored) ? models.string() : "";
}

int Serve(const Flags& flags) {
  // Made first, so that a signal during a long start is not lost.
  std::mutex mutex;
  std::condition_variable changed;
  bool stop = false;
  const SignalWatcher signals([&](int count) {
    if (count > 1) ::_exit(kExitFailed);
    std::lock_guard<std::mutex> lock(mutex);
    stop = true;
    changed.notify_all();
  });

  Coordinator::Options options;
  options.listen = WithDefaultPort(flags.listen);
  options.state_folder = flags.state;
  options.models_folder = flags.models.empty() ? ShippedModels() : flags.models;
  options.metrics = flags.metrics;
  options.insecure = flags.insecure;
  options.quota = flags.quota;
  options.farm.version = VersionString();
  if (flags.insecure && !flags.token_file.empty()) {
    spdlog::error("--insecure and --token-file exclude each other");
    return kExitUsage;
  }
  if (!flags.token_file.empty()) {
    Result<std::string> token = ReadTokenFile(flags.token_file);
    if (!token.ok()) {
      spdlog::error("{}", token.status().message());
      return kExitUsage;
    }
    options.token = *std::move(token);
  }
  const SystemClock clock;
  options.clock = &clock;
  Result<std::unique_ptr<Coordinator>> coordinator = Coordinator::Start(std::move(options));
  if (!coordinator.ok()) {
    spdlog::error("{}", coordinator.status().message());
    return kExitFailed;
  }
  spdlog::info("serving at {}, state in {}", (*coordinator)->address(), flags.state);
  if (!flags.address_file.empty()) {
    if (const Status status = WriteFileAtomically(flags.address_file, (*coordinator)->address()); !status.ok()) {
      spdlog::error("{}", status.message());
      return kExitFailed;
    }
  }
  {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return stop; });
  }
  spdlog::info("stopping");
  (*coordinator)->Stop();
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app("Keeps the farm's jobs, hands out work to workers and stores what travels between them.", "nsic-coordinator");
  Flags flags;
  CLI::App* const serve = app.add_subcommand("serve", "Serve until SIGTERM");
  serve->add_option("--listen", flags.listen, "HOST:PORT to listen at; port 0 takes any free one")->capture_default_str();
  serve->add_option("--state", flags.state, "Folder for the database and the blobs; made if missing")->required();
  serve->add_option("--models", flags.models, "Folder of model packs to register at start (default: those shipped with the program)");
  AddSizeOption(serve, "--quota", &flags.quota, "How much blobs may take, such as 20G (default: what the disk holds)");
  serve->add_option("--metrics", flags.metrics, "HOST:PORT to serve Prometheus metrics at");
  serve->add_option("--token-file", flags.token_file, "File whose first line every client and worker must present");
  serve->add_flag("--insecure", flags.insecure, "Listen beyond this machine without a token");
  serve->add_option("--address-file", flags.address_file, "File to write the bound address to, once serving");
  if (const std::optional<int> code = ParseCommandLine(&app, argc, argv)) return *code;
  return Serve(flags);
}

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) { return nsic::Main(argc, argv); }
