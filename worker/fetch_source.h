// Brings a task's source file within reach: from the coordinator through the cache, or where it lies under a media root. Its bytes
// have the hash that the task names, or it is an error.
#ifndef NSIC_WORKER_FETCH_SOURCE_H_
#define NSIC_WORKER_FETCH_SOURCE_H_

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "core/base/cancel.h"
#include "core/base/status.h"
#include "nsic/v1/jobs.pb.h"
#include "worker/blob_cache.h"

namespace nsic {

// What identifies a state of a file without reading it.
struct FileStamp {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t size = 0;
  int64_t modified_ns = 0;
  int64_t changed_ns = 0;
  friend bool operator==(const FileStamp& a, const FileStamp& b) {
    return a.device == b.device && a.inode == b.inode && a.size == b.size && a.modified_ns == b.modified_ns && a.changed_ns == b.changed_ns;
  }
};

// A source file that can be read at path() while this lives.
class SourceHandle {
 public:
  SourceHandle(std::string path, std::string display, std::unique_ptr<BlobCache::Pin> pin, std::optional<FileStamp> stamp)
      : path_(std::move(path)), display_(std::move(display)), pin_(std::move(pin)), stamp_(stamp) {}

  const std::string& path() const { return path_; }
  // What to call it in messages: the file's own path, not that of a cached blob.
  const std::string& display() const { return display_; }

  // For after the work: DATA_LOSS if a file read in place is no longer the one that was hashed. Cached blobs do not change.
  Status CheckUnchanged() const;

 private:
  const std::string path_;
  const std::string display_;
  const std::unique_ptr<BlobCache::Pin> pin_;  // null: in place
  const std::optional<FileStamp> stamp_;       // in place
};

// Thread-safe.
class SourceFetcher {
 public:
  // `roots`: media root id to folder. `cache` must outlive the fetcher. NOT_FOUND for a folder that is not there.
  static Result<std::unique_ptr<SourceFetcher>> Make(const std::map<std::string, std::string>& roots, BlobCache* cache);

  // In place: INVALID_ARGUMENT for a path that leaves its root (symbolic links followed) or is no regular file, DATA_LOSS when the bytes
  // have changed, NOT_FOUND, PERMISSION_DENIED; FAILED_PRECONDITION for a root that this worker does not have.
  // Else what BlobCache::Get returns.
  Result<std::unique_ptr<SourceHandle>> Fetch(const v1::SourceFile& source, const CancelToken& cancel);

 private:
  SourceFetcher(std::map<std::string, std::string> roots, BlobCache* cache) : roots_(std::move(roots)), cache_(cache) {}
  Result<std::unique_ptr<SourceHandle>> OpenInPlace(const v1::SourceFile& source, const CancelToken& cancel);

  const std::map<std::string, std::string> roots_;  // folders without symbolic links
  BlobCache* const cache_;

  // Files hashed lately: the tile tasks of one picture need not read it whole each time.
  struct Hashed {
    FileStamp stamp;
    std::string sha256;
  };
  std::mutex mutex_;
  std::map<std::string, Hashed> hashed_;  // by path; guarded by mutex_
};

}  // namespace nsic

#endif  // NSIC_WORKER_FETCH_SOURCE_H_
