#include "client/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "core/base/files.h"
#include "core/base/program.h"

namespace nsic {
namespace {

constexpr auto kPollEvery = std::chrono::milliseconds(20);

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

Result<ChildProcess> ChildProcess::Start(const std::vector<std::string>& argv, const std::string& log_path,
                                         const std::vector<std::string>& variables) {
  const UniqueFd log(::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log.valid()) return ErrnoError(errno, "cannot open " + log_path);
  const UniqueFd nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!nothing.valid()) return ErrnoError(errno, "cannot open /dev/null");
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "cannot make a pipe");
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);

  // Everything that allocates happens before the fork: the child of a process with threads may only make system calls.
  std::vector<std::string> arguments = argv;
  std::vector<std::string> environment = EnvironmentWithoutSettings();
  for (const std::string& variable : variables) {
    const std::string name = variable.substr(0, variable.find('=') + 1);
    const bool set = std::any_of(environment.begin(), environment.end(), [&](const std::string& one) { return one.rfind(name, 0) == 0; });
    if (!set) environment.push_back(variable);
  }
  const std::vector<char*> argument_pointers = Pointers(arguments);
  const std::vector<char*> environment_pointers = Pointers(environment);
  const pid_t parent = ::getpid();

  const pid_t pid = ::fork();
  if (pid < 0) return ErrnoError(errno, "cannot start " + argv[0]);
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);  // it died before the line above took effect
    ::setpgid(0, 0);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::signal(SIGPIPE, SIG_DFL);
    ::dup2(nothing.get(), STDIN_FILENO);
    ::dup2(log.get(), STDOUT_FILENO);
    ::dup2(log.get(), STDERR_FILENO);
    ::execve(argument_pointers[0], argument_pointers.data(), environment_pointers.data());
    const int error = errno;
    // Told through the pipe, which a successful exec closes. If even that fails the parent sees an early end.
    if (::write(write_end.get(), &error, sizeof error) < 0) ::_exit(126);
    ::_exit(127);
  }
  write_end.reset();
  int error = 0;
  const Result<size_t> got = ReadSome(read_end.get(), &error, sizeof error, "the pipe to " + argv[0]);
  if (got.ok() && *got == sizeof error) {
    ::waitpid(pid, nullptr, 0);
    return ErrnoError(error, "cannot start " + argv[0]);
  }
  return ChildProcess(pid);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept : pid_(std::exchange(other.pid_, -1)), end_(std::move(other.end_)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this != &other) {
    if (pid_ >= 0) Stop(std::chrono::milliseconds(0));
    pid_ = std::exchange(other.pid_, -1);
    end_ = std::move(other.end_);
  }
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ >= 0) Stop(std::chrono::milliseconds(0));
}

const std::optional<std::string>& ChildProcess::Poll() {
  if (end_) return end_;
  int status = 0;
  const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
  if (ended == pid_) {
    end_ = WIFSIGNALED(status) ? "was killed by signal " + std::to_string(WTERMSIG(status))
                               : "ended with exit code " + std::to_string(WEXITSTATUS(status));
  } else if (ended < 0 && errno != EINTR) {
    end_ = std::string("is lost: ") + std::strerror(errno);
  }
  return end_;
}

void ChildProcess::Stop(std::chrono::milliseconds patience) {
  if (Poll()) return;
  ::kill(pid_, SIGTERM);
  for (auto waited = std::chrono::milliseconds(0); waited < patience && !Poll(); waited += kPollEvery)
    std::this_thread::sleep_for(kPollEvery);
  if (!Poll()) ::kill(pid_, SIGKILL);
  while (!Poll()) std::this_thread::sleep_for(kPollEvery);
}

}  // namespace nsic
