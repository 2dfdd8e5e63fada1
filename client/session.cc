#include "client/session.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "client/text.h"
#include "core/base/program.h"

namespace nsic {
namespace {

std::string Absolute(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.string();
}

// Whether an option stands on the command line itself: settings of environment and file look the same afterwards.
bool IsOnCommandLine(int argc, char** argv, const std::string& option) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--") return false;
    if (argument == option || argument.compare(0, option.size() + 1, option + "=") == 0) return true;
  }
  return false;
}

}  // namespace

Session::Session(const Clock* clock, const CancelToken* cancel)
    : clock_(clock), cancel_(cancel), progress_(stderr, StandardErrorIsTerminal(), clock) {}

int Session::Fail(const Status& status) {
  progress_.Clear();
  progress_.Notice("nsic-client: " + ForTerminal(status.message()));
  return status.code() == StatusCode::kCancelled ? kExitInterrupted : kExitRefused;
}

int Session::FailUsage(const Status& status) {
  Fail(status);
  return kExitUsage;
}

void Session::Print(const std::string& text) {
  progress_.Clear();
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void Session::PrintJson(const std::string& json) { Print(json.empty() || json.back() != '\n' ? json + "\n" : json); }

Status Session::Connect(Need need, const std::optional<JobPlace>& job) {
  std::string address = options.coordinator;
  token_file_ = options.token_file;
  if (job && !options.local && !options.coordinator_was_given) {
    address = job->coordinator == kLocalCoordinator ? "" : job->coordinator;
    if (token_file_.empty()) token_file_ = job->token_file;
  }
  is_local_ = options.local || address.empty();
  if (!is_local_) {
    address = WithDefaultPort(address);
    std::string token;
    if (!token_file_.empty()) {
      token_file_ = Absolute(token_file_);
      NSIC_ASSIGN_OR_RETURN(token, ReadTokenFile(token_file_));
    }
    farm_ = std::make_unique<FarmConnection>(address, token, address);
    return OkStatus();
  }

  token_file_.clear();
  LocalFarmOptions farm_options;
  NSIC_ASSIGN_OR_RETURN(const std::string state, StateFolder());
  farm_options.state_folder = state + "/local";
  NSIC_ASSIGN_OR_RETURN(farm_options.programs, ProgramFolder());
  Result<std::unique_ptr<LocalFarm>> started = LocalFarm::Start(farm_options, clock_, *cancel_);
  LocalFarmPlace place;
  if (started.ok()) {
    local_farm_ = *std::move(started);
    place = local_farm_->place();
  } else if (need == Need::kLook && started.status().code() == StatusCode::kAborted) {
    const Result<LocalFarmPlace> running = LocalFarm::FindRunning(farm_options.state_folder);
    if (!running.ok()) return started.status();
    place = *running;
  } else {
    return started.status();
  }
  farm_ = std::make_unique<FarmConnection>(place.address, place.token, "this machine (" + place.address + ")");
  return OkStatus();
}

int RunClient(int argc, char** argv) {
  CLI::App app("Restores pictures and videos on all the machines you own.", "nsic-client");
  CancelToken cancel;
  // What terminals send twice: the first stops in order, the second at once. The programs of a local farm die with this one either way.
  const SignalWatcher signals([&cancel](int count) {
    if (count > 1) ::_exit(kExitInterrupted);
    cancel.Cancel();
  });
  const SystemClock clock;
  Session session(&clock, &cancel);
  app.add_option("--coordinator", session.options.coordinator, "The farm's coordinator; without one this machine is the farm")
      ->type_name("HOST[:PORT]");
  app.add_option("--token-file", session.options.token_file, "File whose first line is the farm's token")->type_name("FILE");
  app.add_flag("--local", session.options.local, "Use this machine alone: a private coordinator and worker")->configurable(false);
  app.add_flag("--json", session.options.json, "Print one JSON document; progress goes to standard error");
  AddSubmitCommand(&app, &session);
  AddFetchCommand(&app, &session);
  AddJobCommands(&app, &session);
  AddAssessCommand(&app, &session);
  AddBenchCommand(&app, &session);
  AddWorkersCommand(&app, &session);
  AddModelsCommand(&app, &session);
  session.options.coordinator_was_given = IsOnCommandLine(argc, argv, "--coordinator");
  if (const std::optional<int> exit = ParseCommandLine(&app, argc, argv, "warning")) return *exit;
  if (session.options.local && session.options.coordinator_was_given) {
    return session.FailUsage(
        InvalidArgumentError("--local and --coordinator exclude each other: a local farm has a coordinator of its own"));
  }
  return session.command();
}

}  // namespace nsic
