// Channels, credentials, deadlines and retries: how clients and workers talk to a coordinator.
#ifndef NSIC_CORE_RPC_CHANNEL_H_
#define NSIC_CORE_RPC_CHANNEL_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "core/base/cancel.h"
#include "core/base/status.h"

namespace nsic {

inline constexpr int kProtocolVersion = 1;
inline constexpr int kDefaultPort = 7420;
inline constexpr int kMaxMessageBytes = 16 << 20;
inline constexpr int kTransferChunkBytes = 1 << 20;

Status FromGrpc(const grpc::Status& status);
grpc::Status ToGrpc(const Status& status);

// "farm" to "farm:7420"; an address with a port, or of a unix socket, stays as it is.
std::string WithDefaultPort(const std::string& address);

// A lazily connecting channel to "host:port". `token` (may be empty) goes with every call as "authorization: Bearer TOKEN".
// Proxies of the environment are not used: a farm is on one's own network. A dead peer is noticed within half a minute by keepalive,
// a restarted one found again within two seconds.
std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address, const std::string& token);

// The server's side of the same: message sizes, and permission for the keepalive pings that OpenChannel's channels send (a server
// without it hangs up on them).
void ApplyServerLimits(grpc::ServerBuilder* builder);

// The first line of a token file, without white space around it. INVALID_ARGUMENT if that is shorter than 16 characters.
Result<std::string> ReadTokenFile(const std::string& path);

// True for 127.0.0.0/8, ::1, localhost and unix: addresses: there no token is asked for.
bool IsLoopback(const std::string& address);

struct RetryPolicy {
  int max_attempts = 6;                        // 0: no limit
  std::chrono::milliseconds first_delay{200};  // doubled each time, full jitter
  std::chrono::milliseconds max_delay{10'000};
  std::chrono::milliseconds deadline{30'000};  // of each attempt
};

// Whether a call that ended so is worth repeating: UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED (a server that shuts down cancels what it
// runs; whether we cancelled ourselves is for the caller to know), and the two ways in which gRPC reports a stream that lost its
// connection ("Stream removed", "RST_STREAM"). ABORTED is not: the coordinator means it.
bool IsRetryable(const Status& status);

// How long to wait before attempt `failures` + 1, failures >= 1: full jitter, uniform between 0 and the doubled delay.
std::chrono::milliseconds RetryDelay(const RetryPolicy& policy, int failures);

// Waits `delay`, or less: until a channel that had lost its connection has one again, or `cancel` is set (then CANCELLED). gRPC completes
// a connection only while somebody waits for the channel, so who tries again must wait here and not just sleep.
Status WaitToRetry(grpc::Channel* channel, std::chrono::milliseconds delay, const CancelToken& cancel);

// Calls `call`, a method on `channel`, with a fresh context (deadline set) until it succeeds, fails with a status that is not retryable,
// attempts run out, or `cancel` is set (CANCELLED; a call under way is cancelled too). Only for idempotent methods: all of ours are.
Status CallWithRetry(grpc::Channel* channel, const RetryPolicy& policy, const CancelToken& cancel,
                     const std::function<grpc::Status(grpc::ClientContext*)>& call);

}  // namespace nsic

#endif  // NSIC_CORE_RPC_CHANNEL_H_
