// Cooperative cancellation, shared by a task's fetch, decode, tile and encode loops.
#ifndef NSIC_CORE_BASE_CANCEL_H_
#define NSIC_CORE_BASE_CANCEL_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <utility>

#include "core/base/status.h"

namespace nsic {

// Set once, never reset. Thread-safe.
class CancelToken {
 public:
  void Cancel() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (cancelled_.exchange(true, std::memory_order_acq_rel)) return;
      for (const auto& [callback, run] : callbacks_) run();
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

  friend class CancelCallback;
  mutable std::map<const void*, std::function<void()>> callbacks_;
};

// While it lives, `run` is called once when `token` is cancelled: at once if it is already, else by the thread that cancels. For what
// blocks outside our code (a call on the wire). After the destructor `run` is not running and will not. `run` must be quick and must
// not touch the token.
class CancelCallback {
 public:
  CancelCallback(const CancelToken& token, std::function<void()> run) : token_(token) {
    std::lock_guard<std::mutex> lock(token_.mutex_);
    if (token_.cancelled()) {
      run();
    } else {
      token_.callbacks_.emplace(this, std::move(run));
    }
  }
  ~CancelCallback() {
    std::lock_guard<std::mutex> lock(token_.mutex_);
    token_.callbacks_.erase(this);
  }
  CancelCallback(const CancelCallback&) = delete;
  CancelCallback& operator=(const CancelCallback&) = delete;

 private:
  const CancelToken& token_;
};

}  // namespace nsic

#endif  // NSIC_CORE_BASE_CANCEL_H_
