#include "core/base/status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <sstream>
#include <string>

namespace nsic {
namespace {

TEST(StatusTest, DefaultIsOk) {
  EXPECT_TRUE(Status().ok());
  EXPECT_EQ(Status().ToString(), "OK");
  EXPECT_TRUE(OkStatus().WithContext("while reading a.jpg").ok());
}

TEST(StatusTest, CodesHaveTheNamesAndNumbersOfGrpc) {
  const struct {
    StatusCode code;
    int number;
    std::string_view name;
  } kRows[] = {
      {StatusCode::kOk, 0, "OK"},
      {StatusCode::kCancelled, 1, "CANCELLED"},
      {StatusCode::kUnknown, 2, "UNKNOWN"},
      {StatusCode::kInvalidArgument, 3, "INVALID_ARGUMENT"},
      {StatusCode::kDeadlineExceeded, 4, "DEADLINE_EXCEEDED"},
      {StatusCode::kNotFound, 5, "NOT_FOUND"},
      {StatusCode::kAlreadyExists, 6, "ALREADY_EXISTS"},
      {StatusCode::kPermissionDenied, 7, "PERMISSION_DENIED"},
      {StatusCode::kResourceExhausted, 8, "RESOURCE_EXHAUSTED"},
      {StatusCode::kFailedPrecondition, 9, "FAILED_PRECONDITION"},
      {StatusCode::kAborted, 10, "ABORTED"},
      {StatusCode::kOutOfRange, 11, "OUT_OF_RANGE"},
      {StatusCode::kUnimplemented, 12, "UNIMPLEMENTED"},
      {StatusCode::kInternal, 13, "INTERNAL"},
      {StatusCode::kUnavailable, 14, "UNAVAILABLE"},
      {StatusCode::kDataLoss, 15, "DATA_LOSS"},
      {StatusCode::kUnauthenticated, 16, "UNAUTHENTICATED"},
  };
  for (const auto& row : kRows) {
    EXPECT_EQ(static_cast<int>(row.code), row.number) << row.name;
    EXPECT_EQ(StatusCodeName(row.code), row.name);
  }
}

TEST(StatusTest, ContextGoesBeforeTheMessage) {
  const Status status = NotFoundError("no such job").WithContext("cannot fetch");
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  std::ostringstream text;
  text << status;
  EXPECT_EQ(text.str(), "NOT_FOUND: cannot fetch: no such job");
}

TEST(StatusTest, ErrnoBecomesACode) {
  const struct {
    int error;
    StatusCode code;
  } kRows[] = {
      {ENOENT, StatusCode::kNotFound},
      {EEXIST, StatusCode::kAlreadyExists},
      {EACCES, StatusCode::kPermissionDenied},
      {EROFS, StatusCode::kPermissionDenied},
      {ENOSPC, StatusCode::kResourceExhausted},
      {EDQUOT, StatusCode::kResourceExhausted},
      {EFBIG, StatusCode::kResourceExhausted},
      {ENOMEM, StatusCode::kResourceExhausted},
      {ENOTDIR, StatusCode::kInvalidArgument},
      {ELOOP, StatusCode::kInvalidArgument},
      {EIO, StatusCode::kDataLoss},
      {ECONNREFUSED, StatusCode::kUnavailable},
      {ENAMETOOLONG, StatusCode::kInvalidArgument},
      {EDOM, StatusCode::kUnknown},
  };
  for (const auto& row : kRows) {
    const Status status = ErrnoError(row.error, "cannot open a.jpg");
    EXPECT_EQ(status.code(), row.code) << status;
    EXPECT_EQ(status.message().rfind("cannot open a.jpg: ", 0), 0u) << status;
  }
}

Result<int> Half(int number) {
  if (number % 2 != 0) return InvalidArgumentError(std::to_string(number) + " is odd");
  return number / 2;
}

Result<int> Quarter(int number) {
  NSIC_ASSIGN_OR_RETURN(const int half, Half(number));
  NSIC_ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

TEST(ResultTest, CarriesAValueOrAStatus) {
  ASSERT_TRUE(Quarter(12).ok());
  EXPECT_EQ(*Quarter(12), 3);
  EXPECT_EQ(Quarter(6).status().message(), "3 is odd");
  EXPECT_EQ(Quarter(7).status().message(), "7 is odd");
}

TEST(ResultTest, MovesWhatCannotBeCopied) {
  Result<std::unique_ptr<int>> made(std::make_unique<int>(5));
  const std::unique_ptr<int> taken = *std::move(made);
  EXPECT_EQ(*taken, 5);
}

TEST(ResultTest, AnOkStatusWithoutAValueIsABug) {
  const Result<int> result{OkStatus()};
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), StatusCode::kInternal);
}

}  // namespace
}  // namespace nsic
