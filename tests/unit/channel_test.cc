#include "core/rpc/channel.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "core/base/digest.h"
#include "core/base/files.h"
#include "nsic/v1/blobs.grpc.pb.h"

namespace nsic {
namespace {

using std::chrono::milliseconds;

TEST(StatusMapping, IsOneToOne) {
  for (int code = 0; code <= 16; ++code) {
    const Status status = code == 0 ? OkStatus() : Status(static_cast<StatusCode>(code), "why");
    const grpc::Status on_wire = ToGrpc(status);
    EXPECT_EQ(static_cast<int>(on_wire.error_code()), code);
    const Status back = FromGrpc(on_wire);
    EXPECT_EQ(back.code(), status.code()) << code;
    EXPECT_EQ(back.message(), status.message()) << code;
  }
  EXPECT_EQ(FromGrpc(grpc::Status(static_cast<grpc::StatusCode>(17), "odd")).code(), StatusCode::kUnknown);
}

TEST(IsLoopback, Table) {
  const struct {
    const char* address;
    bool loopback;
  } kRows[] = {
      {"127.0.0.1:7420", true},
      {"127.8.9.1:1", true},
      {"127.0.0.1", true},
      {"localhost:7420", true},
      {"localhost", true},
      {"[::1]:7420", true},
      {"::1", true},
      {"unix:/run/nsic", true},
      {"unix-abstract:x", true},
      {"0.0.0.0:7420", false},
      {"[::]:7420", false},
      {"192.168.1.4:1", false},
      {"127.evil.org:1", false},
      {"localhost.org:1", false},
      {"farm:7420", false},
      {"[fe80::1]:7420", false},
      {"128.0.0.1:7420", false},
      {"", false},
  };
  for (const auto& row : kRows) EXPECT_EQ(IsLoopback(row.address), row.loopback) << row.address;
}

TEST(WithDefaultPort, Table) {
  const struct {
    const char* address;
    const char* with_port;
  } kRows[] = {
      {"farm", "farm:7420"},  {"farm:1", "farm:1"},  {"10.0.0.1", "10.0.0.1:7420"},  {"[::1]", "[::1]:7420"},
      {"[::1]:1", "[::1]:1"}, {"::1", "[::1]:7420"}, {"unix:/run/x", "unix:/run/x"},
  };
  for (const auto& row : kRows) EXPECT_EQ(WithDefaultPort(row.address), row.with_port) << row.address;
}

TEST(ReadTokenFile, Table) {
  const std::string path = std::filesystem::temp_directory_path() / ("nsic-token-" + RandomHex(6));
  const struct {
    const char* name;
    std::string content;
    const char* token;  // null: INVALID_ARGUMENT
  } kRows[] = {
      {"plain", "0123456789abcdef", "0123456789abcdef"},
      {"line end", "0123456789abcdef\n", "0123456789abcdef"},
      {"white space around", " \t0123456789abcdef \r\nsecond line", "0123456789abcdef"},
      {"15 characters", "0123456789abcde\n", nullptr},
      {"empty", "", nullptr},
      {"blank first line", "\n0123456789abcdef\n", nullptr},
      {"not ASCII", "0123456789abcdef\xc3\xa9\n", nullptr},
      {"space inside", "01234567 89abcdef\n", nullptr},
  };
  for (const auto& row : kRows) {
    ASSERT_TRUE(WriteFileAtomically(path, row.content).ok());
    const Result<std::string> token = ReadTokenFile(path);
    if (row.token != nullptr) {
      ASSERT_TRUE(token.ok()) << row.name << ": " << token.status();
      EXPECT_EQ(*token, row.token) << row.name;
    } else {
      EXPECT_EQ(token.status().code(), StatusCode::kInvalidArgument) << row.name;
      EXPECT_NE(token.status().message().find(path), std::string::npos) << row.name;
    }
  }
  std::filesystem::remove(path);
  EXPECT_EQ(ReadTokenFile(path).status().code(), StatusCode::kNotFound);
}

TEST(IsRetryable, Table) {
  const struct {
    Status status;
    bool retryable;
  } kRows[] = {
      {UnavailableError("x"), true},        {{StatusCode::kDeadlineExceeded, "x"}, true},
      {CancelledError("x"), true},          {{StatusCode::kUnknown, "Stream removed"}, true},
      {{StatusCode::kUnknown, "x"}, false}, {InternalError("Received RST_STREAM with error code 2"), true},
      {InternalError("x"), false},          {AbortedError("x"), false},
      {NotFoundError("x"), false},          {ResourceExhaustedError("x"), false},
      {DataLossError("x"), false},          {{StatusCode::kUnauthenticated, "x"}, false},
  };
  for (const auto& row : kRows) EXPECT_EQ(IsRetryable(row.status), row.retryable) << row.status;
}

TEST(RetryDelay, IsJitteredAndBounded) {
  RetryPolicy policy;
  policy.first_delay = milliseconds(100);
  policy.max_delay = milliseconds(1000);
  const int kMost[] = {100, 200, 400, 800, 1000, 1000, 1000};
  for (int failures = 1; failures <= 7; ++failures) {
    int64_t least = 1 << 30, most = 0;
    for (int i = 0; i < 2000; ++i) {
      const int64_t delay = RetryDelay(policy, failures).count();
      least = std::min(least, delay);
      most = std::max(most, delay);
    }
    EXPECT_GE(least, 0) << failures;
    EXPECT_LT(least, kMost[failures - 1] / 4) << failures;
    EXPECT_LE(most, kMost[failures - 1]) << failures;
    EXPECT_GT(most, kMost[failures - 1] * 3 / 4) << failures;
  }
  EXPECT_LE(RetryDelay(policy, 1'000'000).count(), 1000);
}

RetryPolicy Fast() {
  RetryPolicy policy;
  policy.first_delay = milliseconds(1);
  policy.max_delay = milliseconds(20);
  policy.deadline = milliseconds(20'000);
  return policy;
}

TEST(CallWithRetry, RetriesWhatIsWorthIt) {
  const auto channel = OpenChannel("127.0.0.1:1", "");  // nobody there: the answers are made here
  const struct {
    const char* name;
    std::vector<grpc::StatusCode> answers;
    StatusCode end;
    int calls;
  } kRows[] = {
      {"at once", {grpc::OK}, StatusCode::kOk, 1},
      {"third time", {grpc::UNAVAILABLE, grpc::DEADLINE_EXCEEDED, grpc::OK}, StatusCode::kOk, 3},
      {"for good", {grpc::UNAVAILABLE, grpc::NOT_FOUND}, StatusCode::kNotFound, 2},
      {"aborted is meant", {grpc::ABORTED}, StatusCode::kAborted, 1},
      {"never", std::vector<grpc::StatusCode>(20, grpc::UNAVAILABLE), StatusCode::kUnavailable, 6},
  };
  for (const auto& row : kRows) {
    int calls = 0;
    CancelToken cancel;
    const Status status = CallWithRetry(channel.get(), Fast(), cancel, [&](grpc::ClientContext* context) {
      EXPECT_GT(context->deadline(), std::chrono::system_clock::now()) << row.name;
      return grpc::Status(row.answers[static_cast<size_t>(calls++)], "x");
    });
    EXPECT_EQ(status.code(), row.end) << row.name;
    EXPECT_EQ(calls, row.calls) << row.name;
  }
}

TEST(CallWithRetry, WithoutALimitItGoesOnUntilCancelled) {
  const auto channel = OpenChannel("127.0.0.1:1", "");
  RetryPolicy policy = Fast();
  policy.max_attempts = 0;
  policy.max_delay = milliseconds(1);
  CancelToken cancel;
  int calls = 0;
  const Status status = CallWithRetry(channel.get(), policy, cancel, [&](grpc::ClientContext*) {
    if (++calls == 50) cancel.Cancel();
    return grpc::Status(grpc::UNAVAILABLE, "x");
  });
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ(calls, 50);
}

// Answers Stat with what the caller's metadata held, or holds the call until it is cancelled.
class EchoService : public v1::Blobs::Service {
 public:
  grpc::Status Stat(grpc::ServerContext* context, const v1::StatBlobRequest* request, v1::BlobStat* /*stat*/) override {
    ++calls;
    if (request->sha256() == "hang") {
      while (!context->IsCancelled()) std::this_thread::sleep_for(milliseconds(1));
      return grpc::Status::CANCELLED;
    }
    const auto found = context->client_metadata().find("authorization");
    if (found == context->client_metadata().end()) return {grpc::UNAUTHENTICATED, "no token"};
    return {grpc::FAILED_PRECONDITION, std::string(found->second.begin(), found->second.end())};
  }
  std::atomic<int> calls{0};
};

class ChannelTest : public ::testing::Test {
 protected:
  void Start(const std::string& address) {
    grpc::ServerBuilder builder;
    ApplyServerLimits(&builder);
    int port = 0;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  Status Stat(const std::shared_ptr<grpc::Channel>& channel, const std::string& sha256, const CancelToken& cancel,
              const RetryPolicy& policy = Fast()) {
    const auto stub = v1::Blobs::NewStub(channel);
    return CallWithRetry(channel.get(), policy, cancel, [&](grpc::ClientContext* context) {
      v1::StatBlobRequest request;
      request.set_sha256(sha256);
      v1::BlobStat reply;
      return stub->Stat(context, request, &reply);
    });
  }

  EchoService service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

TEST_F(ChannelTest, SendsTheTokenWithEveryCall) {
  Start("127.0.0.1:0");
  CancelToken cancel;
  const auto with = OpenChannel(address_, "0123456789abcdef");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Stat(with, "x", cancel).message(), "Bearer 0123456789abcdef");
  EXPECT_EQ(Stat(OpenChannel(address_, ""), "x", cancel).code(), StatusCode::kUnauthenticated);
}

TEST_F(ChannelTest, CancellingEndsACallUnderWay) {
  Start("127.0.0.1:0");
  CancelToken cancel;
  std::thread canceller([&] {
    while (service_.calls == 0) std::this_thread::sleep_for(milliseconds(1));
    cancel.Cancel();
  });
  EXPECT_EQ(Stat(OpenChannel(address_, ""), "hang", cancel).code(), StatusCode::kCancelled);
  canceller.join();
  EXPECT_EQ(service_.calls, 1);
}

TEST_F(ChannelTest, AnAttemptThatHangsIsGivenUpAndRepeated) {
  Start("127.0.0.1:0");
  RetryPolicy policy = Fast();
  policy.deadline = milliseconds(100);
  policy.max_attempts = 3;
  CancelToken cancel;
  EXPECT_EQ(Stat(OpenChannel(address_, ""), "hang", cancel, policy).code(), StatusCode::kDeadlineExceeded);
  EXPECT_LE(service_.calls, 3);
}

TEST_F(ChannelTest, FindsARestartedServerAgain) {
  Start("127.0.0.1:0");
  const auto channel = OpenChannel(address_, "");
  CancelToken cancel;
  EXPECT_EQ(Stat(channel, "x", cancel).code(), StatusCode::kUnauthenticated);
  server_->Shutdown();
  server_.reset();
  RetryPolicy once = Fast();
  once.max_attempts = 1;
  EXPECT_EQ(Stat(channel, "x", cancel, once).code(), StatusCode::kUnavailable);
  RetryPolicy patient = Fast();
  patient.max_attempts = 0;
  Status status;
  std::thread caller([&] { status = Stat(channel, "x", cancel, patient); });
  Start(address_);
  caller.join();
  EXPECT_EQ(status.code(), StatusCode::kUnauthenticated);
}

// Six attempts in a row are over at once if nobody lets the channel connect between them.
TEST_F(ChannelTest, WaitingLetsTheChannelConnect) {
  Start("127.0.0.1:0");
  server_->Shutdown();
  server_.reset();
  const auto channel = OpenChannel(address_, "");
  CancelToken cancel;
  RetryPolicy once = Fast();
  once.max_attempts = 1;
  EXPECT_EQ(Stat(channel, "x", cancel, once).code(), StatusCode::kUnavailable);
  Start(address_);
  EXPECT_TRUE(WaitToRetry(channel.get(), std::chrono::seconds(30), cancel).ok());
  EXPECT_EQ(channel->GetState(false), GRPC_CHANNEL_READY);
  EXPECT_EQ(Stat(channel, "x", cancel, once).code(), StatusCode::kUnauthenticated);
}

TEST_F(ChannelTest, AProxyOfTheEnvironmentIsNotUsed) {
  Start("127.0.0.1:0");
  ::setenv("http_proxy", "http://127.0.0.1:1", 1);
  CancelToken cancel;
  EXPECT_EQ(Stat(OpenChannel(address_, "0123456789abcdef"), "x", cancel).code(), StatusCode::kFailedPrecondition);
  ::unsetenv("http_proxy");
}

}  // namespace
}  // namespace nsic
