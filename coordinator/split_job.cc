#include "coordinator/split_job.h"

#include <algorithm>
#include <utility>

#include "core/base/digest.h"

namespace nsic {
namespace {

// What is common to the keys of all whole pictures of a job. Every option that can change a byte of the output is in it.
std::string WholeKeyPrefix(const v1::RestoreOptions& options, const std::string& version) {
  v1::RestoreOptions what = options;
  what.clear_model_name();
  what.clear_split_pixels();
  return "picture\n" + version + "\n" + what.SerializeAsString() + "\n";
}

// A tile task returns the network's output: strength, size and format come later, on the whole picture.
std::string TileKeyPrefix(const v1::RestoreOptions& options, const std::string& version) {
  return "tile\n" + version + "\n" + options.model_id() + "\n";
}

std::string RegionText(const Rect& region) {
  return std::to_string(region.x) + "," + std::to_string(region.y) + "," + std::to_string(region.width) + "," +
         std::to_string(region.height) + "\n";
}

}  // namespace

Result<std::vector<PlannedTask>> SplitJob(const v1::JobManifest& manifest, const v1::RestoreOptions& options, const TileSpec& tiling,
                                          const std::string& version) {
  const std::string whole_prefix = WholeKeyPrefix(options, version);
  const std::string tile_prefix = TileKeyPrefix(options, version);
  // Where the user wants pieces smaller than the usual ones, pieces follow.
  const int64_t target = std::min(kTileTaskPixels, options.split_pixels());
  std::vector<PlannedTask> tasks;
  tasks.reserve(static_cast<size_t>(manifest.files_size()));
  for (int i = 0; i < manifest.files_size(); ++i) {
    const v1::SourceFile& file = manifest.files(i);
    const Size size{file.picture().width(), file.picture().height()};
    std::vector<Rect> regions;
    if (size.area() > options.split_pixels()) regions = PlanTileTasks(TileGrid(size, tiling), target);
    if (regions.size() > 1) {
      for (const Rect& region : regions) {
        tasks.push_back({i, region, region.area(), Sha256Hex(tile_prefix + RegionText(region) + file.content().sha256())});
      }
    } else {
      tasks.push_back({i, std::nullopt, size.area(), Sha256Hex(whole_prefix + file.content().sha256())});
    }
    if (tasks.size() > kMaxTasks) {
      return InvalidArgumentError("the job would have more than " + std::to_string(kMaxTasks) +
                                  " tasks; submit fewer files at once or raise the split limit");
    }
  }
  return tasks;
}

}  // namespace nsic
