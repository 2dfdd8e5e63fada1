// Blobs on disk: files named by the SHA-256 of their bytes, received in pieces, published whole or not at all.
//
// FOLDER/blobs/abcd...     published: synced, verified, never changed
// FOLDER/uploads/abcd...   what has arrived of an unfinished upload
//
// A blob exists when the index says so. Order of publishing: write, hash, fsync, rename, fsync the folder, then the index; of
// removing: the index, then the file. So a crash leaves at most a file that the index does not know, which Open() takes up (a blob
// whose upload lacked only its index entry) or deletes (one that was being removed).
#ifndef NSIC_CORE_FARM_BLOB_STORE_H_
#define NSIC_CORE_FARM_BLOB_STORE_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/digest.h"
#include "core/base/files.h"
#include "core/base/status.h"

namespace nsic {

inline constexpr int64_t kBlobChunkBytes = int64_t{4} << 20;

struct BlobRecord {
  std::string sha256;
  int64_t size = 0;
  std::string chunks;  // 32 bytes for every started 4 MiB: SHA-256 of each
};

// Which blobs there are. The coordinator keeps it in its database. Thread-safe; durable when a call returns.
class BlobIndex {
 public:
  virtual ~BlobIndex() = default;
  virtual Result<std::optional<BlobRecord>> Find(const std::string& sha256) = 0;
  virtual Status Add(const BlobRecord& blob) = 0;
  // Strikes out those of `sha256s` that nobody needs any more, judged in one transaction, and returns them.
  virtual Result<std::vector<std::string>> Strike(const std::vector<std::string>& sha256s) = 0;
  virtual Result<std::vector<BlobRecord>> List() = 0;  // without `chunks`
  // True if the blob was in the index once and was struck out: its file is a leftover.
  virtual Result<bool> WasStruck(const std::string& sha256) = 0;
};

class BlobUpload;
class BlobReader;

// Thread-safe. Uploads and readers must not outlive the store.
class BlobStore {
 public:
  struct Options {
    std::string folder;
    int64_t quota = 0;  // bytes of blobs and unfinished uploads; 0: what the disk holds
    // Asked to remove blobs that can go, of at least so many bytes, before an upload is refused. Called with no lock held.
    std::function<void(int64_t bytes)> make_room;
    // Called between the steps of publishing and removing: kill-point tests end the process here.
    std::function<void(std::string_view step)> at_step;
  };

  // Makes the folders and brings files and index into agreement after a crash. `index` must outlive the store.
  static Result<std::unique_ptr<BlobStore>> Open(Options options, BlobIndex* index);
  ~BlobStore();

  struct Stat {
    std::optional<BlobRecord> stored;
    int64_t received = 0;  // bytes of an unfinished upload
  };
  Result<Stat> Examine(const std::string& sha256);

  // Begins or goes on with an upload; takes it over from another call that is at it (which then gets UNAVAILABLE). At least
  // `leave_free` bytes must be left beside it. nullptr if the blob is stored already.
  // INVALID_ARGUMENT: not a SHA-256, a wrong size, or a blob over the whole quota or disk. OUT_OF_RANGE: `offset` is not what has been
  // received. RESOURCE_EXHAUSTED: no room now.
  Result<std::unique_ptr<BlobUpload>> BeginUpload(const std::string& sha256, int64_t size, int64_t offset, int64_t leave_free = 0);

  // `length` 0 means to the end. NOT_FOUND; OUT_OF_RANGE when the range is not inside the blob.
  Result<std::unique_ptr<BlobReader>> OpenBlob(const std::string& sha256, int64_t offset, int64_t length);

  // The whole blob; RESOURCE_EXHAUSTED above `limit` bytes, DATA_LOSS if the file no longer has its hash.
  Result<std::string> ReadAll(const std::string& sha256, int64_t limit);
  // Stores bytes made by this process; returns their hash.
  Result<std::string> Put(std::string_view bytes);

  // Removes those that the index agrees to strike out; returns the bytes freed.
  Result<int64_t> Remove(const std::vector<std::string>& sha256s);
  // Drops unfinished uploads that nobody is at and that have not grown for `idle_ms`; returns the bytes freed.
  int64_t DropIdleUploads(int64_t idle_ms);

  struct Usage {
    int64_t blobs = 0;
    int64_t stored_bytes = 0;
    int64_t upload_bytes = 0;  // running uploads count with their full size
    int64_t quota = 0;
    int64_t capacity = 0;  // what blobs and uploads can take in all: the quota, or what is used and what the disk has left
    int64_t used() const { return stored_bytes + upload_bytes; }
  };
  Usage usage() const;
  // Of unfinished uploads other than this one, counted as in Usage.
  int64_t UploadBytesBeside(const std::string& sha256) const;
  // False when less than a tenth of the capacity (or a gigabyte, if that is less) is left: new outputs may not fit.
  bool HasRoom() const { return MissingForMargin() == 0; }
  // How much must go until HasRoom().
  int64_t MissingForMargin() const;

 private:
  friend class BlobUpload;
  struct Transfer;  // an unfinished upload that some call is at
  class Reserved;   // keeps one hash to one publisher or remover at a time

  BlobStore(Options options, BlobIndex* index);
  Status Recover();
  Status AdoptOrDelete(const std::string& path, const std::string& sha256);
  std::string BlobFolder() const;
  std::string BlobPath(const std::string& sha256) const;
  std::string UploadPath(const std::string& sha256) const;
  void AtStep(std::string_view step) const;
  // Bytes that blobs and uploads take; mutex_ must be held, as for all below.
  int64_t UsedBytes() const;
  int64_t Capacity() const;
  // How much too little room there is for this blob; 0: there is enough.
  int64_t MissingRoom(const std::string& sha256, int64_t size, int64_t leave_free) const;
  Status Publish(Transfer& transfer);
  Status Receive(Transfer& transfer, std::string_view data);

  const Options options_;
  BlobIndex* const index_;

  mutable std::mutex mutex_;
  std::condition_variable released_;
  std::set<std::string> reserved_;                              // guarded by mutex_
  std::map<std::string, std::shared_ptr<Transfer>> transfers_;  // guarded by mutex_
  std::map<std::string, int64_t> idle_;                         // guarded by mutex_: bytes of uploads that nobody is at
  int64_t blobs_ = 0;                                           // guarded by mutex_
  int64_t stored_bytes_ = 0;                                    // guarded by mutex_
  uint64_t next_owner_ = 1;                                     // guarded by mutex_
};

// One call's hold on an upload. Destroying it before Finish() keeps what has arrived. Not thread-safe.
class BlobUpload {
 public:
  ~BlobUpload();
  // UNAVAILABLE when another call has taken the upload over; INVALID_ARGUMENT past the announced size; RESOURCE_EXHAUSTED: disk full.
  Status Append(std::string_view data);
  int64_t received() const;
  // True: the blob is published. False: bytes are missing. DATA_LOSS: the hash does not match; what has arrived is dropped.
  Result<bool> Finish();

 private:
  friend class BlobStore;
  BlobUpload(BlobStore* store, std::shared_ptr<BlobStore::Transfer> transfer, uint64_t owner);
  BlobStore* const store_;
  const std::shared_ptr<BlobStore::Transfer> transfer_;
  const uint64_t owner_;
};

// Reads a range in order. Stays valid when the blob is removed meanwhile. Not thread-safe.
class BlobReader {
 public:
  // Up to `limit` bytes; empty at the end of the range. DATA_LOSS if the file is shorter than it should be.
  Result<std::string> Read(size_t limit);

 private:
  friend class BlobStore;
  BlobReader(UniqueFd fd, std::string path, int64_t length) : fd_(std::move(fd)), path_(std::move(path)), left_(length) {}
  UniqueFd fd_;
  const std::string path_;
  int64_t left_;
};

}  // namespace nsic

#endif  // NSIC_CORE_FARM_BLOB_STORE_H_
