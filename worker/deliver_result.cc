#include "worker/deliver_result.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "core/base/digest.h"

namespace nsic {
namespace {

constexpr int kMostUploads = 3;
constexpr size_t kMostMessageBytes = 2000;

// The length of the UTF-8 sequence at `at`; 0 if there is none that is valid.
size_t SequenceLength(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  const size_t length = first < 0x80                    ? 1
                        : first >= 0xc2 && first < 0xe0 ? 2
                        : first >= 0xe0 && first < 0xf0 ? 3
                        : first >= 0xf0 && first < 0xf5 ? 4
                                                        : 0;
  if (length == 0 || at + length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
  }
  const unsigned char second = length > 1 ? byte(at + 1) : 0;
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool surrogate = first == 0xed && second >= 0xa0;
  const bool beyond = first == 0xf4 && second >= 0x90;
  return overlong || surrogate || beyond ? 0 : length;
}

}  // namespace

std::string ToMessage(std::string_view text) {
  std::string message;
  for (size_t at = 0; at < text.size();) {
    const size_t length = SequenceLength(text, at);
    if (message.size() + 4 > kMostMessageBytes) break;
    if (length == 0) {
      message += "\xef\xbf\xbd";  // U+FFFD
      ++at;
    } else {
      message.append(text.substr(at, length));
      at += length;
    }
  }
  return message;
}

namespace {

// What the coordinator says of the only item of a call.
Status OnlyItem(const v1::ItemsResponse& response) {
  if (response.items_size() != 1) {
    return InternalError("the coordinator judged " + std::to_string(response.items_size()) + " items instead of 1");
  }
  const v1::ItemStatus& item = response.items(0);
  return FromGrpc(grpc::Status(static_cast<grpc::StatusCode>(item.code()), item.message()));
}

}  // namespace

Status Deliverer::Upload(const std::string& path, const v1::BlobRef& blob, const std::function<bool()>& wait_for_room,
                         const CancelToken& cancel) {
  RetryPolicy pauses;
  pauses.first_delay = std::chrono::milliseconds(500);
  pauses.max_delay = std::chrono::milliseconds(10'000);
  for (int refusals = 0;;) {
    const Status status = transfer_->UploadFile(path, blob.sha256(), blob.size(), cancel);
    if (status.code() != StatusCode::kResourceExhausted || !wait_for_room()) return status;
    if (refusals++ == 0) spdlog::warn("the coordinator has no room for a result ({}); waiting for it", status.message());
    if (cancel.WaitFor(RetryDelay(pauses, refusals))) return cancel.Check();
  }
}

Status Deliverer::Complete(const std::string& token, v1::TaskResult result, const std::string& path,
                           const std::function<bool()>& wait_for_room, const CancelToken& cancel) {
  NSIC_ASSIGN_OR_RETURN(const std::string sha256, Sha256OfFile(path));
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return ErrnoError(error.value(), "cannot examine " + path);
  result.mutable_output()->set_sha256(sha256);
  result.mutable_output()->set_size(static_cast<int64_t>(size));

  v1::CompleteRequest request;
  v1::CompletedItem* item = request.add_items();
  item->set_token(token);
  *item->mutable_result() = std::move(result);
  for (int upload = 1;; ++upload) {
    NSIC_RETURN_IF_ERROR(Upload(path, item->result().output(), wait_for_room, cancel));
    v1::ItemsResponse response;
    NSIC_RETURN_IF_ERROR(session_->Call(Patiently(), cancel, [&](grpc::ClientContext* context, const std::string& session) {
      request.set_session(session);
      response.Clear();
      return session_->work()->Complete(context, request, &response);
    }));
    const Status status = OnlyItem(response);
    // The blob can have gone between the two calls, when nothing named it yet.
    if (status.code() != StatusCode::kFailedPrecondition || upload == kMostUploads) return status;
  }
}

Status Deliverer::Fail(const std::string& token, v1::FailureClass failure_class, const std::string& message, const CancelToken& cancel) {
  v1::FailRequest request;
  v1::FailedItem* item = request.add_items();
  item->set_token(token);
  item->set_failure_class(failure_class);
  item->set_message(ToMessage(message));
  v1::ItemsResponse response;
  NSIC_RETURN_IF_ERROR(session_->Call(Patiently(), cancel, [&](grpc::ClientContext* context, const std::string& session) {
    request.set_session(session);
    response.Clear();
    return session_->work()->Fail(context, request, &response);
  }));
  return OnlyItem(response);
}

Status Deliverer::Release(const std::vector<std::string>& tokens, const CancelToken& cancel) {
  if (tokens.empty()) return OkStatus();
  v1::ReleaseRequest request;
  for (const std::string& token : tokens) request.add_tokens(token);
  v1::ItemsResponse response;
  return session_->Call(Patiently(), cancel, [&](grpc::ClientContext* context, const std::string& session) {
    request.set_session(session);
    response.Clear();
    return session_->work()->Release(context, request, &response);
  });
}

}  // namespace nsic
