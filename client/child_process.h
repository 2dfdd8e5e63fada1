// A program started as a child that cannot outlive its parent.
#ifndef NSIC_CLIENT_CHILD_PROCESS_H_
#define NSIC_CLIENT_CHILD_PROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "core/base/status.h"

namespace nsic {

// One thread starts and waits for it, and must live as long as the child: when that thread ends, for whatever reason, the kernel kills
// the child.
class ChildProcess {
 public:
  // argv[0] is the program's path. Standard output and error are appended to `log_path`, standard input is empty. It gets a process group
  // of its own, so that a terminal's Ctrl-C does not reach it, and the environment without settings of NSIC; what of `variables`
  // ("NAME=VALUE") is not set there is added.
  static Result<ChildProcess> Start(const std::vector<std::string>& argv, const std::string& log_path,
                                    const std::vector<std::string>& variables = {});

  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();  // kills it

  pid_t pid() const { return pid_; }
  // "ended with exit code 1", "was killed by signal 9" once it has ended; empty while it runs.
  const std::optional<std::string>& Poll();
  // SIGTERM, and SIGKILL for one that is still there after `patience`. Returns when it has ended.
  void Stop(std::chrono::milliseconds patience);

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}

  pid_t pid_ = -1;  // -1: moved away
  std::optional<std::string> end_;
};

}  // namespace nsic

#endif  // NSIC_CLIENT_CHILD_PROCESS_H_
