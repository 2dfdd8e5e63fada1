#include "core/base/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "core/base/digest.h"

namespace nsic {

void UniqueFd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Result<UniqueFd> OpenForReading(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoError(errno, "cannot open " + path);
  return fd;
}

Result<size_t> ReadSome(int fd, void* buffer, size_t size, const std::string& what) {
  while (true) {
    const ssize_t got = ::read(fd, buffer, size);
    if (got >= 0) return static_cast<size_t>(got);
    if (errno != EINTR) return ErrnoError(errno, "cannot read " + what);
  }
}

Status WriteAll(int fd, std::string_view bytes, const std::string& what) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(fd, bytes.data(), bytes.size());
    if (wrote < 0) {
      if (errno == EINTR) continue;
      return ErrnoError(errno, "cannot write " + what);
    }
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  return OkStatus();
}

Result<std::string> ReadFile(const std::string& path, int64_t limit) {
  NSIC_ASSIGN_OR_RETURN(UniqueFd fd, OpenForReading(path));
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return ErrnoError(errno, "cannot examine " + path);
  if (S_ISDIR(info.st_mode)) return InvalidArgumentError(path + " is a folder, not a file");
  if (info.st_size > limit) {
    return ResourceExhaustedError(path + " has " + std::to_string(info.st_size) + " bytes, over the limit of " + std::to_string(limit));
  }
  std::string bytes;
  bytes.reserve(static_cast<size_t>(info.st_size));
  char buffer[size_t{1} << 16];
  while (true) {
    NSIC_ASSIGN_OR_RETURN(const size_t got, ReadSome(fd.get(), buffer, sizeof buffer, path));
    if (got == 0) return bytes;
    bytes.append(buffer, got);
    if (static_cast<int64_t>(bytes.size()) > limit) {
      return ResourceExhaustedError(path + " is over the limit of " + std::to_string(limit) + " bytes");
    }
  }
}

Status WriteFileAtomically(const std::string& path, std::string_view bytes) {
  const std::string temporary = path + ".tmp-" + RandomHex(6);
  UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!fd.valid()) return ErrnoError(errno, "cannot create " + temporary);
  Status status = WriteAll(fd.get(), bytes, temporary);
  if (status.ok() && ::fsync(fd.get()) != 0) status = ErrnoError(errno, "cannot sync " + temporary);
  fd.reset();
  if (status.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) status = ErrnoError(errno, "cannot rename to " + path);
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return SyncFolder(folder.empty() ? "." : folder);
}

Status SyncFolder(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoError(errno, "cannot open folder " + path);
  if (::fsync(fd.get()) != 0) return ErrnoError(errno, "cannot sync folder " + path);
  return OkStatus();
}

Status MakeFolders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return ErrnoError(error.value(), "cannot make folder " + path);
  return OkStatus();
}

}  // namespace nsic
