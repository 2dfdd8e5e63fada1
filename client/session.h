// What every command shares: the common options, where results go, and the way to a farm.
#ifndef NSIC_CLIENT_SESSION_H_
#define NSIC_CLIENT_SESSION_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "client/farm_connection.h"
#include "client/job_index.h"
#include "client/local_farm.h"
#include "client/progress.h"
#include "core/base/cancel.h"
#include "core/base/clock.h"
#include "core/base/status.h"

namespace nsic {

// Exit codes. Stable: scripts rely on them.
inline constexpr int kExitDone = 0;
inline constexpr int kExitSomeFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitRefused = 3;  // unreachable or refused
inline constexpr int kExitInterrupted = 130;

struct CommonOptions {
  std::string coordinator;  // empty: none configured
  std::string token_file;
  bool json = false;
  bool local = false;                  // --local was given
  bool coordinator_was_given = false;  // on the command line, not by environment or file
};

// One run of the program.
class Session {
 public:
  Session(const Clock* clock, const CancelToken* cancel);

  CommonOptions options;
  // Set by the command that the user chose; the exit code.
  std::function<int()> command;

  const Clock& clock() const { return *clock_; }
  const CancelToken& cancel() const { return *cancel_; }
  Progress& progress() { return progress_; }

  // "nsic-client: MESSAGE" on standard error, safe for a terminal. Returns kExitRefused, or kExitInterrupted for CANCELLED.
  int Fail(const Status& status);
  // The same for what is wrong with the command line itself: kExitUsage.
  int FailUsage(const Status& status);
  // Text for people: to standard output.
  void Print(const std::string& text);
  // The one JSON document of --json.
  void PrintJson(const std::string& json);

  // What the farm is needed for.
  enum class Need {
    kLook,     // ask or change records: the coordinator alone, or the farm of another nsic-client that is running
    kRestore,  // work through a job: a local farm of our own
  };
  // The farm that the options name, or where `job` was submitted unless --coordinator or --local say otherwise, or the local one.
  // Connecting is lazy: a coordinator that is not there shows in the first call.
  Status Connect(Need need, const std::optional<JobPlace>& job = std::nullopt);
  FarmConnection& farm() { return *farm_; }
  // Null when the farm is not ours.
  LocalFarm* local_farm() { return local_farm_.get(); }
  bool is_local() const { return is_local_; }
  // What a job's record and place say of this farm.
  std::string coordinator_name() const { return is_local_ ? kLocalCoordinator : farm_->name(); }
  std::string token_file() const { return token_file_; }

 private:
  const Clock* const clock_;
  const CancelToken* const cancel_;
  Progress progress_;
  bool is_local_ = false;
  std::string token_file_;
  std::unique_ptr<LocalFarm> local_farm_;
  std::unique_ptr<FarmConnection> farm_;
};

// Each adds its command to the program; when it is chosen, session->command is set.
void AddSubmitCommand(CLI::App* app, Session* session);
void AddFetchCommand(CLI::App* app, Session* session);
void AddJobCommands(CLI::App* app, Session* session);  // jobs, status, watch, cancel, pause, resume, retry
void AddAssessCommand(CLI::App* app, Session* session);
void AddBenchCommand(CLI::App* app, Session* session);
void AddWorkersCommand(CLI::App* app, Session* session);
void AddModelsCommand(CLI::App* app, Session* session);

// The whole program.
int RunClient(int argc, char** argv);

}  // namespace nsic

#endif  // NSIC_CLIENT_SESSION_H_
