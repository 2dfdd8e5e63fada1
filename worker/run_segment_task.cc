#include "worker/run_segment_task.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "core/media/convert_frame.h"
#include "core/media/read_chunks.h"
#include "core/media/read_video.h"
#include "core/media/video_memory.h"
#include "core/media/write_segment.h"
#include "core/rpc/video_messages.h"

namespace nsic {
namespace {

// Of the decoder: it runs beside the engine and an encoder with threads of its own, and has the least to do.
constexpr int kDecoderThreads = 2;

// The least that a pipeline works with.
constexpr FrameBuffers kTightBuffers{2, 2};

FrameOptions ToFrameOptions(const v1::RestoreOptions& options, int network_scale) {
  FrameOptions frame;
  frame.strength = options.strength();
  frame.sharpen = options.sharpen();
  frame.network_scale = network_scale;
  return frame;
}

// What a FrameConverter works with, at most: frames of floats in the plan's size and, where strength blends them, in the network's.
int64_t ConverterBytes(const VideoInfo& info, const EncodePlan& plan, const FrameOptions& options) {
  const Size network{info.size.width * options.network_scale, info.size.height * options.network_scale};
  const int64_t in_plan = 1 + (plan.size != network ? 1 : 0) + (options.sharpen > 0 ? 1 : 0);
  const int64_t in_network = options.strength < 1 ? 2 : 0;
  return 3 * int64_t{sizeof(float)} * (plan.size.area() * in_plan + network.area() * in_network);
}

// Samples of 8 bits that differ by `levels`, as floats; a little more, since they have been through a conversion.
float ThresholdOf(int levels) { return levels <= 0 ? 0.0f : (static_cast<float>(levels) + 0.01f) / 255.0f; }

// What decoders and the index find wrong is wrong everywhere.
v1::FailureClass ClassOfVideoError(const Status& status) {
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kUnimplemented:
    case StatusCode::kDataLoss: return v1::FAILURE_CLASS_BAD_INPUT;
    default: return v1::FAILURE_CLASS_WORKER_FAULT;
  }
}

// In the place of an enhancer where nothing is to repair.
class CopyFrames : public FrameEnhancer {
 public:
  explicit CopyFrames(Size frame) : floats_(3 * frame.area()) {}
  Result<EnhanceStats> Enhance(const float* before, float* after, const CancelToken& /*cancel*/) override {
    std::copy(before, before + floats_, after);
    return EnhanceStats();
  }
  int64_t memory_bytes() const override { return 0; }

 private:
  const int64_t floats_;
};

}  // namespace

// Thread-safe.
class SegmentTask::FirstError {
 public:
  void Note(const Status& status) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (status_.ok()) status_ = status;
  }
  Status status() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return status_;
  }

 private:
  mutable std::mutex mutex_;
  Status status_;
};

// Tells a source that cannot be read from one that holds rubbish, which look alike behind a demuxer.
class SegmentTask::WatchedSource : public ByteSource {
 public:
  WatchedSource(std::unique_ptr<ByteSource> source, std::shared_ptr<FirstError> error)
      : source_(std::move(source)), error_(std::move(error)) {}
  int64_t size() const override { return source_->size(); }
  const std::string& display() const override { return source_->display(); }
  Result<size_t> Read(int64_t offset, char* buffer, size_t bytes) override {
    Result<size_t> got = source_->Read(offset, buffer, bytes);
    if (!got.ok()) error_->Note(got.status());
    return got;
  }

 private:
  const std::unique_ptr<ByteSource> source_;
  const std::shared_ptr<FirstError> error_;
};

SegmentTask::SegmentTask(v1::LeasedTask lease, const TaskTools* tools)
    : Task(std::move(lease), tools), source_error_(std::make_shared<FirstError>()) {}

SegmentTask::~SegmentTask() = default;

std::string SegmentTask::what() const {
  const v1::FrameRange& frames = lease_.segment().frames();
  return lease_.source().path() + " (frames " + std::to_string(int64_t{frames.first()} + 1) + " to " +
         std::to_string(int64_t{frames.first()} + frames.count()) + ")";
}

void SegmentTask::Drop() {
  pipeline_.reset();
  stages_ = {};
  in_place_.reset();
}

MaybeFailure SegmentTask::DoPrepare() {
  const Stopwatch watch(tools_->clock);
  if (MaybeFailure failure = ReadLease()) return failure;
  if (encodes_only()) return OpenChunks();
  Result<std::unique_ptr<ByteSource>> source = OpenSource();
  if (!source.ok()) {
    const bool in_place = lease_.source().has_in_place();
    return TaskFailure{in_place ? ClassOfInPlaceError(source.status()) : ClassOfDownloadError(source.status()), source.status().message()};
  }
  tools_->metrics->AddStageSeconds("fetch", watch.seconds());
  seconds_.prepare = watch.seconds();
  if (chooses_model()) {
    if (MaybeFailure failure = ChooseModel()) return failure;
  }
  if (MaybeFailure failure = LoadModel()) return failure;
  if (MaybeFailure failure = ReserveMemory()) return failure;
  const Stopwatch opening(tools_->clock);
  if (MaybeFailure failure = OpenVideo(*std::move(source))) return failure;
  tools_->metrics->AddStageSeconds("decode", opening.seconds());
  seconds_.prepare += opening.seconds();
  return std::nullopt;
}

MaybeFailure SegmentTask::ReadLease() {
  const auto bad = [this](const Status& status) {
    return TaskFailure{v1::FAILURE_CLASS_BAD_INPUT, lease_.source().path() + " " + status.message() + "; submit it again"};
  };
  Result<VideoMessage> video = FromMessage(lease_.source().video());
  if (!video.ok()) return bad(video.status());
  Result<Segment> segment = FromMessage(lease_.segment());
  if (!segment.ok()) return bad(segment.status());
  info_ = std::move(video->info);
  plan_ = std::move(video->plan);
  segment_ = *std::move(segment);
  if (lease_.segment().step() == v1::SEGMENT_STEP_RESTORE) {
    plan_.encoder = "ffv1";
    plan_.crf = 0;
    plan_.preset.clear();
  }
  int64_t in_chunks = 0;
  for (const v1::Chunk& chunk : lease_.segment().chunks()) {
    if (chunk.frames().count() < 1) return bad(InvalidArgumentError("has a chunk without frames"));
    in_chunks += chunk.frames().count();
  }
  if (encodes_only() && in_chunks != static_cast<int64_t>(segment_.pts.size())) {
    return bad(InvalidArgumentError("has chunks of " + std::to_string(in_chunks) + " frames for a segment of " +
                                    std::to_string(segment_.pts.size())));
  }
  return std::nullopt;
}

Result<std::unique_ptr<ByteSource>> SegmentTask::OpenSource() {
  const v1::SourceFile& file = lease_.source();
  std::unique_ptr<ByteSource> source;
  if (file.has_in_place()) {
    NSIC_ASSIGN_OR_RETURN(in_place_, tools_->sources->Fetch(file, *cancel_));
    NSIC_ASSIGN_OR_RETURN(source, OpenFileSource(in_place_->path()));
  } else {
    NSIC_ASSIGN_OR_RETURN(source, tools_->ranges->Open(file.content().sha256(), file.content().size(), file.path(), *cancel_));
  }
  return std::unique_ptr<ByteSource>(std::make_unique<WatchedSource>(std::move(source), source_error_));
}

Result<VideoIndex> SegmentTask::FetchIndex() {
  const v1::BlobRef& blob = lease_.source().video().index();
  if (blob.size() < 1 || blob.size() > kMaxIndexBytes) return DataLossError(lease_.source().path() + " has no index of its frames");
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> source, tools_->ranges->Open(blob.sha256(), blob.size(), what(), *cancel_));
  std::string bytes(static_cast<size_t>(blob.size()), '\0');
  for (size_t at = 0; at < bytes.size();) {
    NSIC_ASSIGN_OR_RETURN(const size_t got, source->Read(static_cast<int64_t>(at), bytes.data() + at, bytes.size() - at));
    if (got == 0) return DataLossError("the index of " + lease_.source().path() + " is cut short");
    at += got;
  }
  v1::VideoIndex message;
  if (!message.ParseFromString(bytes)) return DataLossError("the index of " + lease_.source().path() + " cannot be read");
  Result<VideoIndex> index = FromMessage(message);
  if (!index.ok()) return DataLossError("the index of " + lease_.source().path() + " " + index.status().message());
  return index;
}

// The same for all segments of the file: it depends on the file's bytes and index only.
Result<Classes> SegmentTask::Look(Classifier* classifier) {
  NSIC_ASSIGN_OR_RETURN(const VideoIndex index, FetchIndex());
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<MemoryBudget::Reservation> memory,
                        tools_->memory->Reserve(ClassifyVideoBytes(info_), *cancel_));
  NSIC_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> source, OpenSource());
  return ClassifyVideo(classifier, std::move(source), info_, index, *cancel_);
}

MaybeFailure SegmentTask::ChooseModel() {
  const Stopwatch watch(tools_->clock);
  Verdict verdict = Recommend([this](Classifier* classifier) { return Look(classifier); });
  if (verdict.failure.has_value()) return std::move(verdict.failure);
  if (!verdict.look_failed.ok()) return DecodeFailure(verdict.look_failed);
  tools_->metrics->AddStageSeconds("score", watch.seconds());
  seconds_.prepare += watch.seconds();
  return std::nullopt;
}

// Sees to it that frames are scored on their way, where they are to be.
Status SegmentTask::OpenJudge() {
  const std::optional<FramesToScore> frames = ChooseFramesToScore(lease_.options(), lease_.source().video());
  if (!frames) return OkStatus();
  VideoInfo delivered = info_;
  delivered.size = plan_.size;
  delivered.pixel_format = plan_.pixel_format;
  delivered.colour = OutputColour(info_, plan_);
  NSIC_ASSIGN_OR_RETURN(std::unique_ptr<FrameConverter> to_rgb, FrameConverter::Make(delivered, plan_, FrameOptions()));
  stages_.judge = std::make_unique<FrameJudge>(
      *frames, segment_.first, info_.size, plan_.size, std::move(to_rgb),
      [this](Size size, const ReadPixels& read) { return ScoreOf(size, read); }, tools_->clock);
  return OkStatus();
}

MaybeFailure SegmentTask::ReserveMemory() {
  const int scale = network_scale();
  if (enhancer_ == nullptr) {
    stages_.enhancer = std::make_unique<CopyFrames>(info_.size);
  } else {
    stages_.enhancer = enhancer_->ForFrames(info_.size, ThresholdOf(lease_.options().static_threshold()));
  }
  const int64_t codecs = DecoderBytes(info_, kDecoderThreads) + EncoderBytes(plan_) + stages_.enhancer->memory_bytes() +
                         ConverterBytes(info_, plan_, ToFrameOptions(lease_.options(), scale)) +
                         (scores() ? 3 * int64_t{sizeof(float)} * plan_.size.area() : 0);
  buffers_ = FrameBuffers();
  // Two tasks should fit: while one ends, the next one begins.
  if (2 * (codecs + buffers_.bytes(info_.size, scale)) > tools_->memory->capacity()) buffers_ = kTightBuffers;
  return Reserve(codecs + buffers_.bytes(info_.size, scale));
}

MaybeFailure SegmentTask::OpenVideo(std::unique_ptr<ByteSource> source) {
  const FrameOptions options = ToFrameOptions(lease_.options(), network_scale());
  for (std::unique_ptr<FrameConverter>* const converter : {&stages_.to_rgb, &stages_.finisher}) {
    Result<std::unique_ptr<FrameConverter>> made = FrameConverter::Make(info_, plan_, options);
    if (!made.ok()) return TaskFailure{ClassOfVideoError(made.status()), made.status().WithContext(what()).message()};
    *converter = *std::move(made);
  }
  if (scores()) NoteJudgingError(OpenJudge());
  ReadVideoOptions reading;
  reading.tolerate = lease_.options().tolerate();
  reading.threads = kDecoderThreads;
  Result<std::unique_ptr<VideoReader>> reader = VideoReader::Open(std::move(source), info_, reading);
  if (!reader.ok()) return DecodeFailure(reader.status());
  stages_.reader = *std::move(reader);
  const Status found = stages_.reader->Seek(segment_, *cancel_);
  if (!found.ok()) return DecodeFailure(found);
  return std::nullopt;
}

MaybeFailure SegmentTask::OpenChunks() {
  VideoInfo chunk = info_;
  chunk.size = plan_.size;
  chunk.pixel_format = plan_.pixel_format;
  if (MaybeFailure failure = Reserve(DecoderBytes(chunk, kDecoderThreads) + EncoderBytes(plan_))) return failure;
  std::vector<ChunkFile> files;
  for (const v1::Chunk& chunk : lease_.segment().chunks()) {
    const auto open = [this, blob = chunk.output()]() -> Result<std::unique_ptr<ByteSource>> {
      Result<std::unique_ptr<ByteSource>> source = tools_->ranges->Open(blob.sha256(), blob.size(), what(), *cancel_);
      if (!source.ok()) source_error_->Note(source.status());
      NSIC_RETURN_IF_ERROR(source.status());
      return std::unique_ptr<ByteSource>(std::make_unique<WatchedSource>(*std::move(source), source_error_));
    };
    files.push_back({open, chunk.frames().count()});
  }
  stages_.reader = ReadChunks(std::move(files), plan_, kDecoderThreads);
  return std::nullopt;
}

// A file that changes under our hands, or cannot be read, must not give a result, and explains many an error.
MaybeFailure SegmentTask::SourceFailure() const {
  const Status error = source_error_->status();
  if (in_place_ != nullptr) {
    const Status unchanged = in_place_->CheckUnchanged();
    if (!unchanged.ok()) return TaskFailure{v1::FAILURE_CLASS_BAD_INPUT, unchanged.message()};
    if (!error.ok()) return TaskFailure{ClassOfInPlaceError(error), error.message()};
  }
  if (!error.ok()) return TaskFailure{ClassOfDownloadError(error), error.message()};
  return std::nullopt;
}

TaskFailure SegmentTask::DecodeFailure(const Status& status) const {
  if (MaybeFailure failure = SourceFailure()) return *failure;
  // Chunks are what workers have made: the file of the user is not to blame.
  if (encodes_only()) return {v1::FAILURE_CLASS_WORKER_FAULT, status.WithContext(what()).message()};
  return {ClassOfVideoError(status), status.message()};
}

TaskFailure SegmentTask::PipelineFailure(const FramePipeline::Failure& failure) const {
  switch (failure.stage) {
    case FramePipeline::Stage::kDecode: return DecodeFailure(failure.status);
    case FramePipeline::Stage::kCompute: return {v1::FAILURE_CLASS_WORKER_FAULT, failure.status.WithContext(what()).message()};
    case FramePipeline::Stage::kEncode: break;
  }
  return {ClassOfOutputError(failure.status), failure.status.WithContext(what()).message()};
}

MaybeFailure SegmentTask::RunPipeline() {
  NameOutput();
  Result<std::unique_ptr<SegmentWriter>> writer = SegmentWriter::Open(output_path_, info_, plan_);
  if (!writer.ok()) return TaskFailure{ClassOfOutputError(writer.status()), writer.status().WithContext(what()).message()};
  stages_.writer = *std::move(writer);
  pipeline_ = std::make_unique<FramePipeline>(std::move(stages_), info_.size, network_scale(), buffers_, tools_->clock, *cancel_);
  if (const std::optional<FramePipeline::Failure> failure = pipeline_->Compute()) return PipelineFailure(*failure);
  return std::nullopt;
}

MaybeFailure SegmentTask::DoCompute() {
  if (encodes_only()) return std::nullopt;  // nothing for the compute device, which goes on to the next task
  if (MaybeFailure failure = MeasureSpeed()) return failure;
  const Stopwatch watch(tools_->clock);
  if (MaybeFailure failure = RunPipeline()) return failure;
  DescribeResult();
  seconds_.compute = watch.seconds();
  return std::nullopt;
}

MaybeFailure SegmentTask::DoFinish() {
  const Stopwatch watch(tools_->clock);
  if (encodes_only()) {
    if (MaybeFailure failure = RunPipeline()) return failure;
  }
  if (const std::optional<FramePipeline::Failure> failure = pipeline_->Finish()) return PipelineFailure(*failure);
  if (MaybeFailure failure = SourceFailure()) return failure;
  const RestoreStats& stats = pipeline_->stats();
  if (stats.frames != static_cast<int>(segment_.pts.size())) {
    return TaskFailure{v1::FAILURE_CLASS_WORKER_FAULT, what() + ": " + std::to_string(stats.frames) + " frames came out in place of " +
                                                           std::to_string(segment_.pts.size())};
  }
  if (stats.tiles.tiles_redone > 0) {
    spdlog::warn("{}: {} of {} tiles were computed again in fp32", what(), stats.tiles.tiles_redone, stats.tiles.tiles);
  }
  result_.set_width(plan_.size.width);
  result_.set_height(plan_.size.height);
  result_.set_frames(stats.frames);
  tools_->metrics->AddStageSeconds("decode", stats.decode_seconds);
  const FrameJudge* const judge = pipeline_->judge();
  const double judge_seconds = judge == nullptr ? 0 : judge->seconds();
  tools_->metrics->AddStageSeconds("finish", stats.encode_seconds - judge_seconds);
  seconds_.score = judge_seconds;
  if (encodes_only()) {
    result_.set_model_id(lease_.options().model_id());
    result_.set_device(tools_->device);
    result_.set_seconds(watch.seconds());
    return std::nullopt;
  }
  result_.set_compute_seconds(stats.compute_seconds);
  result_.set_tiles_redone(stats.tiles.tiles_redone);
  result_.set_frames_repeated(stats.frames_repeated);
  result_.set_tiles_repeated(stats.tiles.tiles_repeated);
  for (const int frame : pipeline_->concealed()) result_.add_frames_concealed(frame);
  tools_->metrics->AddStageSeconds("compute", stats.compute_seconds);
  tools_->metrics->AddDeviceSeconds(stats.compute_seconds, seconds_.compute - stats.compute_seconds);
  tools_->metrics->AddFrames(model_name(), stats.frames, stats.frames_repeated, stats.tiles.tiles_repeated);
  if (judge != nullptr) TakeScores(*judge);
  megapixels_ = static_cast<double>(info_.size.area()) * stats.frames * 1e-6;
  seconds_.finish = watch.seconds();
  return std::nullopt;
}

void SegmentTask::DoScore() {
  if (!tells_for_file() || encodes_only()) return;
  // To look takes memory of its own, for which a task that holds some must not wait.
  pipeline_.reset();
  memory_.reset();
  const Verdict verdict = Recommend([this](Classifier* classifier) { return Look(classifier); });
  NoteJudgingError(verdict.failure.has_value() ? UnavailableError(verdict.failure->message) : verdict.look_failed);
}

void SegmentTask::TakeScores(const FrameJudge& judge) {
  NoteJudgingError(judge.status());
  if (judge.scores().empty()) return;
  v1::Scores& scores = *result_.mutable_scores();
  const auto count = static_cast<double>(judge.scores().size());
  for (const v1::FrameScore& frame : judge.scores()) {
    *scores.add_frames() = frame;
    scores.set_before(scores.before() + frame.before() / count);
    scores.set_after(scores.after() + frame.after() / count);
  }
}

}  // namespace nsic
