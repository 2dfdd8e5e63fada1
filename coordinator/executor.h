// A fixed number of threads for the work behind calls, so that calls in flight hold none.
#ifndef NSIC_COORDINATOR_EXECUTOR_H_
#define NSIC_COORDINATOR_EXECUTOR_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace nsic {

// Thread-safe.
class Executor {
 public:
  explicit Executor(int threads);
  // Runs what is queued, then ends its threads.
  ~Executor();
  void Run(std::function<void()> job);

 private:
  void Loop();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;  // guarded by mutex_
  bool stopping_ = false;                   // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace nsic

#endif  // NSIC_COORDINATOR_EXECUTOR_H_
