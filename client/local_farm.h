// The farm of one machine: a coordinator and a worker as child processes on loopback, which die with this process.
//
// Everything lies in one state folder ($XDG_STATE_HOME/nsic/local): `lock` (one farm a folder), `token` (other users of the machine can
// reach loopback too), `address` (while it serves), `root-id`, `coordinator/`, `worker-cache/`, `coordinator.log`, `worker.log`.
#ifndef NSIC_CLIENT_LOCAL_FARM_H_
#define NSIC_CLIENT_LOCAL_FARM_H_

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "client/child_process.h"
#include "core/base/cancel.h"
#include "core/base/clock.h"
#include "core/base/files.h"
#include "core/base/status.h"

namespace nsic {

// $XDG_STATE_HOME/nsic, or ~/.local/state/nsic.
Result<std::string> StateFolder();

// An exclusive lock on a file, held while the object lives.
class FileLock {
 public:
  // ABORTED when another process holds it.
  static Result<FileLock> Take(const std::string& path);

 private:
  explicit FileLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

struct LocalFarmPlace {
  std::string address;
  std::string token;
};

struct LocalFarmOptions {
  std::string state_folder;  // StateFolder() + "/local"
  std::string programs;      // folder with nsic-coordinator and nsic-worker
};

// Thread-safe.
class LocalFarm {
 public:
  // Starts the coordinator and returns when it serves. ABORTED when another process has this farm running; FAILED_PRECONDITION with the
  // last lines of its log when the coordinator does not come up.
  static Result<std::unique_ptr<LocalFarm>> Start(const LocalFarmOptions& options, const Clock* clock, const CancelToken& cancel);
  // Where the farm of another process serves that holds the lock. NOT_FOUND if it does not serve (yet).
  static Result<LocalFarmPlace> FindRunning(const std::string& state_folder);
  ~LocalFarm();  // stops both

  // The worker too. Once.
  void StartWorker();

  LocalFarmPlace place() const { return {address_, token_}; }
  // The media root "/" of the worker.
  const std::string& root_id() const { return root_id_; }
  // Not OK once a program ended five times within a minute and was given up: says which and how its log ends.
  Status health() const;

 private:
  struct Program {
    std::string name;
    std::vector<std::string> argv;
    std::string log_path;
    std::optional<ChildProcess> child;
    std::deque<int64_t> ends_us;  // of the last minute
    int64_t start_at_us = 0;
  };

  LocalFarm(const LocalFarmOptions& options, const Clock* clock, FileLock lock);
  Status Prepare();
  void Supervise();
  // Starts it, or again when it has ended and its time has come. Called by the supervising thread.
  Status KeepRunning(Program* program);
  Status WaitUntilServing(const CancelToken& cancel);

  const LocalFarmOptions options_;
  const Clock* const clock_;
  const FileLock lock_;
  std::string token_;
  std::string root_id_;
  std::string address_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool stop_ = false;
  bool worker_wanted_ = false;
  std::string serving_at_;  // known once the coordinator serves
  Status health_;

  std::thread supervisor_;  // starts and waits for the children: they die with this thread
};

// The last `lines` lines of a file on one line, or a note that it cannot be read.
std::string LastLines(const std::string& path, int lines);

}  // namespace nsic

#endif  // NSIC_CLIENT_LOCAL_FARM_H_
