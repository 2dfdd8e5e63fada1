#include "worker/task.h"

#include <malloc.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <utility>

#include "core/base/digest.h"
#include "worker/deliver_result.h"

namespace nsic {
namespace {

// Above this, what a task has freed is given back to the system at its end: glibc would keep it.
constexpr int64_t kTrimBytes = int64_t{64} << 20;

TaskFailure ModelFailure(const ModelError& error) {
  return {error.fetching ? ClassOfDownloadError(error.status) : v1::FAILURE_CLASS_WORKER_FAULT, error.status.message()};
}

}  // namespace

std::string_view FailureClassName(v1::FailureClass failure_class) {
  switch (failure_class) {
    case v1::FAILURE_CLASS_BAD_INPUT: return "bad_input";
    case v1::FAILURE_CLASS_WORKER_FAULT: return "worker_fault";
    case v1::FAILURE_CLASS_TRANSIENT: return "transient";
    default: return "unspecified";
  }
}

// A file that cannot be read where it lies cannot be read there by anyone else of this machine, and is gone or wrong for all.
v1::FailureClass ClassOfInPlaceError(const Status& status) {
  switch (status.code()) {
    case StatusCode::kFailedPrecondition:                                        // no such media root here
    case StatusCode::kResourceExhausted: return v1::FAILURE_CLASS_WORKER_FAULT;  // out of descriptors or memory
    case StatusCode::kUnavailable: return v1::FAILURE_CLASS_TRANSIENT;
    default: return v1::FAILURE_CLASS_BAD_INPUT;
  }
}

v1::FailureClass ClassOfDownloadError(const Status& status) {
  return status.code() == StatusCode::kInvalidArgument ? v1::FAILURE_CLASS_WORKER_FAULT : v1::FAILURE_CLASS_TRANSIENT;
}

// The source has been decoded by then: what is wrong with the input is only what the output cannot hold.
v1::FailureClass ClassOfOutputError(const Status& status) {
  switch (status.code()) {
    case StatusCode::kInvalidArgument: return v1::FAILURE_CLASS_BAD_INPUT;
    case StatusCode::kResourceExhausted: return v1::FAILURE_CLASS_TRANSIENT;  // the disk is full
    default: return v1::FAILURE_CLASS_WORKER_FAULT;
  }
}

Task::Task(v1::LeasedTask lease, const TaskTools* tools)
    : lease_(std::move(lease)), tools_(tools), cancel_(std::make_shared<CancelToken>()), model_name_(lease_.options().model_name()) {
  if (chooses_model()) return;
  model_.set_model_id(lease_.options().model_id());
  model_.set_name(lease_.options().model_name());
  model_.set_blob(lease_.model_blob());
  model_.set_blob_size(lease_.model_blob_size());
}

Task::~Task() {
  if (!output_path_.empty()) ::unlink(output_path_.c_str());
}

MaybeFailure Task::Prepare() {
  return Step([this] { return DoPrepare(); });
}

MaybeFailure Task::Compute() {
  return Step([this] { return DoCompute(); });
}

MaybeFailure Task::Finish() {
  return Step([this] { return DoFinish(); });
}

void Task::Score() {
  const Stopwatch watch(tools_->clock);
  try {
    DoScore();
  } catch (const std::bad_alloc&) {
    NoteJudgingError(ResourceExhaustedError("out of memory on this worker; start it with a smaller --max-memory"));
  }
  seconds_.score += watch.seconds();
  tools_->metrics->AddStageSeconds("score", seconds_.score);
  if (megapixels_ > 0) RecordDone();
  LetGo();
}

MaybeFailure Task::Step(const std::function<MaybeFailure()>& step) {
  MaybeFailure end;
  try {
    end = cancel_->cancelled() ? TaskFailure{v1::FAILURE_CLASS_TRANSIENT, "cancelled"} : step();
  } catch (const std::bad_alloc&) {
    end = OutOfMemory();
  }
  if (end.has_value()) LetGo();
  return end;
}

TaskFailure Task::OutOfMemory() {
  if (tools_->memory->Halve(memory_ == nullptr ? 0 : memory_->bytes())) {
    spdlog::warn("{}: out of memory; from now on this worker holds less at once", what());
    return {v1::FAILURE_CLASS_TRANSIENT, "out of memory on this worker, beside other tasks; it holds fewer at once from now on"};
  }
  return {v1::FAILURE_CLASS_WORKER_FAULT, "out of memory on this worker; start it with a smaller --max-memory"};
}

void Task::LetGo() {
  Drop();
  enhancer_.reset();
  const int64_t held = memory_ == nullptr ? 0 : memory_->bytes();
  if (held >= kTrimBytes) ::malloc_trim(0);
  memory_.reset();
}

MaybeFailure Task::LoadModel() {
  if (model_.model_id().empty()) return std::nullopt;
  ModelError error;
  enhancer_ = tools_->models->Get(model_.model_id(), model_.blob(), model_.blob_size(), *cancel_, &error);
  if (enhancer_ == nullptr) return ModelFailure(error);
  if (!chooses_model() || enhancer_->card().scale == 1) return std::nullopt;
  return TaskFailure{v1::FAILURE_CLASS_WORKER_FAULT, "the recommended model " + model_.name() + " changes the size of pictures"};
}

Task::Verdict Task::Recommend(const std::function<Result<Classes>(Classifier*)>& look) {
  Verdict verdict;
  ModelError error;
  const v1::PackRef& recommender = lease_.options().recommender();
  const std::shared_ptr<Classifier> classifier = tools_->models->GetClassifier(recommender, *cancel_, &error);
  if (classifier == nullptr) {
    verdict.failure = ModelFailure(error);
    return verdict;
  }
  const bool closely = chooses_model() || lease_.options().assess();
  const std::string key = lease_.source().content().sha256() + " " + recommender.model_id() + (closely ? " closely" : "");
  Result<Classes> classes = tools_->judge->Classify(classifier.get(), key, look);
  if (!classes.ok()) {
    verdict.look_failed = classes.status();
    return verdict;
  }
  verdict.classes = *std::move(classes);
  const auto& [label, probability] = verdict.classes.front();
  v1::Recommendation& told = *result_.mutable_recommendation();
  told.set_label(label);
  told.set_probability(std::clamp(probability, 0.0, 1.0));
  v1::PackRef chosen;
  for (const v1::Candidate& candidate : lease_.options().candidates()) {
    if (candidate.label() == label) chosen = candidate.pack();
  }
  told.set_model(chosen.name());
  if (!chooses_model()) return verdict;
  model_ = chosen;
  model_name_ = model_.model_id().empty() ? "none" : model_.name();
  return verdict;
}

Result<double> Task::ScoreOf(Size picture, const ReadPixels& read) {
  ModelError error;
  const std::shared_ptr<Scorer> scorer = tools_->models->GetScorer(lease_.options().scorer(), *cancel_, &error);
  if (scorer == nullptr) return error.status;
  return tools_->judge->Score(scorer.get(), lease_.options().assess() ? BlocksToScore(picture) : SamplesToScore(picture), read, *cancel_);
}

void Task::NoteJudgingError(const Status& status) {
  if (status.ok() || cancel_->cancelled() || !result_.judging_error().empty()) return;
  spdlog::warn("{}: not judged: {}", what(), status.message());
  result_.set_judging_error(ToMessage(status.message()));
}

MaybeFailure Task::Reserve(int64_t bytes) {
  Result<std::unique_ptr<MemoryBudget::Reservation>> memory = tools_->memory->Reserve(bytes, *cancel_);
  if (!memory.ok()) return TaskFailure{v1::FAILURE_CLASS_WORKER_FAULT, memory.status().WithContext(what()).message()};
  memory_ = *std::move(memory);
  return std::nullopt;
}

MaybeFailure Task::MeasureSpeed() {
  const std::string& model_id = lease_.options().model_id();  // a recommender's speed is that of what it chooses
  if (enhancer_ == nullptr || tools_->speeds->Knows(model_id)) return std::nullopt;
  const Result<SpeedSample> sample = BenchmarkEnhancer(enhancer_.get(), *tools_->clock, *cancel_);
  if (!sample.ok()) return TaskFailure{v1::FAILURE_CLASS_WORKER_FAULT, sample.status().message()};
  tools_->speeds->Record(model_id, sample->megapixels, sample->seconds, PrecisionName(enhancer_->precision()));
  if (sample->seconds > 0) spdlog::info("model {}: about {:.3f} MP/s here", model_name(), sample->megapixels / sample->seconds);
  return std::nullopt;
}

void Task::DescribeResult() {
  result_.set_model_id(model_.model_id());
  if (enhancer_ != nullptr) result_.set_precision(std::string(PrecisionName(enhancer_->precision())));
  result_.set_device(tools_->device);
}

void Task::NameOutput() { output_path_ = tools_->outbox + "/" + RandomHex(8); }

void Task::RecordDone() {
  result_.set_seconds(seconds_.prepare + seconds_.compute + seconds_.finish);
  const double slowest = std::max({seconds_.prepare, seconds_.compute, seconds_.finish, seconds_.score});
  // What passes untouched would make the job's other files look quick.
  if (enhancer_ != nullptr) tools_->speeds->Record(lease_.options().model_id(), megapixels_, slowest, result_.precision());
  tools_->metrics->AddDone(model_name(), megapixels_, result_.seconds(), result_.tiles_redone());
}

}  // namespace nsic
