// Plans a job's tasks: a picture is a task, a large picture becomes tile tasks on its model's grid. A pure function.
#ifndef NSIC_COORDINATOR_SPLIT_JOB_H_
#define NSIC_COORDINATOR_SPLIT_JOB_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/geometry.h"
#include "core/base/status.h"
#include "core/farm/tile_grid.h"
#include "nsic/v1/jobs.pb.h"

namespace nsic {

inline constexpr int64_t kTileTaskPixels = 4'000'000;
inline constexpr size_t kMaxTasks = 2'000'000;

struct PlannedTask {
  int file_index = 0;
  std::optional<Rect> region;  // none: the whole picture
  int64_t pixels = 0;
  std::string result_key;
};

// In the order of the manifest, so that neighbours are leased together. `manifest` and `options` have been checked. `version` is of the
// software: results of another version are not reused. INVALID_ARGUMENT when there would be too many tasks.
Result<std::vector<PlannedTask>> SplitJob(const v1::JobManifest& manifest, const v1::RestoreOptions& options, const TileSpec& tiling,
                                          const std::string& version);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_SPLIT_JOB_H_
