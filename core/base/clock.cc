#include "core/base/clock.h"

#include <chrono>

namespace nsic {

int64_t SystemClock::WallMs() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

int64_t SystemClock::MonotonicUs() const {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int64_t ManualClock::WallMs() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return wall_ms_;
}

int64_t ManualClock::MonotonicUs() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return monotonic_us_;
}

void ManualClock::AdvanceMs(int64_t ms) {
  std::lock_guard<std::mutex> lock(mutex_);
  wall_ms_ += ms;
  monotonic_us_ += ms * 1000;
}

}  // namespace nsic
