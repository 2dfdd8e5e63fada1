#include "worker/fetch_source.h"

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/digest.h"
#include "core/base/files.h"

namespace nsic {
namespace {

constexpr size_t kMostRemembered = 64;

int64_t Nanoseconds(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

FileStamp StampOf(const struct stat& info) {
  return {info.st_dev, info.st_ino, info.st_size, Nanoseconds(info.st_mtim), Nanoseconds(info.st_ctim)};
}

// Time stamps are as coarse as the kernel's tick, or two seconds on FAT: a file that has just changed may change again under the same
// stamp. Compared with the clock that stamps files, so not the injected one.
bool IsSettled(const FileStamp& stamp) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return Nanoseconds(now) - stamp.changed_ns > int64_t{4} * 1'000'000'000;
}

Result<std::string> RealPath(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return ErrnoError(errno, "cannot find " + path);
  std::string text(resolved);
  ::free(resolved);
  return text;
}

bool IsInside(const std::string& path, const std::string& root) {
  if (root == "/") return true;
  return path.size() > root.size() && path.compare(0, root.size(), root) == 0 && path[root.size()] == '/';
}

Status Changed(const std::string& path) { return DataLossError(path + " has changed since the job was submitted; submit it again"); }

}  // namespace

Status SourceHandle::CheckUnchanged() const {
  if (!stamp_.has_value()) return OkStatus();
  struct stat info {};
  if (::stat(path_.c_str(), &info) != 0) return DataLossError(path_ + " has vanished while it was restored");
  if (!(StampOf(info) == *stamp_)) return Changed(path_);
  return OkStatus();
}

Result<std::unique_ptr<SourceFetcher>> SourceFetcher::Make(const std::map<std::string, std::string>& roots, BlobCache* cache) {
  std::map<std::string, std::string> resolved;
  for (const auto& [id, folder] : roots) {
    NSIC_ASSIGN_OR_RETURN(resolved[id], RealPath(folder));
    struct stat info {};
    if (::stat(resolved[id].c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
      return InvalidArgumentError("the media root " + folder + " is not a folder");
    }
  }
  return std::unique_ptr<SourceFetcher>(new SourceFetcher(std::move(resolved), cache));
}

Result<std::unique_ptr<SourceHandle>> SourceFetcher::Fetch(const v1::SourceFile& source, const CancelToken& cancel) {
  if (source.has_in_place()) return OpenInPlace(source, cancel);
  Result<std::unique_ptr<BlobCache::Pin>> pin = cache_->Get(source.content().sha256(), source.content().size(), cancel);
  if (!pin.ok()) return pin.status().WithContext("fetching " + source.path());
  const std::string path = (*pin)->path();
  return std::make_unique<SourceHandle>(path, source.path(), *std::move(pin), std::nullopt);
}

// The path is checked, then opened by its resolved name. Whoever can write under the root could swap a folder for a link in between;
// what he would gain is that a file is read whose hash he knows already: any other bytes are refused.
Result<std::unique_ptr<SourceHandle>> SourceFetcher::OpenInPlace(const v1::SourceFile& source, const CancelToken& cancel) {
  const auto root = roots_.find(source.in_place().root_id());
  if (root == roots_.end()) {
    return FailedPreconditionError("this worker has no media root '" + source.in_place().root_id() + "'; start it with --media-root " +
                                   source.in_place().root_id() + "=FOLDER");
  }
  const std::string& relative = source.in_place().path();
  if (relative.empty() || relative[0] == '/' || relative.find('\0') != std::string::npos) {
    return InvalidArgumentError("'" + relative.substr(0, relative.find('\0')) + "' is not a path relative to a media root");
  }
  NSIC_ASSIGN_OR_RETURN(const std::string path, RealPath(root->second + "/" + relative));
  if (!IsInside(path, root->second)) {
    return InvalidArgumentError(path + " (from '" + relative + "') is outside the media root " + root->second);
  }

  // Without O_NONBLOCK, opening a named pipe would wait for a writer for ever.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return ErrnoError(errno, "cannot open " + path);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return ErrnoError(errno, "cannot examine " + path);
  if (!S_ISREG(info.st_mode)) return InvalidArgumentError(path + " is not a regular file");
  const FileStamp stamp = StampOf(info);
  if (stamp.size != source.content().size()) return Changed(path);

  bool known = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = hashed_.find(path);
    known = found != hashed_.end() && found->second.stamp == stamp && found->second.sha256 == source.content().sha256();
  }
  if (!known) {
    Sha256 digest;
    std::vector<char> buffer(size_t{1} << 20);
    while (true) {
      NSIC_RETURN_IF_ERROR(cancel.Check());
      NSIC_ASSIGN_OR_RETURN(const size_t got, ReadSome(fd.get(), buffer.data(), buffer.size(), path));
      if (got == 0) break;
      digest.Update(buffer.data(), got);
    }
    if (digest.Hex() != source.content().sha256()) return Changed(path);
    if (IsSettled(stamp)) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (hashed_.size() >= kMostRemembered) hashed_.clear();
      hashed_[path] = {stamp, source.content().sha256()};
    }
  }
  return std::make_unique<SourceHandle>(path, path, nullptr, stamp);
}

}  // namespace nsic
