// A blob of the coordinator as a file that is read in ranges: only the parts that are asked for cross the network, each verified by its
// own hash, kept on disk in the cache and shared by all who read the blob.
#ifndef NSIC_WORKER_RANGE_SOURCE_H_
#define NSIC_WORKER_RANGE_SOURCE_H_

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/base/cancel.h"
#include "core/base/status.h"
#include "core/media/byte_source.h"
#include "core/rpc/blob_transfer.h"
#include "worker/blob_cache.h"

namespace nsic {

// Thread-safe.
class RangeReader {
 public:
  // Both must outlive the reader and all that it opens.
  RangeReader(BlobCache* cache, BlobTransfer* transfer) : cache_(cache), transfer_(transfer) {}

  // `display` is what messages call it. Reads wait for a coordinator that is away until `cancel` is set, which must live as long as the
  // source. Reading on towards the end of a part fetches the next one in the background. Errors of opening and of reads are those of
  // BlobTransfer (DATA_LOSS: what arrives does not have its hash) and BlobCache.
  Result<std::unique_ptr<ByteSource>> Open(const std::string& sha256, int64_t size, const std::string& display, const CancelToken& cancel);

 private:
  using Hashes = std::shared_ptr<const std::vector<std::string>>;
  Result<Hashes> HashesOf(const std::string& sha256, int64_t size, const CancelToken& cancel);

  BlobCache* const cache_;
  BlobTransfer* const transfer_;
  std::mutex mutex_;
  std::list<std::pair<std::string, Hashes>> known_;  // by blob and size, the latest opened first; guarded by mutex_
};

}  // namespace nsic

#endif  // NSIC_WORKER_RANGE_SOURCE_H_
