// Time, injected: nothing outside this file asks the system what time it is, so that leases can expire in a test without waiting.
#ifndef NSIC_CORE_BASE_CLOCK_H_
#define NSIC_CORE_BASE_CLOCK_H_

#include <cstdint>
#include <mutex>

namespace nsic {

class Clock {
 public:
  virtual ~Clock() = default;
  // Milliseconds since the Unix epoch. May jump; for stored and displayed times.
  virtual int64_t WallMs() const = 0;
  // Microseconds since an arbitrary point. Never goes back; for durations.
  virtual int64_t MonotonicUs() const = 0;
};

// Thread-safe.
class SystemClock : public Clock {
 public:
  int64_t WallMs() const override;
  int64_t MonotonicUs() const override;
};

// A clock for tests that moves only when told. Thread-safe.
class ManualClock : public Clock {
 public:
  explicit ManualClock(int64_t wall_ms = 1'700'000'000'000) : wall_ms_(wall_ms) {}
  int64_t WallMs() const override;
  int64_t MonotonicUs() const override;
  void AdvanceMs(int64_t ms);

 private:
  mutable std::mutex mutex_;
  int64_t wall_ms_;
  int64_t monotonic_us_ = 0;
};

}  // namespace nsic

#endif  // NSIC_CORE_BASE_CLOCK_H_
