#include "coordinator/judge_failure.h"

#include <algorithm>

namespace nsic {
namespace {

// first, 2 first, 4 first, ... up to `most`.
int64_t Doubled(int64_t first, int times, int64_t most) { return std::min(most, first << std::clamp(times - 1, 0, 30)); }

}  // namespace

bool IsPoison(const FailureRecord& record) {
  if (record.transients >= kMaxTransients) return true;
  const int workers = std::clamp(record.eligible_workers, 1, kPoisonWorkers);
  return record.failures >= kPoisonFailures && record.failed_workers >= workers;
}

int64_t BackoffMs(const FailureRecord& record) {
  int64_t delay = 0;
  if (record.failures > 0) delay = Doubled(1000, record.failures, 60'000);
  if (record.transients > 0) delay = std::max(delay, Doubled(2000, record.transients, 300'000));
  return delay;
}

}  // namespace nsic
