#include "client/local_farm.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "core/base/digest.h"
#include "core/rpc/channel.h"

namespace nsic {
namespace {

constexpr int kMaxEnds = 5;
constexpr int64_t kEndsWindowUs = 60'000'000;
constexpr int64_t kRestartDelayUs = 200'000;  // from the second end in the window on, doubled with each
constexpr auto kSuperviseEvery = std::chrono::milliseconds(50);
constexpr int64_t kStartLimitUs = 60'000'000;
constexpr auto kWorkerPatience = std::chrono::milliseconds(1'000);
constexpr auto kCoordinatorPatience = std::chrono::milliseconds(5'000);
constexpr int kLogLines = 6;
constexpr int64_t kLogLimit = 8 << 20;
// Finished outputs stay in the store until room is needed: this much of it.
constexpr const char* kQuota = "16G";

// The file's first line; made with `fresh` when it is not there.
Result<std::string> ReadOrMake(const std::string& path, const std::string& fresh) {
  Result<std::string> text = ReadFile(path, 4096);
  if (text.ok()) {
    text->erase(std::min(text->find('\n'), text->size()));
    if (!text->empty()) return text;
  } else if (text.status().code() != StatusCode::kNotFound) {
    return text;
  }
  NSIC_RETURN_IF_ERROR(WriteFileAtomically(path, fresh + "\n"));
  if (::chmod(path.c_str(), 0600) != 0) return ErrnoError(errno, "cannot protect " + path);
  return fresh;
}

// Logs grow by appending, one run after another.
Status RotateLog(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || info.st_size < kLogLimit) return OkStatus();
  if (::rename(path.c_str(), (path + ".old").c_str()) != 0) return ErrnoError(errno, "cannot rename " + path);
  return OkStatus();
}

}  // namespace

Result<std::string> StateFolder() {
  if (const char* folder = std::getenv("XDG_STATE_HOME"); folder != nullptr && *folder == '/') return std::string(folder) + "/nsic";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') return std::string(home) + "/.local/state/nsic";
  return FailedPreconditionError("neither XDG_STATE_HOME nor HOME is set: there is no place for nsic's state");
}

Result<FileLock> FileLock::Take(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return ErrnoError(errno, "cannot open " + path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return AbortedError("another process holds " + path);
    return ErrnoError(errno, "cannot lock " + path);
  }
  return FileLock(std::move(fd));
}

LocalFarm::LocalFarm(const LocalFarmOptions& options, const Clock* clock, FileLock lock)
    : options_(options), clock_(clock), lock_(std::move(lock)) {}

Result<std::unique_ptr<LocalFarm>> LocalFarm::Start(const LocalFarmOptions& options, const Clock* clock, const CancelToken& cancel) {
  NSIC_RETURN_IF_ERROR(MakeFolders(options.state_folder));
  if (::chmod(options.state_folder.c_str(), 0700) != 0) return ErrnoError(errno, "cannot protect " + options.state_folder);
  Result<FileLock> lock = FileLock::Take(options.state_folder + "/lock");
  if (!lock.ok() && lock.status().code() == StatusCode::kAborted) {
    return AbortedError("another nsic-client runs the local farm in " + options.state_folder +
                        ": wait until it is done, or give this one a state folder of its own in XDG_STATE_HOME");
  }
  if (!lock.ok()) return lock.status();
  std::unique_ptr<LocalFarm> farm(new LocalFarm(options, clock, *std::move(lock)));
  NSIC_RETURN_IF_ERROR(farm->Prepare());
  farm->supervisor_ = std::thread([raw = farm.get()] { raw->Supervise(); });
  NSIC_RETURN_IF_ERROR(farm->WaitUntilServing(cancel));
  return farm;
}

Result<LocalFarmPlace> LocalFarm::FindRunning(const std::string& state_folder) {
  LocalFarmPlace place;
  NSIC_ASSIGN_OR_RETURN(place.address, ReadFile(state_folder + "/address", 4096));
  place.address.erase(std::min(place.address.find('\n'), place.address.size()));
  NSIC_ASSIGN_OR_RETURN(place.token, ReadTokenFile(state_folder + "/token"));
  return place;
}

Status LocalFarm::Prepare() {
  for (const char* program : {"nsic-coordinator", "nsic-worker"}) {
    const std::string path = options_.programs + "/" + program;
    if (::access(path.c_str(), X_OK) != 0) {
      return ErrnoError(errno, "cannot run " + path + ": a local farm needs nsic-coordinator and nsic-worker beside nsic-client");
    }
  }
  NSIC_ASSIGN_OR_RETURN(token_, ReadOrMake(options_.state_folder + "/token", RandomHex(32)));
  NSIC_ASSIGN_OR_RETURN(root_id_, ReadOrMake(options_.state_folder + "/root-id", RandomHex(16)));
  for (const char* log : {"/coordinator.log", "/worker.log"}) NSIC_RETURN_IF_ERROR(RotateLog(options_.state_folder + log));
  const std::string address_file = options_.state_folder + "/address";
  if (::unlink(address_file.c_str()) != 0 && errno != ENOENT) return ErrnoError(errno, "cannot remove " + address_file);
  return OkStatus();
}

Status LocalFarm::WaitUntilServing(const CancelToken& cancel) {
  const int64_t started = clock_->MonotonicUs();
  while (true) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      NSIC_RETURN_IF_ERROR(health_);
      if (!serving_at_.empty()) {
        address_ = serving_at_;
        return OkStatus();
      }
    }
    if (clock_->MonotonicUs() - started > kStartLimitUs) {
      return UnavailableError("the local coordinator did not come up; its log " + options_.state_folder +
                              "/coordinator.log ends with: " + LastLines(options_.state_folder + "/coordinator.log", kLogLines));
    }
    if (cancel.WaitFor(std::chrono::milliseconds(20))) return cancel.Check();
  }
}

void LocalFarm::StartWorker() {
  std::lock_guard<std::mutex> lock(mutex_);
  worker_wanted_ = true;
  changed_.notify_all();
}

Status LocalFarm::health() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return health_;
}

Status LocalFarm::KeepRunning(Program* program) {
  const int64_t now = clock_->MonotonicUs();
  if (program->child) {
    const std::optional<std::string>& end = program->child->Poll();
    if (!end) return OkStatus();
    auto& ends = program->ends_us;
    ends.push_back(now);
    while (ends.front() < now - kEndsWindowUs) ends.pop_front();
    if (static_cast<int>(ends.size()) >= kMaxEnds) {
      return UnavailableError(program->name + " " + *end + ", the " + std::to_string(ends.size()) + "th end within a minute; its log " +
                              program->log_path + " ends with: " + LastLines(program->log_path, kLogLines));
    }
    program->start_at_us = ends.size() == 1 ? now : now + (kRestartDelayUs << (ends.size() - 2));
    program->child.reset();
  }
  if (now < program->start_at_us) return OkStatus();
  // What the worker would otherwise start anew for, with all its libraries: half a second (its main).
  NSIC_ASSIGN_OR_RETURN(ChildProcess child,
                        ChildProcess::Start(program->argv, program->log_path, {"OMP_WAIT_POLICY=passive", "GOMP_SPINCOUNT=20000"}));
  program->child.emplace(std::move(child));
  return OkStatus();
}

void LocalFarm::Supervise() {
  const std::string& state = options_.state_folder;
  const std::string address_file = state + "/address";
  const auto coordinator_argv = [&](const std::string& listen) {
    return std::vector<std::string>{options_.programs + "/nsic-coordinator",
                                    "serve",
                                    "--config",
                                    "/dev/null",
                                    "--listen",
                                    listen,
                                    "--state",
                                    state + "/coordinator",
                                    "--quota",
                                    kQuota,
                                    "--token-file",
                                    state + "/token",
                                    "--address-file",
                                    address_file};
  };
  Program coordinator;
  coordinator.name = "the local coordinator";
  coordinator.argv = coordinator_argv("127.0.0.1:0");
  coordinator.log_path = state + "/coordinator.log";
  Program worker;
  worker.name = "the local worker";
  worker.log_path = state + "/worker.log";

  std::string address;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_) {
    const bool run_worker = worker_wanted_ && !address.empty();
    lock.unlock();
    Status status = KeepRunning(&coordinator);
    if (status.ok() && address.empty()) {
      Result<LocalFarmPlace> place = FindRunning(state);
      if (place.ok()) {
        address = place->address;
        coordinator.argv = coordinator_argv(address);  // the same port again, where everybody looks for it
        worker.argv = {options_.programs + "/nsic-worker",
                       "run",
                       "--config",
                       "/dev/null",
                       "--coordinator",
                       address,
                       "--token-file",
                       state + "/token",
                       "--cache",
                       state + "/worker-cache",
                       "--media-root",
                       root_id_ + "=/"};
      } else if (place.status().code() != StatusCode::kNotFound) {
        status = place.status();
      }
    }
    if (status.ok() && run_worker) status = KeepRunning(&worker);
    lock.lock();
    serving_at_ = address;
    if (!status.ok()) {
      health_ = status;
      break;
    }
    changed_.wait_for(lock, kSuperviseEvery, [this] { return stop_; });
  }
  lock.unlock();
  // The worker first: it gives back what it holds.
  if (worker.child) worker.child->Stop(kWorkerPatience);
  if (coordinator.child) coordinator.child->Stop(kCoordinatorPatience);
  ::unlink(address_file.c_str());
}

LocalFarm::~LocalFarm() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }
  if (supervisor_.joinable()) supervisor_.join();
}

std::string LastLines(const std::string& path, int lines) {
  const Result<std::string> text = ReadFile(path);
  if (!text.ok()) return "(" + text.status().message() + ")";
  std::deque<std::string> last;
  std::istringstream stream(*text);
  for (std::string line; std::getline(stream, line);) {
    last.push_back(line);
    if (static_cast<int>(last.size()) > lines) last.pop_front();
  }
  std::string tail;
  for (const std::string& line : last) tail += (tail.empty() ? "" : " | ") + line;
  return tail.empty() ? "(nothing)" : tail;
}

}  // namespace nsic
