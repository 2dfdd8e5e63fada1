// Where the time of a segment goes: each stage alone on one thread, then all of them overlapped as the worker runs them.
//   video_bench FILE [PACK] [STATIC_THRESHOLD]
// FILE: a video, restored whole as one segment. PACK: a model pack's folder; without one, or with "-", an identity. The encoder is the one
// that the file's pixel format calls for (8 bits: x264, medium, CRF 18, 2 threads).
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/digest.h"
#include "core/infer/engine.h"
#include "core/media/byte_source.h"
#include "core/media/index_video.h"
#include "core/media/plan_encode.h"
#include "core/media/video_memory.h"
#include "models/io/model_pack.h"
#include "tests/bench/bench_tools.h"
#include "tests/unit/random_packs.h"
#include "worker/restore_frames.h"
#include "worker/stopwatch.h"

namespace nsic {
namespace {

int64_t PeakMebibytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss >> 10;
}

struct Video {
  VideoInfo info;
  EncodePlan plan;
  Segment segment;
};

Video Examine(const std::string& path, int scale) {
  Video video;
  const VideoProbe probe = Need(ProbeVideo(path));
  video.info = probe.info;
  video.plan = Need(PlanEncode(probe, EncodeOptions(), scale));
  const VideoIndex index = Need(IndexVideo(path, probe.info, false, CancelToken(), [](double) {}));
  video.segment.pts = index.pts;
  video.segment.starts.push_back({index.pts.front(), index.key_frames.front().position});
  return video;
}

std::unique_ptr<VideoReader> Open(const std::string& path, const Video& video) {
  ReadVideoOptions options;
  options.threads = 2;
  std::unique_ptr<VideoReader> reader = Need(VideoReader::Open(Need(OpenFileSource(path)), video.info, options));
  Need(reader->Seek(video.segment, CancelToken()));
  return reader;
}

int Run(const std::string& path, const std::string& pack_folder, int static_threshold) {
  const SystemClock clock;
  const CancelToken never;
  SetEngineThreads(0);
  const ModelPack pack = pack_folder.empty() || pack_folder == "-" ? IdentityPack(HaloTiles(256, 0, 1)) : Need(ReadModelPack(pack_folder));
  EngineOptions engine;
  engine.device = "cpu";
  const std::unique_ptr<Enhancer> enhancer = Need(LoadEnhancer(pack, engine));
  const int scale = pack.card.scale;
  const float threshold = static_cast<float>(static_threshold) / 255;
  const Video video = Examine(path, scale);
  FrameOptions options;
  options.network_scale = scale;
  const Size size = video.info.size;
  std::printf("%dx%d, %zu frames, to %s %s, model %s\n", size.width, size.height, video.segment.pts.size(), video.plan.encoder.c_str(),
              video.plan.pixel_format.c_str(), pack.card.name.c_str());
  const std::string out = (std::filesystem::temp_directory_path() / ("video_bench_" + RandomHex(6))).string();

  {
    // A stage alone, so many frames that it takes a while.
    const std::unique_ptr<VideoReader> reader = Open(path, video);
    const std::unique_ptr<FrameConverter> converter = Need(FrameConverter::Make(video.info, video.plan, options));
    const std::unique_ptr<FrameEnhancer> frames = enhancer->ForFrames(size, threshold);
    std::unique_ptr<SegmentWriter> writer = Need(SegmentWriter::Open(out, video.info, video.plan));
    const int64_t area = 3 * size.area();
    std::vector<float> before[2], after[2];
    for (int i = 0; i < 2; ++i) {
      before[i].resize(static_cast<size_t>(area));
      after[i].resize(static_cast<size_t>(area * scale * scale));
    }
    const char* const kStages[] = {"decode", "compare", "to rgb", "enhance", "finish", "encode"};
    double wall[6] = {}, cpu[6] = {};
    int count = 0;
    VideoFrame last;
    double cpu_mark = 0;
    Stopwatch watch(&clock);
    const auto start = [&] {
      cpu_mark = CpuSeconds();
      watch = Stopwatch(&clock);
    };
    const auto stop = [&](int stage) {
      wall[stage] += watch.seconds();
      cpu[stage] += CpuSeconds() - cpu_mark;
    };
    while (count < 100) {
      start();
      std::optional<VideoFrame> frame = Need(reader->Next(never));
      stop(0);
      if (!frame.has_value()) break;
      const size_t turn = static_cast<size_t>(count++ % 2);
      start();
      (void)frame->SamePixels(last);
      stop(1);
      last = *frame;
      start();
      Need(converter->ToRgb(*frame, before[turn].data()));
      stop(2);
      start();
      (void)Need(frames->Enhance(before[turn].data(), after[turn].data(), never));
      stop(3);
      start();
      const VideoFrame finished = Need(converter->Finish(*frame, before[turn].data(), after[turn].data()));
      stop(4);
      start();
      Need(writer->Write(finished));
      stop(5);
    }
    start();
    Need(writer->Finish());
    stop(5);
    for (int stage = 0; stage < 6; ++stage) {
      std::printf("%-8s %7.2f ms a frame, %7.2f ms of CPU\n", kStages[stage], 1e3 * wall[stage] / count, 1e3 * cpu[stage] / count);
    }
  }
  {
    FrameStages stages;
    stages.reader = Open(path, video);
    stages.to_rgb = Need(FrameConverter::Make(video.info, video.plan, options));
    stages.finisher = Need(FrameConverter::Make(video.info, video.plan, options));
    stages.enhancer = enhancer->ForFrames(size, threshold);
    stages.writer = Need(SegmentWriter::Open(out, video.info, video.plan));
    const double cpu = CpuSeconds();
    const Stopwatch watch(&clock);
    FramePipeline pipeline(std::move(stages), size, scale, FrameBuffers(), &clock, never);
    for (auto step : {&FramePipeline::Compute, &FramePipeline::Finish}) {
      const std::optional<FramePipeline::Failure> failure = (pipeline.*step)();
      if (failure.has_value()) Need(failure->status);
    }
    const double seconds = watch.seconds();
    const RestoreStats& stats = pipeline.stats();
    std::printf("together %7.2f ms a frame, %7.2f ms of CPU: %.2f frames a second\n", 1e3 * seconds / stats.frames,
                1e3 * (CpuSeconds() - cpu) / stats.frames, stats.frames / seconds);
    std::printf("         busy: decode %.2f, compute %.2f, encode %.2f s of %.2f s; %d frames and %lld of %lld tiles repeated\n",
                stats.decode_seconds, stats.compute_seconds, stats.encode_seconds, seconds, stats.frames_repeated,
                static_cast<long long>(stats.tiles.tiles_repeated), static_cast<long long>(stats.tiles.tiles_repeated + stats.tiles.tiles));
    std::printf("         peak memory %lld MiB; estimated decoder %lld, encoder %lld, frames %lld MiB\n",
                static_cast<long long>(PeakMebibytes()), static_cast<long long>(DecoderBytes(video.info, 2) >> 20),
                static_cast<long long>(EncoderBytes(video.plan) >> 20), static_cast<long long>(FrameBuffers().bytes(size, scale) >> 20));
  }
  std::filesystem::remove(out);
  return 0;
}

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) {
  if (argc < 2 || argc > 4) {
    std::fprintf(stderr, "usage: video_bench FILE [PACK] [STATIC_THRESHOLD]\n");
    return 2;
  }
  return nsic::Run(argv[1], argc > 2 ? argv[2] : "", argc > 3 ? std::atoi(argv[3]) : 0);
}
