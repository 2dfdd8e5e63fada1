#include "worker/memory_budget.h"

#include <string>

namespace nsic {
namespace {

std::string Mebibytes(int64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

}  // namespace

Result<std::unique_ptr<MemoryBudget::Reservation>> MemoryBudget::Reserve(int64_t bytes, const CancelToken& cancel) {
  if (bytes > most_) {
    return ResourceExhaustedError("needs " + Mebibytes(bytes) + " of memory for pictures, has " + Mebibytes(most_) +
                                  "; start the worker with a larger --max-memory");
  }
  const CancelCallback wake(cancel, [this] {
    std::lock_guard<std::mutex> lock(mutex_);
    changed_.notify_all();
  });
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return cancel.cancelled() || used_ == 0 || used_ + bytes <= capacity_; });
  NSIC_RETURN_IF_ERROR(cancel.Check());
  used_ += bytes;
  return std::make_unique<Reservation>(this, bytes);
}

bool MemoryBudget::Halve(int64_t own) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (used_ <= own) return false;
  capacity_ /= 2;
  return true;
}

int64_t MemoryBudget::capacity() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return capacity_;
}

void MemoryBudget::Return(int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  used_ -= bytes;
  changed_.notify_all();
}

}  // namespace nsic
