#include "worker/hold_session.h"

#include <spdlog/spdlog.h>

#include <utility>

namespace nsic {
namespace {

// So many sessions ended by the coordinator within so long: it does not restart that often, another worker has our name.
constexpr size_t kFencesThatMeanATwin = 5;
constexpr int64_t kFenceWindowUs = int64_t{60} * 1000 * 1000;

bool MeansSessionIsGone(const Status& status) {
  return status.code() == StatusCode::kAborted || status.code() == StatusCode::kUnauthenticated;
}

// Errors of Register that a repetition will not mend. The others (the coordinator's disk is full, ...) may pass.
bool IsRefusal(const Status& status) {
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kFailedPrecondition:
    case StatusCode::kPermissionDenied:
    case StatusCode::kUnauthenticated:
    case StatusCode::kUnimplemented: return true;
    default: return false;
  }
}

}  // namespace

RetryPolicy Patiently() {
  RetryPolicy policy;
  policy.max_attempts = 0;
  policy.max_delay = std::chrono::seconds(3);
  return policy;
}

Session::Session(const std::shared_ptr<grpc::Channel>& channel, v1::RegisterRequest worker, std::string address, const Clock* clock)
    : channel_(channel), stub_(v1::Work::NewStub(channel)), worker_(std::move(worker)), address_(std::move(address)), clock_(clock) {}

Status Session::Call(const RetryPolicy& policy, const CancelToken& cancel, const Method& method) {
  std::string id;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    id = id_;
  }
  while (true) {
    if (id.empty()) {
      NSIC_ASSIGN_OR_RETURN(id, EnterOtherThan("", policy, cancel));
    }
    const Status status = CallWithRetry(channel_.get(), policy, cancel, [&](grpc::ClientContext* context) {
      const grpc::Status answer = method(context, id);
      Note(answer);
      return answer;
    });
    if (!MeansSessionIsGone(status)) return status;
    spdlog::info("the coordinator has ended this worker's session ({}); registering again", status.message());
    NSIC_ASSIGN_OR_RETURN(id, EnterOtherThan(id, policy, cancel));
  }
}

Result<std::string> Session::EnterOtherThan(const std::string& old, const RetryPolicy& policy, const CancelToken& cancel) {
  std::lock_guard<std::mutex> registering(registering_);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!refused_.ok()) return refused_;
    if (id_ != old) return id_;
  }
  Status status = old.empty() ? OkStatus() : CountFence();
  v1::RegisterResponse response;
  if (status.ok()) {
    status = CallWithRetry(channel_.get(), policy, cancel, [&](grpc::ClientContext* context) {
      response.Clear();
      const grpc::Status answer = stub_->Register(context, worker_, &response);
      Note(answer);
      return answer;
    });
  }
  std::lock_guard<std::mutex> lock(mutex_);
  if (!status.ok()) {
    NSIC_RETURN_IF_ERROR(cancel.Check());
    if (!IsRefusal(status)) return status;
    refused_ = status.WithContext("the coordinator at " + address_ + " refuses this worker");
    return refused_;
  }
  id_ = response.session();
  if (response.renew_every_ms() > 0) renew_every_ = std::chrono::milliseconds(response.renew_every_ms());
  spdlog::info("registered with {} as '{}'", address_, worker_.name());
  return id_;
}

Status Session::CountFence() {
  std::lock_guard<std::mutex> lock(mutex_);
  const int64_t now = clock_->MonotonicUs();
  fenced_us_.push_back(now);
  while (fenced_us_.front() < now - kFenceWindowUs) fenced_us_.pop_front();
  if (fenced_us_.size() < kFencesThatMeanATwin) return OkStatus();
  return FailedPreconditionError("another worker registers under the name '" + worker_.name() +
                                 "' again and again; give each its own with --name");
}

void Session::Note(const grpc::Status& answer) {
  const Status status = FromGrpc(answer);
  const bool reached = status.ok() || !IsRetryable(status);
  if (status.code() == StatusCode::kCancelled) return;  // by us as a rule: says nothing
  std::lock_guard<std::mutex> lock(mutex_);
  if (reached && unreachable_since_us_ >= 0) {
    spdlog::info("the coordinator at {} answers again", address_);
    unreachable_since_us_ = -1;
  } else if (!reached && unreachable_since_us_ < 0) {
    spdlog::warn("the coordinator at {} does not answer ({}); waiting for it", address_, status.message());
    unreachable_since_us_ = clock_->MonotonicUs();
  }
}

Status Session::refused() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return refused_;
}

std::chrono::milliseconds Session::renew_every() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return renew_every_;
}

std::chrono::milliseconds Session::unreachable_for() const {
  std::lock_guard<std::mutex> lock(mutex_);
  if (unreachable_since_us_ < 0) return std::chrono::milliseconds(0);
  return std::chrono::milliseconds((clock_->MonotonicUs() - unreachable_since_us_) / 1000);
}

}  // namespace nsic
