// The worker's standing with the coordinator: it registers, notices when the coordinator no longer knows it, and registers again.
#ifndef NSIC_WORKER_HOLD_SESSION_H_
#define NSIC_WORKER_HOLD_SESSION_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "core/base/cancel.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/rpc/channel.h"
#include "nsic/v1/work.grpc.pb.h"

namespace nsic {

// Tries until it is told to stop: a coordinator that is away comes back.
RetryPolicy Patiently();

// Thread-safe. `clock` must outlive it.
class Session {
 public:
  // `worker` is what Register is called with; `address` is for messages.
  Session(const std::shared_ptr<grpc::Channel>& channel, v1::RegisterRequest worker, std::string address, const Clock* clock);

  using Method = std::function<grpc::Status(grpc::ClientContext* context, const std::string& session)>;
  // Calls with a session, registering first where there is none, and again where the coordinator has forgotten it. Waits for a
  // coordinator that is not reachable as the policy says; without a limit of attempts, until `cancel`.
  // When Register says that this worker will not do (FAILED_PRECONDITION, PERMISSION_DENIED, UNAUTHENTICATED...) that is final: every
  // later call returns it (`refused`).
  Status Call(const RetryPolicy& policy, const CancelToken& cancel, const Method& method);

  v1::Work::Stub* work() { return stub_.get(); }
  const std::string& name() const { return worker_.name(); }

  // Why the coordinator will not have this worker; OK while it will.
  Status refused() const;
  std::chrono::milliseconds renew_every() const;
  // How long no call has reached the coordinator; 0 while calls do.
  std::chrono::milliseconds unreachable_for() const;

 private:
  // Makes sure that there is a session other than `old`; returns its id.
  Result<std::string> EnterOtherThan(const std::string& old, const RetryPolicy& policy, const CancelToken& cancel);
  Status CountFence();
  void Note(const grpc::Status& status);

  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Work::Stub> stub_;
  const v1::RegisterRequest worker_;
  const std::string address_;
  const Clock* const clock_;

  std::mutex registering_;  // held during Register, so that threads which find the session gone together register once
  mutable std::mutex mutex_;
  std::string id_;                               // guarded by mutex_, as all below
  std::chrono::milliseconds renew_every_{1000};  // until the coordinator has said
  Status refused_;
  int64_t unreachable_since_us_ = -1;
  std::deque<int64_t> fenced_us_;  // when sessions of ours were ended by the coordinator
};

}  // namespace nsic

#endif  // NSIC_WORKER_HOLD_SESSION_H_
