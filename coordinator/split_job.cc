#include "coordinator/split_job.h"

#include <algorithm>
#include <utility>

#include "coordinator/check_manifest.h"
#include "core/base/digest.h"

namespace nsic {
namespace {

// What is common to the keys of all whole pictures of a job. Every option that can change a byte of the output is in it.
std::string WholeKeyPrefix(const v1::RestoreOptions& options, const std::string& version) {
  v1::RestoreOptions what = options;
  what.clear_model_name();
  what.clear_split_pixels();
  what.clear_static_threshold();
  what.clear_tolerate();
  return "picture\n" + version + "\n" + what.SerializeAsString() + "\n";
}

// A tile task returns the network's output: strength, size and format come later, on the whole picture.
std::string TileKeyPrefix(const v1::RestoreOptions& options, const std::string& version) {
  return "tile\n" + version + "\n" + options.model_id() + "\n";
}

// Likewise of the segments of one video. Where the file lies and what the client makes of the segments changes none of their bytes.
std::string SegmentKeyPrefix(const v1::SourceFile& file, const v1::RestoreOptions& options, const std::string& version) {
  v1::RestoreOptions what = options;
  what.clear_model_name();
  what.clear_split_pixels();
  what.clear_format();
  what.clear_jpeg_quality();
  v1::VideoInfo video = file.video();
  video.clear_index();
  video.clear_range();
  video.mutable_encode()->clear_container();
  return "segment\n" + version + "\n" + Sha256Hex(what.SerializeAsString()) + "\n" + Sha256Hex(video.SerializeAsString()) + "\n" +
         file.content().sha256() + "\n";
}

std::string SegmentKey(const std::string& prefix, const v1::Segment& segment) {
  v1::Segment stamps;
  *stamps.mutable_pts_deltas() = segment.pts_deltas();
  return Sha256Hex(prefix + stamps.SerializeAsString());
}

std::string RegionText(const Rect& region) {
  return std::to_string(region.x) + "," + std::to_string(region.y) + "," + std::to_string(region.width) + "," +
         std::to_string(region.height) + "\n";
}

// Adds the tasks of file `i`, a picture.
void SplitPicture(const v1::SourceFile& file, int i, const std::string& whole_prefix, const std::string& tile_prefix,
                  const v1::RestoreOptions& options, const TileSpec& tiling, std::vector<PlannedTask>* tasks) {
  const Size size{file.picture().width(), file.picture().height()};
  std::vector<Rect> regions;
  if (size.area() > options.split_pixels()) {
    // Where the user wants pieces smaller than the usual ones, pieces follow.
    regions = PlanTileTasks(TileGrid(size, tiling), std::min(kTileTaskPixels, options.split_pixels()));
  }
  if (regions.size() <= 1) regions = {Rect{}};
  for (const Rect& region : regions) {
    PlannedTask task;
    task.file_index = i;
    task.pixels = size.area();
    if (region.empty()) {
      task.result_key = Sha256Hex(whole_prefix + file.content().sha256());
    } else {
      task.region = region;
      task.pixels = region.area();
      task.result_key = Sha256Hex(tile_prefix + RegionText(region) + file.content().sha256());
    }
    tasks->push_back(std::move(task));
  }
}

// Adds the tasks of file `i`, a video.
void SplitVideo(const v1::SourceFile& file, int i, const VideoIndex& index, const std::string& prefix, std::vector<PlannedTask>* tasks) {
  const v1::VideoInfo& video = file.video();
  std::vector<int> key_frames;
  key_frames.reserve(index.key_frames.size());
  for (const VideoIndex::KeyFrame& key : index.key_frames) key_frames.push_back(key.frame);
  const double seconds_per_tick = static_cast<double>(video.time_base().num()) / static_cast<double>(video.time_base().den());
  const FrameSpan range{video.range().first(), video.range().count()};
  static_assert(SegmentTargets{}.most_frames <= kMaxSegmentFrames, "or workers would refuse them");
  for (const FrameSpan frames : PlanSegments(index.pts, seconds_per_tick, key_frames, range, SegmentTargets{})) {
    v1::Segment segment;
    ToMessage(CutSegment(index, frames), &segment);
    PlannedTask task;
    task.file_index = i;
    task.frames = frames;
    task.segment = segment.SerializeAsString();
    task.pixels = int64_t{frames.count} * video.width() * video.height();
    task.result_key = SegmentKey(prefix, segment);
    tasks->push_back(std::move(task));
  }
}

}  // namespace

Segment CutSegment(const VideoIndex& index, FrameSpan frames) {
  Segment segment;
  segment.first = frames.first;
  segment.pts.assign(index.pts.begin() + frames.first, index.pts.begin() + frames.end());
  auto key = std::upper_bound(index.key_frames.begin(), index.key_frames.end(), frames.first,
                              [](int frame, const VideoIndex::KeyFrame& other) { return frame < other.frame; });
  const auto add = [&](const VideoIndex::KeyFrame& start) {
    segment.starts.push_back({index.pts[static_cast<size_t>(start.frame)], start.position});
  };
  while (key != index.key_frames.begin() && segment.starts.size() + 1 < static_cast<size_t>(kMaxStartPoints)) add(*--key);
  if (key != index.key_frames.begin()) add(index.key_frames.front());
  return segment;
}

Result<std::vector<PlannedTask>> SplitJob(const v1::JobManifest& manifest, const v1::RestoreOptions& options, const TileSpec& tiling,
                                          const std::string& version, const IndexOfFile& index_of) {
  const std::string whole_prefix = WholeKeyPrefix(options, version);
  const std::string tile_prefix = TileKeyPrefix(options, version);
  std::vector<PlannedTask> tasks;
  tasks.reserve(static_cast<size_t>(manifest.files_size()));
  int64_t frames = 0;
  for (int i = 0; i < manifest.files_size(); ++i) {
    const v1::SourceFile& file = manifest.files(i);
    if (file.has_video()) {
      const v1::FrameRange& range = file.video().range();
      frames += range.count();
      if (frames > kMaxJobFrames) {
        return InvalidArgumentError("the job's videos have more than " + std::to_string(kMaxJobFrames) + " frames; submit fewer at once");
      }
      NSIC_ASSIGN_OR_RETURN(const VideoIndex index, index_of(i));
      if (static_cast<int64_t>(index.pts.size()) - range.first() < range.count()) {
        return InvalidArgumentError(NameOfFile(manifest, i) + "is to be restored up to frame " +
                                    std::to_string(range.first() + range.count()) + " but has " + std::to_string(index.pts.size()));
      }
      SplitVideo(file, i, index, SegmentKeyPrefix(file, options, version), &tasks);
    } else {
      SplitPicture(file, i, whole_prefix, tile_prefix, options, tiling, &tasks);
    }
    if (tasks.size() > kMaxTasks) {
      return InvalidArgumentError("the job would have more than " + std::to_string(kMaxTasks) +
                                  " tasks; submit fewer files at once or raise the split limit");
    }
  }
  return tasks;
}

}  // namespace nsic
