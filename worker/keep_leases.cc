#include "worker/keep_leases.h"

#include <spdlog/spdlog.h>

#include <utility>

namespace nsic {

LeaseKeeper::LeaseKeeper(Session* session, std::function<void(bool)> on_drain)
    : session_(session), on_drain_(std::move(on_drain)), thread_([this] { Run(); }) {}

LeaseKeeper::~LeaseKeeper() {
  stop_.Cancel();
  thread_.join();
}

void LeaseKeeper::Add(const std::string& token, std::shared_ptr<CancelToken> cancel) {
  std::lock_guard<std::mutex> lock(mutex_);
  held_[token] = std::move(cancel);
}

void LeaseKeeper::Remove(const std::string& token) {
  std::lock_guard<std::mutex> lock(mutex_);
  held_.erase(token);
}

void LeaseKeeper::Run() {
  while (!stop_.WaitFor(session_->renew_every())) RenewOnce();
}

void LeaseKeeper::RenewOnce() {
  v1::RenewRequest request;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [token, cancel] : held_) request.add_tokens(token);
  }
  // A few quick attempts; after that what is held may have changed, and the next round asks again.
  RetryPolicy policy;
  policy.max_attempts = 3;
  policy.max_delay = std::chrono::seconds(1);
  policy.deadline = std::chrono::seconds(10);
  v1::RenewResponse response;
  const Status status = session_->Call(policy, stop_, [&](grpc::ClientContext* context, const std::string& session) {
    request.set_session(session);
    response.Clear();
    return session_->work()->Renew(context, request, &response);
  });
  if (!status.ok()) {
    // An unreachable coordinator was logged by the session; held tasks go on, their results may still be wanted.
    if (!IsRetryable(status) && session_->refused().ok()) spdlog::warn("cannot renew leases: {}", status.ToString());
    return;
  }
  if (response.go_on_size() != request.tokens_size()) {
    spdlog::error("the coordinator answered for {} of {} leases", response.go_on_size(), request.tokens_size());
    return;
  }
  for (int i = 0; i < request.tokens_size(); ++i) {
    if (response.go_on(i)) continue;
    std::shared_ptr<CancelToken> cancel;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      const auto found = held_.find(request.tokens(i));
      if (found != held_.end()) cancel = found->second;
    }
    if (cancel != nullptr) cancel->Cancel();
  }
  on_drain_(response.drain());
}

}  // namespace nsic
