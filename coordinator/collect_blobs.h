// Removes blobs that nobody needs: what was given up at once, the old from time to time, fetched outputs when room is needed.
#ifndef NSIC_COORDINATOR_COLLECT_BLOBS_H_
#define NSIC_COORDINATOR_COLLECT_BLOBS_H_

#include <cstdint>

#include "coordinator/farm.h"
#include "core/base/status.h"

namespace nsic {

// Sources whose tasks have ended, outputs and manifests of deleted jobs.
Status CollectGivenUp(const Farm& farm);
// Blobs that were never mentioned, outputs fetched long ago, uploads that nobody went on with, retired models. About hourly.
Status CollectOld(const Farm& farm);
// Fetched outputs, and sources of failed tasks, longest unused first, until `bytes` are free or nothing is left to remove.
Status MakeRoom(const Farm& farm, int64_t bytes);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_COLLECT_BLOBS_H_
