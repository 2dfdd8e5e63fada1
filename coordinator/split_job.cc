#include "coordinator/split_job.h"

#include <algorithm>
#include <utility>

#include "coordinator/check_manifest.h"
#include "core/base/digest.h"

namespace nsic {
namespace {

// The options without what decides no byte of an output: names, places, and how much is scored.
v1::RestoreOptions WhatIsDone(const v1::RestoreOptions& options) {
  v1::RestoreOptions what = options;
  what.clear_model_name();
  what.clear_score_every();
  what.clear_scorer();       // of an assessment it is the job's model
  what.clear_recommender();  // likewise with auto_model
  what.clear_candidates();
  if (options.assess() && options.has_recommender()) what.mutable_recommender()->set_model_id(options.recommender().model_id());
  for (const v1::Candidate& candidate : options.candidates()) {
    if (!options.auto_model()) continue;
    v1::Candidate* const kept = what.add_candidates();
    kept->set_label(candidate.label());
    kept->mutable_pack()->set_model_id(candidate.pack().model_id());
  }
  return what;
}

// What is common to the keys of all whole pictures of a job. Every option that can change a byte of the output is in it.
std::string WholeKeyPrefix(const v1::RestoreOptions& options, const std::string& version) {
  v1::RestoreOptions what = WhatIsDone(options);
  what.clear_split_pixels();
  what.clear_static_threshold();
  what.clear_tolerate();
  return "picture\n" + version + "\n" + what.SerializeAsString() + "\n";
}

// A tile task returns the network's output: strength, size and format come later, on the whole picture.
std::string TileKeyPrefix(const v1::RestoreOptions& options, const std::string& version) {
  v1::RestoreOptions network;
  network.set_model_id(options.model_id());
  *network.mutable_candidates() = WhatIsDone(options).candidates();
  const std::string choice = network.candidates().empty() ? "" : Sha256Hex(network.SerializeAsString()) + "\n";
  return "tile\n" + version + "\n" + options.model_id() + "\n" + choice;
}

// Likewise of the segments of one video. Where the file lies and what the client makes of the segments changes none of their bytes.
std::string FramesKeyPrefix(const char* kind, const v1::SourceFile& file, const v1::VideoInfo& video, const v1::RestoreOptions& options,
                            const std::string& version) {
  v1::RestoreOptions what = WhatIsDone(options);
  what.clear_split_pixels();
  what.clear_format();
  what.clear_jpeg_quality();
  return std::string(kind) + "\n" + version + "\n" + Sha256Hex(what.SerializeAsString()) + "\n" + Sha256Hex(video.SerializeAsString()) +
         "\n" + file.content().sha256() + "\n";
}

std::string SegmentKeyPrefix(const v1::SourceFile& file, const v1::RestoreOptions& options, const std::string& version) {
  v1::VideoInfo video = file.video();
  video.clear_index();
  video.clear_range();
  video.mutable_encode()->clear_container();
  return FramesKeyPrefix("segment", file, video, options, version);
}

// Chunks are lossless: only the size and format of their frames matter.
std::string ChunkKeyPrefix(const v1::SourceFile& file, const v1::RestoreOptions& options, const std::string& version) {
  v1::VideoInfo video = file.video();
  video.clear_index();
  video.clear_range();
  v1::EncodePlan frames;
  frames.set_pixel_format(video.encode().pixel_format());
  frames.set_width(video.encode().width());
  frames.set_height(video.encode().height());
  *video.mutable_encode() = frames;
  return FramesKeyPrefix("chunk", file, video, options, version);
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

// The largest of 1, 2, 3, 4, 6, 8, 12, 16, ... frames that `megapixels_per_second` does in the time of a task; at least 1.
int FramesPerTask(int64_t pixels_per_frame, double megapixels_per_second) {
  const double most = kMostTaskSeconds * megapixels_per_second * 1e6 / static_cast<double>(pixels_per_frame);
  int frames = 1;
  for (int power = 2; power <= kMaxSegmentFrames; power *= 2) {
    for (const int next : {power, power + power / 2}) {
      if (next <= most && next <= kMaxSegmentFrames) frames = next;
    }
  }
  return frames;
}

// Seconds that segments may last, so that usual ones have at most `frames_per_task`.
SegmentTargets TargetsFor(const VideoIndex& index, FrameSpan range, double seconds_per_tick, int frames_per_task) {
  SegmentTargets targets;
  static_assert(SegmentTargets{}.most_frames <= kMaxSegmentFrames, "or workers would refuse them");
  if (range.count == 1) return targets;
  const int64_t ticks = index.pts[static_cast<size_t>(range.end() - 1)] - index.pts[static_cast<size_t>(range.first)];
  const double seconds_per_frame = static_cast<double>(ticks) * seconds_per_tick / (range.count - 1);
  // None below twice the least, or the last two would not fit. Few steps: see SplitJob.
  for (const double seconds : {targets.most_seconds, 6.0, 2 * targets.least_seconds}) {
    targets.most_seconds = seconds;
    if (seconds <= frames_per_task * seconds_per_frame) break;
  }
  return targets;
}

v1::SegmentStep StepMessage(TaskStep step) {
  switch (step) {
    case TaskStep::kWhole: return v1::SEGMENT_STEP_WHOLE;
    case TaskStep::kChunk: return v1::SEGMENT_STEP_RESTORE;
    case TaskStep::kEncode: return v1::SEGMENT_STEP_ENCODE;
  }
  return v1::SEGMENT_STEP_WHOLE;
}

// Plans the tasks of one video.
class VideoSplitter {
 public:
  VideoSplitter(const v1::SourceFile& file, int file_index, const VideoIndex& index, const v1::RestoreOptions& options,
                const std::string& version, std::vector<PlannedTask>* tasks)
      : video_(file.video()),
        file_index_(file_index),
        index_(index),
        key_prefix_(SegmentKeyPrefix(file, options, version)),
        chunk_key_prefix_(ChunkKeyPrefix(file, options, version)),
        threshold_(options.static_threshold()),
        tasks_(tasks) {}

  void Split(double megapixels_per_second) {
    std::vector<int> key_frames;
    key_frames.reserve(index_.key_frames.size());
    for (const VideoIndex::KeyFrame& key : index_.key_frames) key_frames.push_back(key.frame);
    const double seconds_per_tick = static_cast<double>(video_.time_base().num()) / static_cast<double>(video_.time_base().den());
    const FrameSpan range{video_.range().first(), video_.range().count()};
    const int frames_per_task = FramesPerTask(PixelsPerFrame(), megapixels_per_second);
    const SegmentTargets targets = TargetsFor(index_, range, seconds_per_tick, frames_per_task);
    for (const FrameSpan frames : PlanSegments(index_.pts, seconds_per_tick, key_frames, range, targets)) {
      const std::vector<FrameSpan> chunks = ShareFrames(frames, frames_per_task);
      if (chunks.size() == 1) {
        Add(frames, TaskStep::kWhole, key_prefix_);
        continue;
      }
      for (const FrameSpan chunk : chunks) Add(chunk, TaskStep::kChunk, chunk_key_prefix_);
      // The result is the same as without chunks, bit for bit, unless tiles that changed a little repeat the result before: then it matters
      // where a worker began.
      const std::string cut = threshold_ > 0 ? "chunks of " + std::to_string(frames_per_task) + "\n" : "";
      Add(frames, TaskStep::kEncode, key_prefix_ + cut);
    }
  }

 private:
  int64_t PixelsPerFrame() const { return int64_t{video_.width()} * video_.height(); }

  void Add(FrameSpan frames, TaskStep step, const std::string& key_prefix) {
    v1::Segment segment;
    ToMessage(CutSegment(index_, frames), &segment);
    segment.set_step(StepMessage(step));
    PlannedTask task;
    task.file_index = file_index_;
    task.frames = frames;
    task.segment = segment.SerializeAsString();
    task.step = step;
    // An encode task has no work for a model: it counts as next to nothing beside its chunks.
    task.pixels = step == TaskStep::kEncode ? 1 : frames.count * PixelsPerFrame();
    task.result_key = SegmentKey(key_prefix, segment);
    tasks_->push_back(std::move(task));
  }

  const v1::VideoInfo& video_;
  const int file_index_;
  const VideoIndex& index_;
  const std::string key_prefix_;
  const std::string chunk_key_prefix_;
  const int threshold_;
  std::vector<PlannedTask>* const tasks_;
};

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
                                          const std::string& version, double megapixels_per_second, const IndexOfFile& index_of) {
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
      VideoSplitter(file, i, index, options, version, &tasks).Split(megapixels_per_second);
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
