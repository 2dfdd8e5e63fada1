#include "core/rpc/channel.h"

#include <grpcpp/support/client_interceptor.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/files.h"

namespace nsic {
namespace {

constexpr size_t kMinTokenLength = 16;
constexpr int kKeepaliveTimeMs = 20'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
constexpr std::chrono::milliseconds kCancelCheckEvery{50};

// Puts the token into every call's metadata, so that no caller can forget it. Call credentials would need TLS.
class BearerToken : public grpc::experimental::Interceptor {
 public:
  explicit BearerToken(std::string value) : value_(std::move(value)) {}
  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(grpc::experimental::InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->emplace("authorization", value_);
    }
    methods->Proceed();
  }

 private:
  const std::string value_;
};

class BearerTokenFactory : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit BearerTokenFactory(const std::string& token) : value_("Bearer " + token) {}
  grpc::experimental::Interceptor* CreateClientInterceptor(grpc::experimental::ClientRpcInfo* /*info*/) override {
    return new BearerToken(value_);  // gRPC owns it
  }

 private:
  const std::string value_;
};

bool StartsWith(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

}  // namespace

Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return OkStatus();
  const int code = status.error_code();
  const bool known = code > 0 && code <= static_cast<int>(StatusCode::kUnauthenticated);
  return {known ? static_cast<StatusCode>(code) : StatusCode::kUnknown, status.error_message()};
}

grpc::Status ToGrpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code()), status.message()};
}

std::string WithDefaultPort(const std::string& address) {
  const std::string port = ":" + std::to_string(kDefaultPort);
  if (StartsWith(address, "unix:") || StartsWith(address, "unix-abstract:")) return address;
  if (StartsWith(address, "[")) return address.back() == ']' ? address + port : address;
  const auto colons = std::count(address.begin(), address.end(), ':');
  if (colons == 0) return address + port;
  return colons == 1 ? address : "[" + address + "]" + port;  // a bare IPv6 address
}

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address, const std::string& token) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // a long poll is silent for longer than the default of two pings
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2'000);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5'000);  // despite its name: how long one attempt to connect may take
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> interceptors;
  if (!token.empty()) interceptors.push_back(std::make_unique<BearerTokenFactory>(token));
  return grpc::experimental::CreateCustomChannelWithInterceptors(address, grpc::InsecureChannelCredentials(), arguments,
                                                                 std::move(interceptors));
}

void ApplyServerLimits(grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder->SetMaxSendMessageSize(kMaxMessageBytes);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kKeepaliveTimeMs / 2);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);  // a vanished worker's call must not hang for hours
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
}

Result<std::string> ReadTokenFile(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(std::string text, ReadFile(path, 1 << 16));
  text.erase(std::min(text.find('\n'), text.size()));
  constexpr std::string_view kSpace = " \t\r\f\v";
  text.erase(0, std::min(text.find_first_not_of(kSpace), text.size()));
  text.erase(text.find_last_not_of(kSpace) + 1);
  if (text.size() < kMinTokenLength) {
    return InvalidArgumentError("the first line of " + path + " is no token: it needs at least " + std::to_string(kMinTokenLength) +
                                " characters; make one with: openssl rand -hex 32 > " + path);
  }
  // The token travels in an HTTP/2 header, which carries printable ASCII only.
  const bool printable = std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (!printable) return InvalidArgumentError("the token in " + path + " may hold only printable ASCII characters without spaces");
  return text;
}

bool IsLoopback(const std::string& address) {
  if (StartsWith(address, "unix:") || StartsWith(address, "unix-abstract:")) return true;
  std::string host = address;
  if (StartsWith(host, "[")) {
    host = host.substr(1, std::min(host.find(']'), host.size()) - 1);
  } else if (std::count(host.begin(), host.end(), ':') == 1) {
    host.erase(host.find(':'));
  }
  if (host == "localhost" || host == "::1") return true;
  // "127.evil.example" is a name, not an address.
  return StartsWith(host, "127.") && host.find_first_not_of("0123456789.") == std::string::npos;
}

bool IsRetryable(const Status& status) {
  switch (status.code()) {
    case StatusCode::kUnavailable:
    case StatusCode::kDeadlineExceeded:
    case StatusCode::kCancelled: return true;
    case StatusCode::kUnknown: return StartsWith(status.message(), "Stream removed");
    case StatusCode::kInternal: return status.message().find("RST_STREAM") != std::string::npos;
    default: return false;
  }
}

std::chrono::milliseconds RetryDelay(const RetryPolicy& policy, int failures) {
  int64_t most = std::max<int64_t>(0, policy.first_delay.count());
  for (int i = 1; i < failures && most < policy.max_delay.count(); ++i) most *= 2;
  most = std::min<int64_t>(most, policy.max_delay.count());
  thread_local std::minstd_rand random{std::random_device{}()};
  return std::chrono::milliseconds(std::uniform_int_distribution<int64_t>(0, most)(random));
}

Status WaitToRetry(grpc::Channel* channel, std::chrono::milliseconds delay, const CancelToken& cancel) {
  if (channel->GetState(true) == GRPC_CHANNEL_READY) {  // the server itself wants us to wait
    cancel.WaitFor(delay);
    return cancel.Check();
  }
  const auto end = std::chrono::system_clock::now() + delay;
  for (auto now = end - delay; now < end && !cancel.cancelled(); now = std::chrono::system_clock::now()) {
    if (channel->WaitForConnected(std::min(end, now + kCancelCheckEvery))) break;
  }
  return cancel.Check();
}

Status CallWithRetry(grpc::Channel* channel, const RetryPolicy& policy, const CancelToken& cancel,
                     const std::function<grpc::Status(grpc::ClientContext*)>& call) {
  for (int attempt = 1;; ++attempt) {
    NSIC_RETURN_IF_ERROR(cancel.Check());
    Status status;
    {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + policy.deadline);
      const CancelCallback on_cancel(cancel, [&context] { context.TryCancel(); });
      status = FromGrpc(call(&context));
    }
    if (status.ok()) return status;  // done is done, even if it was to be cancelled
    NSIC_RETURN_IF_ERROR(cancel.Check());
    if (!IsRetryable(status) || attempt == policy.max_attempts) return status;
    NSIC_RETURN_IF_ERROR(WaitToRetry(channel, RetryDelay(policy, attempt), cancel));
  }
}

}  // namespace nsic
