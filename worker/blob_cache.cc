#include "worker/blob_cache.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "core/base/digest.h"

namespace nsic {

Result<std::unique_ptr<BlobCache>> BlobCache::Open(const std::string& folder, int64_t limit, BlobTransfer* transfer) {
  NSIC_RETURN_IF_ERROR(MakeFolders(folder + "/blobs"));
  NSIC_RETURN_IF_ERROR(MakeFolders(folder + "/outbox"));
  const std::string path = folder + "/lock";
  UniqueFd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (!lock.valid()) return ErrnoError(errno, "cannot create " + path);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoError(errno, "cannot lock " + path);
    return FailedPreconditionError("another worker on this machine uses the cache " + folder + "; give this one another --name or --cache");
  }
  std::unique_ptr<BlobCache> cache(new BlobCache(folder, limit, transfer, std::move(lock)));
  NSIC_RETURN_IF_ERROR(cache->Recover());
  return cache;
}

BlobCache::BlobCache(std::string folder, int64_t limit, BlobTransfer* transfer, UniqueFd lock)
    : blobs_(folder + "/blobs"), outbox_(folder + "/outbox"), limit_(limit), transfer_(transfer), lock_(std::move(lock)) {}

Status BlobCache::Recover() {
  std::error_code error;
  std::vector<std::filesystem::path> leftovers;
  for (const auto& file : std::filesystem::directory_iterator(outbox_, error)) leftovers.push_back(file.path());
  if (error) return ErrnoError(error.value(), "cannot list " + outbox_);
  std::vector<std::pair<std::filesystem::file_time_type, std::string>> found;
  for (const auto& file : std::filesystem::directory_iterator(blobs_, error)) {
    const std::string name = file.path().filename();
    std::error_code unreadable;
    const auto time = file.last_write_time(unreadable);
    const auto size = file.file_size(unreadable);
    if (unreadable || !file.is_regular_file(unreadable) || !IsSha256Hex(name)) {
      leftovers.push_back(file.path());
      continue;
    }
    entries_[name].size = static_cast<int64_t>(size);
    bytes_ += static_cast<int64_t>(size);
    found.emplace_back(time, name);
  }
  if (error) return ErrnoError(error.value(), "cannot list " + blobs_);
  for (const auto& leftover : leftovers) {
    std::filesystem::remove_all(leftover, error);
    if (error) return ErrnoError(error.value(), "cannot remove " + leftover.string());
  }
  std::sort(found.begin(), found.end());
  for (const auto& [time, name] : found) entries_[name].last_use = ++uses_;
  std::lock_guard<std::mutex> lock(mutex_);
  Shrink();
  return OkStatus();
}

Result<std::unique_ptr<BlobCache::Pin>> BlobCache::Get(const std::string& sha256, int64_t size, const CancelToken& cancel) {
  return Obtain(
      sha256, size, [&](const std::string& path) { return transfer_->DownloadFile(sha256, size, path, cancel); }, cancel);
}

Result<std::unique_ptr<BlobCache::Pin>> BlobCache::GetPart(const std::string& blob_sha256, int64_t offset, int64_t size,
                                                           const std::string& part_sha256, const CancelToken& cancel) {
  // Neither synced nor resumed: a part is small, and what a crash leaves of it is hashed before it is used.
  const auto download = [&](const std::string& path) -> Status {
    NSIC_ASSIGN_OR_RETURN(const std::string bytes, transfer_->DownloadPart(blob_sha256, offset, size, part_sha256, cancel));
    const std::string part = path + ".part";
    const UniqueFd fd(::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!fd.valid()) return ErrnoError(errno, "cannot create " + part);
    NSIC_RETURN_IF_ERROR(WriteAll(fd.get(), bytes, part));
    if (::rename(part.c_str(), path.c_str()) != 0) return ErrnoError(errno, "cannot rename " + part);
    return OkStatus();
  };
  return Obtain(part_sha256, size, download, cancel);
}

Result<std::unique_ptr<BlobCache::Pin>> BlobCache::Obtain(const std::string& sha256, int64_t size, const Download& download,
                                                          const CancelToken& cancel) {
  if (!IsSha256Hex(sha256) || size < 0) return InvalidArgumentError("'" + sha256 + "' does not name a blob");
  const CancelCallback wake(cancel, [this] {
    std::lock_guard<std::mutex> lock(mutex_);
    changed_.notify_all();
  });
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] {
    const auto entry = entries_.find(sha256);
    return cancel.cancelled() || entry == entries_.end() || !entry->second.busy;
  });
  NSIC_RETURN_IF_ERROR(cancel.Check());
  Entry& entry = entries_[sha256];  // stays while it is pinned
  ++entry.pins;
  entry.last_use = ++uses_;
  if (!entry.verified) {
    entry.busy = true;
    const bool there = entry.size > 0;
    lock.unlock();
    const Status status = Fetch(sha256, there, download);
    lock.lock();
    entry.busy = false;
    changed_.notify_all();
    if (!status.ok()) {
      if (--entry.pins == 0) {
        ::unlink(PathOf(sha256).c_str());
        ::unlink((PathOf(sha256) + ".part").c_str());  // on a full disk above all
        bytes_ -= entry.size;
        entries_.erase(sha256);
      }
      return status;
    }
    entry.verified = true;
    bytes_ += size - entry.size;
    entry.size = size;
    Shrink();
  }
  // The order of use outlives this process in the files' times; that one of them cannot be set does no harm.
  ::utimensat(AT_FDCWD, PathOf(sha256).c_str(), nullptr, 0);
  return std::make_unique<Pin>(this, sha256, PathOf(sha256));
}

Status BlobCache::Fetch(const std::string& sha256, bool there, const Download& download) {
  const std::string path = PathOf(sha256);
  if (there) {
    const Result<std::string> hash = Sha256OfFile(path);
    if (hash.ok() && *hash == sha256) return OkStatus();
    spdlog::warn("the cached blob {} is damaged; fetching it again", path);
    ::unlink(path.c_str());
  }
  return download(path);
}

void BlobCache::Unpin(const std::string& sha256) {
  std::lock_guard<std::mutex> lock(mutex_);
  --entries_.at(sha256).pins;
  Shrink();
}

void BlobCache::Shrink() {
  while (bytes_ > limit_) {
    auto oldest = entries_.end();
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
      if (entry->second.pins == 0 && (oldest == entries_.end() || entry->second.last_use < oldest->second.last_use)) oldest = entry;
    }
    if (oldest == entries_.end()) return;  // everything is in use
    ::unlink(PathOf(oldest->first).c_str());
    bytes_ -= oldest->second.size;
    entries_.erase(oldest);
  }
}

}  // namespace nsic
