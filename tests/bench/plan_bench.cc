// Prints what it costs the coordinator to plan a long video: seconds and peak memory from the index blob's bytes to tasks with their
// serialized segments. Run with a number of frames: plan_bench 172800
#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/split_job.h"
#include "core/base/digest.h"
#include "core/rpc/video_messages.h"

namespace nsic {
namespace {

double PeakMegabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

// At 24 frames a second in the time base of MPEG-TS, a key frame every two seconds.
std::string IndexBytes(int frames) {
  v1::VideoIndex message;
  for (int i = 0; i < frames; ++i) message.add_pts_deltas(i == 0 ? 0 : 3750);
  for (int i = 0; i < frames; i += 48) {
    message.add_key_frames(i == 0 ? 0 : 48);
    message.add_key_positions(int64_t{i} * 20'000);
  }
  return message.SerializeAsString();
}

int Run(int frames) {
  const std::string bytes = IndexBytes(frames);
  v1::JobManifest manifest;
  v1::SourceFile& file = *manifest.add_files();
  file.mutable_content()->set_sha256(Sha256Hex("source"));
  VideoInfo info;
  info.size = {1920, 1080};
  info.codec = info.pixel_format = "x";
  info.time_base = {1, 90'000};
  info.frame_rate = {24, 1};
  ToMessage(info, EncodePlan(), file.mutable_video());
  file.mutable_video()->mutable_range()->set_count(frames);
  v1::RestoreOptions options;
  options.set_split_pixels(24'000'000);

  const double before = PeakMegabytes();
  const auto start = std::chrono::steady_clock::now();
  const Result<std::vector<PlannedTask>> plan = SplitJob(manifest, options, TileSpec(), "1", 30, [&](int) -> Result<VideoIndex> {
    v1::VideoIndex message;
    if (!message.ParseFromString(bytes)) return InternalError("cannot parse the index");
    return FromMessage(message);
  });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (!plan.ok()) {
    std::fprintf(stderr, "%s\n", plan.status().ToString().c_str());
    return 1;
  }
  size_t segment_bytes = 0;
  for (const PlannedTask& task : *plan) segment_bytes += task.segment.size();
  std::printf("%d frames, an index of %zu bytes: %zu segments of %zu bytes in %.3f s; peak memory %.1f MB, %.1f MB more than before\n",
              frames, bytes.size(), plan->size(), segment_bytes, seconds.count(), PeakMegabytes(), PeakMegabytes() - before);
  return 0;
}

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) { return nsic::Run(argc > 1 ? std::atoi(argv[1]) : 172'800); }
