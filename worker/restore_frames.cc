#include "worker/restore_frames.h"

#include <new>
#include <utility>

#include "worker/stopwatch.h"

namespace nsic {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

int64_t FloatsOf(Size frame) { return 3 * frame.area(); }

}  // namespace

int64_t FrameBuffers::bytes(Size frame, int scale) const {
  return FloatsOf(frame) * kFloatBytes * (before + int64_t{after} * scale * scale);
}

FramePipeline::Pool::Pool(int count, int64_t floats) : floats_(floats), free_(static_cast<size_t>(count)) {
  for (int i = 0; i < count; ++i) free_.Push(nullptr);
}

FramePipeline::Planes FramePipeline::Pool::Take() {
  std::optional<std::unique_ptr<float[]>> buffer = free_.Pop();
  if (!buffer.has_value()) return nullptr;
  if (*buffer == nullptr) buffer->reset(new float[static_cast<size_t>(floats_)]);
  return Planes(buffer->release(), [this](float* floats) { free_.Push(std::unique_ptr<float[]>(floats)); });
}

FramePipeline::FramePipeline(FrameStages stages, Size frame, int scale, FrameBuffers buffers, const Clock* clock, const CancelToken& cancel)
    : stages_(std::move(stages)),
      clock_(clock),
      before_(buffers.before, FloatsOf(frame)),
      after_(buffers.after, FloatsOf(frame) * scale * scale) {
  on_cancel_.emplace(cancel, [this] { Stop(); });
}

FramePipeline::~FramePipeline() {
  on_cancel_.reset();
  Stop();
  if (decoder_.joinable()) decoder_.join();
  if (encoder_.joinable()) encoder_.join();
}

void FramePipeline::Stop() {
  stop_.Cancel();
  before_.Close();
  after_.Close();
  decoded_.Close();
  enhanced_.Close();
}

void FramePipeline::Fail(Stage stage, const Status& status) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    // What a stage says once another has failed, or all were cancelled, is an echo.
    if (!stop_.cancelled() && !failure_.has_value()) failure_ = Failure{stage, status};
  }
  Stop();
}

std::optional<FramePipeline::Failure> FramePipeline::failure() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!failure_.has_value() && stop_.cancelled()) return Failure{Stage::kCompute, CancelledError("cancelled")};
  return failure_;
}

std::optional<FramePipeline::Failure> FramePipeline::Compute() {
  const auto run = [this](Stage stage, Status (FramePipeline::*work)()) {
    try {
      const Status status = (this->*work)();
      if (!status.ok()) Fail(stage, status);
    } catch (const std::bad_alloc&) {
      Fail(stage, ResourceExhaustedError("out of memory on this worker; start it with a smaller --max-memory"));
    }
  };
  decoder_ = std::thread([run] { run(Stage::kDecode, &FramePipeline::DecodeAll); });
  encoder_ = std::thread([run] { run(Stage::kEncode, &FramePipeline::EncodeAll); });
  run(Stage::kCompute, &FramePipeline::EnhanceAll);
  decoder_.join();
  stages_.reader.reset();
  stages_.to_rgb.reset();
  stages_.enhancer.reset();
  return failure();
}

Status FramePipeline::DecodeAll() {
  VideoFrame last;
  for (int at = 0; !stop_.cancelled(); ++at) {
    Stopwatch watch(clock_);
    NSIC_ASSIGN_OR_RETURN(std::optional<VideoFrame> frame, stages_.reader->Next(stop_));
    if (!frame.has_value()) break;
    Item item;
    // A frame that is scored must come along; the enhancer sees that it repeats.
    const bool scored = stages_.judge != nullptr && stages_.judge->Wants(at);
    const bool repeated = !scored && frame->SamePixels(last);
    last = *std::move(frame);
    stats_.decode_seconds += watch.seconds();
    if (repeated) {
      ++stats_.frames_repeated;
    } else {
      item.source = last;
    }
    if (!repeated && stages_.to_rgb != nullptr) {
      item.before = before_.Take();
      if (item.before == nullptr) break;
      watch = Stopwatch(clock_);
      NSIC_RETURN_IF_ERROR(stages_.to_rgb->ToRgb(item.source, item.before.get()));
      stats_.decode_seconds += watch.seconds();
    }
    if (!decoded_.Push(std::move(item))) break;
  }
  concealed_ = stages_.reader->concealed();
  decoded_.Close();
  return OkStatus();
}

Status FramePipeline::EnhanceAll() {
  Item previous;  // what the enhancer compares the next frame with, and repeats from
  while (std::optional<Item> item = decoded_.Pop()) {
    if (stop_.cancelled()) break;
    if (item->before != nullptr) {
      item->after = after_.Take();
      if (item->after == nullptr) break;
      const Stopwatch watch(clock_);
      NSIC_ASSIGN_OR_RETURN(const EnhanceStats stats, stages_.enhancer->Enhance(item->before.get(), item->after.get(), stop_));
      stats_.compute_seconds += watch.seconds();
      stats_.tiles.tiles += stats.tiles;
      stats_.tiles.tiles_redone += stats.tiles_redone;
      stats_.tiles.tiles_repeated += stats.tiles_repeated;
      stats_.tiles.pixels += stats.pixels;
      previous.before = item->before;
      previous.after = item->after;
    }
    if (!enhanced_.Push(*std::move(item))) break;
  }
  enhanced_.Close();
  return OkStatus();
}

Status FramePipeline::EncodeAll() {
  VideoFrame finished;
  while (std::optional<Item> item = enhanced_.Pop()) {
    if (stop_.cancelled()) return OkStatus();
    const Stopwatch watch(clock_);
    if (item->before == nullptr) {
      if (!item->source.empty()) finished = std::move(item->source);
    } else {
      NSIC_ASSIGN_OR_RETURN(finished, stages_.finisher->Finish(item->source, item->before.get(), item->after.get()));
      if (stages_.judge != nullptr && stages_.judge->Wants(stats_.frames))
        stages_.judge->Judge(stats_.frames, item->before.get(), finished);
      item.reset();  // its buffers go back before the encoder takes its time
    }
    NSIC_RETURN_IF_ERROR(stages_.writer->Write(finished));
    stats_.encode_seconds += watch.seconds();
    ++stats_.frames;
  }
  return OkStatus();
}

std::optional<FramePipeline::Failure> FramePipeline::Finish() {
  encoder_.join();
  if (std::optional<Failure> failed = failure()) return failed;
  const Stopwatch watch(clock_);
  stages_.finisher.reset();
  const Status status = stages_.writer->Finish();
  stages_.writer.reset();
  stats_.encode_seconds += watch.seconds();
  if (!status.ok()) return Failure{Stage::kEncode, status};
  return std::nullopt;
}

}  // namespace nsic
