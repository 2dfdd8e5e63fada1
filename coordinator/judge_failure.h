// What becomes of a task that failed: the rules alone, without a database.
#ifndef NSIC_COORDINATOR_JUDGE_FAILURE_H_
#define NSIC_COORDINATOR_JUDGE_FAILURE_H_

#include <cstdint>

namespace nsic {

inline constexpr int kPoisonFailures = 3;  // at least so many failures in all...
inline constexpr int kPoisonWorkers = 3;   // ...on so many distinct workers, or on all there are
inline constexpr int kMaxTransients = 12;  // with their growing delays about half an hour

// After so many failures in a row on a model, a worker is kept from it for a while.
inline constexpr int kBlockFailures = 3;
inline constexpr int64_t kBlockMs = int64_t{10} * 60 * 1000;

// A task's record since the user's last retry.
struct FailureRecord {
  int failures = 0;          // worker faults and expiries
  int failed_workers = 0;    // distinct ones among them
  int eligible_workers = 0;  // that are there now
  int transients = 0;
};

// True: no use in trying again.
bool IsPoison(const FailureRecord& record);

// How long to wait before the next attempt.
int64_t BackoffMs(const FailureRecord& record);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_JUDGE_FAILURE_H_
