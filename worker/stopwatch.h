// Seconds since it was made, by an injected clock.
#ifndef NSIC_WORKER_STOPWATCH_H_
#define NSIC_WORKER_STOPWATCH_H_

#include <cstdint>

#include "core/base/clock.h"

namespace nsic {

class Stopwatch {
 public:
  explicit Stopwatch(const Clock* clock) : clock_(clock), start_us_(clock->MonotonicUs()) {}
  double seconds() const { return static_cast<double>(clock_->MonotonicUs() - start_us_) * 1e-6; }

 private:
  const Clock* clock_;
  int64_t start_us_;
};

}  // namespace nsic

#endif  // NSIC_WORKER_STOPWATCH_H_
