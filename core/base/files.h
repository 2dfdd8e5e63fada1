// Files, with errors that name them, and writes that are there whole or not at all.
#ifndef NSIC_CORE_BASE_FILES_H_
#define NSIC_CORE_BASE_FILES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/status.h"

namespace nsic {

// Owns a file descriptor.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  ~UniqueFd() { reset(); }
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

Result<UniqueFd> OpenForReading(const std::string& path);

// Up to `size` bytes from where the descriptor stands; 0 at the end of the file. `what` names the file in messages.
Result<size_t> ReadSome(int fd, void* buffer, size_t size, const std::string& what);
// All of `bytes`, where the descriptor stands.
Status WriteAll(int fd, std::string_view bytes, const std::string& what);

// The whole file; RESOURCE_EXHAUSTED if it is larger than `limit` bytes.
Result<std::string> ReadFile(const std::string& path, int64_t limit = int64_t{1} << 32);

// Writes a temporary file beside `path`, syncs it, renames it over `path`, syncs the folder. On an error nothing is left behind.
Status WriteFileAtomically(const std::string& path, std::string_view bytes);

// Flushes a folder's entries to the disk, so that a rename in it survives a power cut.
Status SyncFolder(const std::string& path);

// Makes the folder and its parents. OK if it is there.
Status MakeFolders(const std::string& path);

}  // namespace nsic

#endif  // NSIC_CORE_BASE_FILES_H_
