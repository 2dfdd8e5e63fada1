// Blobs of the coordinator kept on this machine's disk: sources that several tile tasks read, parts of those that are read piece by piece,
// model packs. Bounded, least recently used goes first.
#ifndef NSIC_WORKER_BLOB_CACHE_H_
#define NSIC_WORKER_BLOB_CACHE_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "core/base/cancel.h"
#include "core/base/files.h"
#include "core/base/status.h"
#include "core/rpc/blob_transfer.h"

namespace nsic {

// A folder with "blobs/HASH", "outbox/" and "lock". Thread-safe. Used by one worker at a time.
class BlobCache {
 public:
  // Makes the folder where needed, locks it (FAILED_PRECONDITION when another worker has it), and removes what an earlier worker left
  // half done. Keeps at most `limit` bytes of blobs, beyond those in use. `transfer` must outlive the cache.
  static Result<std::unique_ptr<BlobCache>> Open(const std::string& folder, int64_t limit, BlobTransfer* transfer);

  // The folder for results on their way out.
  const std::string& outbox() const { return outbox_; }

  // A blob that stays on the disk as long as this lives. Must not outlive the cache.
  class Pin {
   public:
    Pin(BlobCache* cache, std::string sha256, std::string path) : cache_(cache), sha256_(std::move(sha256)), path_(std::move(path)) {}
    ~Pin() { cache_->Unpin(sha256_); }
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;
    const std::string& path() const { return path_; }

   private:
    BlobCache* const cache_;
    const std::string sha256_;
    const std::string path_;
  };

  // Fetches what is not there; what an earlier worker left is hashed before it is used. INVALID_ARGUMENT for what is no hash.
  Result<std::unique_ptr<Pin>> Get(const std::string& sha256, int64_t size, const CancelToken& cancel);
  // `size` bytes of a blob from `offset` on, which have the hash `part_sha256`: kept by that name, as if they were a blob.
  Result<std::unique_ptr<Pin>> GetPart(const std::string& blob_sha256, int64_t offset, int64_t size, const std::string& part_sha256,
                                       const CancelToken& cancel);

 private:
  using Download = std::function<Status(const std::string& path)>;
  struct Entry {
    int64_t size = 0;
    int pins = 0;
    bool verified = false;  // by this process
    bool busy = false;      // one thread fetches or hashes it
    uint64_t last_use = 0;
  };

  BlobCache(std::string folder, int64_t limit, BlobTransfer* transfer, UniqueFd lock);
  Status Recover();
  std::string PathOf(const std::string& sha256) const { return blobs_ + "/" + sha256; }
  Result<std::unique_ptr<Pin>> Obtain(const std::string& sha256, int64_t size, const Download& download, const CancelToken& cancel);
  Status Fetch(const std::string& sha256, bool there, const Download& download);
  void Unpin(const std::string& sha256);
  void Shrink();  // with mutex_ held

  const std::string blobs_;
  const std::string outbox_;
  const int64_t limit_;
  BlobTransfer* const transfer_;
  const UniqueFd lock_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Entry> entries_;  // guarded by mutex_, as all below
  int64_t bytes_ = 0;
  uint64_t uses_ = 0;
};

}  // namespace nsic

#endif  // NSIC_WORKER_BLOB_CACHE_H_
