#include "core/base/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace nsic {
namespace {

namespace fs = std::filesystem;

class FilesTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/files_test_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  int64_t Entries() const { return std::distance(fs::directory_iterator(folder_), fs::directory_iterator()); }

  std::string folder_;
};

TEST_F(FilesTest, WritesAndReadsBack) {
  const std::string path = folder_ + "/a";
  const std::string kContents[] = {"", "short", std::string("nul\0inside", 10), std::string(200'000, 'z')};
  for (const std::string& bytes : kContents) {
    ASSERT_TRUE(WriteFileAtomically(path, bytes).ok());
    const Result<std::string> read = ReadFile(path);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, bytes) << bytes.size() << " bytes";
    EXPECT_EQ(Entries(), 1) << "a temporary file was left";
  }
}

TEST_F(FilesTest, ReadingSaysWhatIsWrong) {
  const struct {
    std::string path;
    StatusCode code;
  } kRows[] = {
      {folder_ + "/absent", StatusCode::kNotFound},
      {folder_, StatusCode::kInvalidArgument},
      {folder_ + "/loop", StatusCode::kInvalidArgument},
  };
  fs::create_symlink("loop", folder_ + "/loop");
  for (const auto& row : kRows) {
    const Status status = ReadFile(row.path).status();
    EXPECT_EQ(status.code(), row.code) << row.path << ": " << status;
    EXPECT_NE(status.message().find(row.path), std::string::npos) << status;
  }
}

TEST_F(FilesTest, ReadingStopsAtTheLimit) {
  const std::string path = folder_ + "/a";
  ASSERT_TRUE(WriteFileAtomically(path, "12345").ok());
  EXPECT_TRUE(ReadFile(path, 5).ok());
  EXPECT_EQ(ReadFile(path, 4).status().code(), StatusCode::kResourceExhausted);
  // A file that tells no size beforehand is stopped while it is read.
  EXPECT_EQ(ReadFile("/dev/zero", 100'000).status().code(), StatusCode::kResourceExhausted);
}

// The process may write no more than 4 KiB to a file: what a full disk looks like, without one.
class FileSizeLimit {
 public:
  FileSizeLimit() {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = 4096;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, SIG_DFL);
  }

 private:
  rlimit before_;
};

TEST_F(FilesTest, AWriteThatFailsLeavesTheOldFileAndNothingElse) {
  const std::string path = folder_ + "/a";
  ASSERT_TRUE(WriteFileAtomically(path, "old").ok());
  Status status;
  {
    FileSizeLimit limit;
    status = WriteFileAtomically(path, std::string(10'000, 'n'));
  }
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
  EXPECT_NE(status.message().find(path), std::string::npos) << status;
  EXPECT_EQ(*ReadFile(path), "old");
  EXPECT_EQ(Entries(), 1) << "a temporary file was left";
}

TEST_F(FilesTest, AFullDeviceIsResourceExhausted) {
  const UniqueFd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(full.valid());
  const Status status = WriteAll(full.get(), "x", "/dev/full");
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
}

TEST_F(FilesTest, WritingWhereThereIsNoFolder) {
  const Status status = WriteFileAtomically(folder_ + "/no/such/file", "x");
  EXPECT_EQ(status.code(), StatusCode::kNotFound) << status;
}

TEST_F(FilesTest, MakesFoldersOnceAndAgain) {
  EXPECT_TRUE(MakeFolders(folder_ + "/x/y/z").ok());
  EXPECT_TRUE(MakeFolders(folder_ + "/x/y/z").ok());
  EXPECT_TRUE(fs::is_directory(folder_ + "/x/y/z"));
  ASSERT_TRUE(WriteFileAtomically(folder_ + "/file", "").ok());
  const Status status = MakeFolders(folder_ + "/file/below");
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
}

TEST_F(FilesTest, UniqueFdClosesOnce) {
  UniqueFd first(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = first.get();
  UniqueFd second(std::move(first));
  EXPECT_FALSE(first.valid());  // NOLINT(bugprone-use-after-move): the state after a move is what is tested
  EXPECT_EQ(second.get(), number);
  second.reset();
  EXPECT_FALSE(second.valid());
  EXPECT_EQ(fcntl(number, F_GETFD), -1);
}

}  // namespace
}  // namespace nsic
