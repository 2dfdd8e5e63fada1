#include "core/media/byte_source.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "core/base/files.h"

namespace nsic {
namespace {

class FileSource : public ByteSource {
 public:
  FileSource(UniqueFd fd, int64_t size, std::string path) : fd_(std::move(fd)), size_(size), path_(std::move(path)) {}

  int64_t size() const override { return size_; }
  const std::string& display() const override { return path_; }

  Result<size_t> Read(int64_t offset, char* buffer, size_t bytes) override {
    while (true) {
      const ssize_t got = ::pread(fd_.get(), buffer, bytes, offset);
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR) return ErrnoError(errno, "cannot read " + path_);
    }
  }

 private:
  const UniqueFd fd_;
  const int64_t size_;
  const std::string path_;
};

}  // namespace

Result<std::unique_ptr<ByteSource>> OpenFileSource(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(UniqueFd fd, OpenForReading(path));
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return ErrnoError(errno, "cannot examine " + path);
  if (!S_ISREG(info.st_mode)) return InvalidArgumentError(path + " is not a regular file");
  return std::unique_ptr<ByteSource>(std::make_unique<FileSource>(std::move(fd), info.st_size, path));
}

}  // namespace nsic
