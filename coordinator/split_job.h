// Plans a job's tasks: a picture is a task, a large picture becomes tile tasks on its model's grid, a video becomes segments. A pure
// function.
#ifndef NSIC_COORDINATOR_SPLIT_JOB_H_
#define NSIC_COORDINATOR_SPLIT_JOB_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/db/tasks.h"
#include "core/base/geometry.h"
#include "core/base/status.h"
#include "core/farm/plan_segments.h"
#include "core/farm/tile_grid.h"
#include "core/rpc/video_messages.h"
#include "nsic/v1/jobs.pb.h"

namespace nsic {

inline constexpr int64_t kTileTaskPixels = 4'000'000;
inline constexpr size_t kMaxTasks = 2'000'000;
inline constexpr int64_t kMaxJobFrames = 200'000'000;  // of videos, a thousand films: their time stamps are in the plan

struct PlannedTask {
  int file_index = 0;
  std::optional<Rect> region;        // of a tile task
  std::optional<FrameSpan> frames;   // of a segment of a video
  std::string segment;               // likewise: nsic.v1.Segment
  TaskStep step = TaskStep::kWhole;  // an encode task needs the chunk tasks right before it
  int64_t pixels = 0;
  std::string result_key;
};

// Gives the index of a video, by its file's number in the manifest. Called once for each, in order: one index at a time is in memory.
using IndexOfFile = std::function<Result<VideoIndex>(int file_index)>;

// A worker that does `megapixels_per_second` should not sit at one task for longer than this.
inline constexpr double kMostTaskSeconds = 600;

// In the order of the manifest, so that neighbours are leased together. `manifest` and `options` have been checked. `version` is of the
// software: results of another version are not reused. INVALID_ARGUMENT when there would be too many tasks or frames, or a video's range is
// not inside its index; errors of `index_of`.
// Segments are up to ten seconds of video, shorter where these would take too long at `megapixels_per_second`, and where the shortest
// would, too, chunk tasks and an encode task. How much a task takes goes in coarse steps, so that the same video is cut the same way again
// although the speed was measured anew.
Result<std::vector<PlannedTask>> SplitJob(const v1::JobManifest& manifest, const v1::RestoreOptions& options, const TileSpec& tiling,
                                          const std::string& version, double megapixels_per_second, const IndexOfFile& index_of);

// These frames of a video, and where decoding may start for them.
Segment CutSegment(const VideoIndex& index, FrameSpan frames);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_SPLIT_JOB_H_
