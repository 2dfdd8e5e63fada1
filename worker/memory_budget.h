// Bounds what the worker holds in memory at once: a picture is decoded only when there is room for it.
#ifndef NSIC_WORKER_MEMORY_BUDGET_H_
#define NSIC_WORKER_MEMORY_BUDGET_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "core/base/cancel.h"
#include "core/base/status.h"

namespace nsic {

// Thread-safe. Tasks that have reserved never wait for those that have not, so waiting ends.
class MemoryBudget {
 public:
  explicit MemoryBudget(int64_t bytes) : most_(bytes), capacity_(bytes) {}

  // Gives its bytes back when it is destroyed. Must not outlive the budget.
  class Reservation {
   public:
    Reservation(MemoryBudget* budget, int64_t bytes) : budget_(budget), bytes_(bytes) {}
    ~Reservation() { budget_->Return(bytes_); }
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;
    int64_t bytes() const { return bytes_; }

   private:
    MemoryBudget* const budget_;
    const int64_t bytes_;
  };

  // Waits for room. RESOURCE_EXHAUSTED ("needs X, has Y") when there could never be enough, CANCELLED.
  Result<std::unique_ptr<Reservation>> Reserve(int64_t bytes, const CancelToken& cancel);

  // Memory has ended though the budget had not. Where somebody else held some, besides the caller's `own` bytes, fewer are let in at once
  // from now on, and trying again may help: true.
  bool Halve(int64_t own);

  // What all may hold together. A single one may have what the budget began with.
  int64_t capacity() const;

 private:
  void Return(int64_t bytes);

  const int64_t most_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int64_t capacity_;  // guarded by mutex_
  int64_t used_ = 0;  // guarded by mutex_
};

}  // namespace nsic

#endif  // NSIC_WORKER_MEMORY_BUDGET_H_
