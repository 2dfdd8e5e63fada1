// What every call passes through: the token, the clock and the counters, and a thread of a bounded pool for what it does.
#ifndef NSIC_COORDINATOR_SERVE_CALL_H_
#define NSIC_COORDINATOR_SERVE_CALL_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "coordinator/executor.h"
#include "coordinator/metrics.h"
#include "core/base/status.h"
#include "core/rpc/channel.h"

namespace nsic {

// Shared by all services. Immutable; the pools and metrics must outlive the server.
class CallGate {
 public:
  // An empty token lets everyone in.
  CallGate(const std::string& token, Metrics* metrics, Executor* calls, Executor* transfers);

  // UNAUTHENTICATED unless the call presents the token.
  Status Admit(const grpc::CallbackServerContext& context) const;

  Metrics* metrics() const { return metrics_; }
  Executor* calls() const { return calls_; }          // short calls: database
  Executor* transfers() const { return transfers_; }  // pieces of blobs: disk and hashing

 private:
  const std::string wanted_;  // SHA-256 of the header's value; empty: none is asked for
  Metrics* const metrics_;
  Executor* const calls_;
  Executor* const transfers_;
};

// Counts one call from its construction to End().
class CallRecord {
 public:
  CallRecord(const CallGate& gate, std::string_view method) : metrics_(gate.metrics()), method_(method), start_(Clock::now()) {}
  // Returns the status as gRPC wants it.
  grpc::Status End(const Status& status) const {
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    metrics_->CountRpc(method_, StatusCodeName(status.code()), seconds);
    return ToGrpc(status);
  }

 private:
  using Clock = std::chrono::steady_clock;
  Metrics* metrics_;
  std::string_view method_;  // a literal
  Clock::time_point start_;
};

// Runs `handler`, which returns a Status and fills the reply, on the pool of short calls.
template <typename Handler>
grpc::ServerUnaryReactor* ServeUnary(const CallGate& gate, grpc::CallbackServerContext* context, std::string_view method, Handler handler) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const CallRecord record(gate, method);
  if (const Status admitted = gate.Admit(*context); !admitted.ok()) {
    reactor->Finish(record.End(admitted));
    return reactor;
  }
  gate.calls()->Run([reactor, record, handler = std::move(handler)] { reactor->Finish(record.End(handler())); });
  return reactor;
}

// For handlers whose work returns the whole reply.
template <typename Reply>
Status Fill(Reply* reply, Result<Reply> result) {
  if (!result.ok()) return result.status();
  *reply = *std::move(result);
  return OkStatus();
}

}  // namespace nsic

#endif  // NSIC_COORDINATOR_SERVE_CALL_H_
