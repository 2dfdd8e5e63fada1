// Status and Result: how every module of NSIC reports failure.
//
// Functions that can fail return Status, or Result<T> when they also make something. Exceptions of libraries
// (OpenCV, LibTorch, libvips, SQLiteCpp, nlohmann) are translated where they arise and never cross a module border.
// A message says what failed, which file or address, and what the user can do about it.
#ifndef NSIC_CORE_BASE_STATUS_H_
#define NSIC_CORE_BASE_STATUS_H_

#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>

namespace nsic {

// The same meanings and names as the gRPC status codes, so that the mapping in core/rpc is one to one.
enum class StatusCode {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,  // the caller's input is wrong, and will be wrong again
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,  // disk full, quota reached, memory budget exceeded
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,     // a bug or a broken invariant
  kUnavailable = 14,  // try again later
  kDataLoss = 15,     // a hash did not match, a file is truncated
  kUnauthenticated = 16,
};

std::string_view StatusCodeName(StatusCode code);  // "NOT_FOUND"

class [[nodiscard]] Status {
 public:
  Status() = default;  // OK
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

  // "NOT_FOUND: no such job", or "OK".
  std::string ToString() const;

  // The same code, with "context: " put before the message. OK stays OK.
  Status WithContext(std::string_view context) const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

std::ostream& operator<<(std::ostream& out, const Status& status);

inline Status OkStatus() { return Status(); }
inline Status CancelledError(std::string m) { return {StatusCode::kCancelled, std::move(m)}; }
inline Status InvalidArgumentError(std::string m) { return {StatusCode::kInvalidArgument, std::move(m)}; }
inline Status NotFoundError(std::string m) { return {StatusCode::kNotFound, std::move(m)}; }
inline Status AlreadyExistsError(std::string m) { return {StatusCode::kAlreadyExists, std::move(m)}; }
inline Status PermissionDeniedError(std::string m) { return {StatusCode::kPermissionDenied, std::move(m)}; }
inline Status ResourceExhaustedError(std::string m) { return {StatusCode::kResourceExhausted, std::move(m)}; }
inline Status FailedPreconditionError(std::string m) { return {StatusCode::kFailedPrecondition, std::move(m)}; }
inline Status AbortedError(std::string m) { return {StatusCode::kAborted, std::move(m)}; }
inline Status UnimplementedError(std::string m) { return {StatusCode::kUnimplemented, std::move(m)}; }
inline Status InternalError(std::string m) { return {StatusCode::kInternal, std::move(m)}; }
inline Status UnavailableError(std::string m) { return {StatusCode::kUnavailable, std::move(m)}; }
inline Status DataLossError(std::string m) { return {StatusCode::kDataLoss, std::move(m)}; }

// Translates errno: ENOENT to NOT_FOUND, EACCES and EROFS to PERMISSION_DENIED, ENOSPC and EDQUOT to RESOURCE_EXHAUSTED,
// and so on. `what` names the operation and the file: "cannot open photos/a.jpg".
Status ErrnoError(int error, std::string_view what);

// A value, or the Status that says why there is none. Never holds an OK status without a value.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor): `return value;` is the point
  Result(Status status) : status_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    if (status_.ok()) status_ = InternalError("a Result was made from an OK status without a value");
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }

  // Precondition: ok().
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return *std::move(value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace nsic

#define NSIC_CONCAT_INNER(a, b) a##b
#define NSIC_CONCAT(a, b) NSIC_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expression`, a Status, is not OK.
#define NSIC_RETURN_IF_ERROR(expression)         \
  do {                                           \
    ::nsic::Status nsic_status_ = (expression);  \
    if (!nsic_status_.ok()) return nsic_status_; \
  } while (false)

// NSIC_ASSIGN_OR_RETURN(auto image, ReadImage(path)); returns from the enclosing function when the Result is an error.
#define NSIC_ASSIGN_OR_RETURN(declaration, expression) \
  NSIC_ASSIGN_OR_RETURN_INNER(NSIC_CONCAT(nsic_result_, __LINE__), declaration, expression)
#define NSIC_ASSIGN_OR_RETURN_INNER(result, declaration, expression) \
  auto result = (expression);                                        \
  if (!result.ok()) return result.status();                          \
  declaration = *std::move(result)

#endif  // NSIC_CORE_BASE_STATUS_H_
