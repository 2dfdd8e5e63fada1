// Cooperative cancellation, shared by a task's fetch, decode, tile and encode loops.
#ifndef NSIC_CORE_BASE_CANCEL_H_
#define NSIC_CORE_BASE_CANCEL_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "core/base/status.h"

namespace nsic {

// Set once, never reset. Thread-safe.
class CancelToken {
 public:
  void Cancel() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      cancelled_.store(true, std::memory_order_release);
    }
    changed_.notify_all();
  }
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }

  // CANCELLED once cancelled. Loops call it once a tile.
  Status Check() const { return cancelled() ? CancelledError("cancelled") : OkStatus(); }

  // Sleeps up to `duration`; true if cancelled meanwhile.
  template <typename Rep, typename Period>
  bool WaitFor(std::chrono::duration<Rep, Period> duration) const {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, duration, [this] { return cancelled(); });
  }

 private:
  std::atomic<bool> cancelled_{false};
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
};

}  // namespace nsic

#endif  // NSIC_CORE_BASE_CANCEL_H_
