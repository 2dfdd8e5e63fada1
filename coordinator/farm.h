// What the coordinator's parts share, made once by Coordinator and handed to each.
#ifndef NSIC_COORDINATOR_FARM_H_
#define NSIC_COORDINATOR_FARM_H_

#include <cstdint>
#include <string>

#include "core/base/clock.h"

namespace nsic {

class BenchBoard;
class BlobStore;
class Database;
class Metrics;

struct FarmOptions {
  int64_t lease_ttl_ms = 60'000;
  int64_t renew_every_ms = 15'000;
  std::string version;  // of this program
};

struct Farm {
  Database* database;
  BlobStore* blobs;
  const Clock* clock;
  Metrics* metrics;
  BenchBoard* bench;
  FarmOptions options;

  int64_t now_ms() const { return clock->WallMs(); }
  // Leases run on the steady clock: setting the wall clock expires none.
  int64_t steady_ms() const { return clock->MonotonicUs() / 1000; }
  // A worker that was last seen before this is gone. Workers renew or poll several times in a lease's time.
  int64_t seen_since_ms() const { return now_ms() - options.lease_ttl_ms; }
};

// How long one Lease call may wait: short enough that a waiting worker counts as connected.
inline constexpr int64_t MaxPollMs(const FarmOptions& options) { return options.lease_ttl_ms / 2; }

}  // namespace nsic

#endif  // NSIC_COORDINATOR_FARM_H_
