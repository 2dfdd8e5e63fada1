#include "worker/task.h"

#include <malloc.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <utility>

#include "core/base/digest.h"

namespace nsic {
namespace {

// Above this, what a task has freed is given back to the system at its end: glibc would keep it.
constexpr int64_t kTrimBytes = int64_t{64} << 20;

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
    : lease_(std::move(lease)), tools_(tools), cancel_(std::make_shared<CancelToken>()) {}

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
  return Step([this] {
    MaybeFailure end = DoFinish();
    if (!end.has_value()) LetGo();
    return end;
  });
}

MaybeFailure Task::Step(const std::function<MaybeFailure()>& step) {
  MaybeFailure end;
  try {
    end = cancel_->cancelled() ? TaskFailure{v1::FAILURE_CLASS_TRANSIENT, "cancelled"} : step();
  } catch (const std::bad_alloc&) {
    end = TaskFailure{v1::FAILURE_CLASS_WORKER_FAULT, "out of memory on this worker; start it with a smaller --max-memory"};
  }
  if (end.has_value()) LetGo();
  return end;
}

void Task::LetGo() {
  Drop();
  enhancer_.reset();
  const int64_t held = memory_ == nullptr ? 0 : memory_->bytes();
  if (held >= kTrimBytes) ::malloc_trim(0);
  memory_.reset();
}

MaybeFailure Task::LoadModel() {
  ModelError error;
  enhancer_ = tools_->models->Get(lease_.options().model_id(), lease_.model_blob(), lease_.model_blob_size(), *cancel_, &error);
  if (enhancer_ != nullptr) return std::nullopt;
  return TaskFailure{error.fetching ? ClassOfDownloadError(error.status) : v1::FAILURE_CLASS_WORKER_FAULT, error.status.message()};
}

MaybeFailure Task::Reserve(int64_t bytes) {
  Result<std::unique_ptr<MemoryBudget::Reservation>> memory = tools_->memory->Reserve(bytes, *cancel_);
  if (!memory.ok()) return TaskFailure{v1::FAILURE_CLASS_WORKER_FAULT, memory.status().WithContext(what()).message()};
  memory_ = *std::move(memory);
  return std::nullopt;
}

MaybeFailure Task::MeasureSpeed() {
  const std::string& model_id = lease_.options().model_id();
  if (tools_->speeds->Knows(model_id)) return std::nullopt;
  const Result<SpeedSample> sample = BenchmarkEnhancer(enhancer_.get(), *tools_->clock, *cancel_);
  if (!sample.ok()) return TaskFailure{v1::FAILURE_CLASS_WORKER_FAULT, sample.status().message()};
  tools_->speeds->Record(model_id, sample->megapixels, sample->seconds, PrecisionName(enhancer_->precision()));
  if (sample->seconds > 0) spdlog::info("model {}: about {:.3f} MP/s here", model_name(), sample->megapixels / sample->seconds);
  return std::nullopt;
}

void Task::DescribeResult() {
  result_.set_model_id(lease_.options().model_id());
  result_.set_precision(std::string(PrecisionName(enhancer_->precision())));
  result_.set_device(tools_->device);
}

void Task::NameOutput() { output_path_ = tools_->outbox + "/" + RandomHex(8); }

void Task::RecordDone(double megapixels, double prepare_seconds, double compute_seconds, double finish_seconds) {
  result_.set_seconds(prepare_seconds + compute_seconds + finish_seconds);
  const double slowest = std::max({prepare_seconds, compute_seconds, finish_seconds});
  tools_->speeds->Record(lease_.options().model_id(), megapixels, slowest, result_.precision());
  tools_->metrics->AddDone(model_name(), megapixels, result_.seconds(), result_.tiles_redone());
}

}  // namespace nsic
