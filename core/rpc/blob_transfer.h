// Moves blobs between a local file and the coordinator, going on where a broken transfer stopped and checking every hash.
#ifndef NSIC_CORE_RPC_BLOB_TRANSFER_H_
#define NSIC_CORE_RPC_BLOB_TRANSFER_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/cancel.h"
#include "core/base/status.h"
#include "core/rpc/channel.h"

namespace nsic {

inline constexpr int64_t kBlobPartBytes = int64_t{4} << 20;  // what each of BlobStat.chunk_sha256 covers

// Thread-safe. Each stream has the policy's deadline; one that ends by it, or breaks, is followed by another that goes on where the
// last one stopped. Only streams that moved nothing count as the policy's attempts.
class BlobTransfer {
 public:
  // Bytes that are safely past since the last call; those that an earlier attempt had moved already count in the first call, bytes
  // moved twice count once. The sum over a successful transfer is the blob's size.
  using Progress = std::function<void(int64_t bytes)>;

  explicit BlobTransfer(std::shared_ptr<grpc::Channel> channel, RetryPolicy policy = {});
  ~BlobTransfer();

  // Uploads a file whose SHA-256 and size the caller has computed; nothing is sent if the blob is stored. DATA_LOSS when the file has
  // changed since; RESOURCE_EXHAUSTED when the coordinator is out of room (the caller may wait and call again).
  Status UploadFile(const std::string& path, const std::string& sha256, int64_t size, const CancelToken& cancel,
                    const Progress& progress = nullptr);
  Status UploadBytes(std::string_view bytes, const std::string& sha256, const CancelToken& cancel);

  // Downloads to `path` by way of a temporary file beside it ("PATH.part", from which an interrupted download goes on), checks the hash,
  // syncs and renames. DATA_LOSS when the bytes do not have the hash, ABORTED when another process is downloading to the same path.
  Status DownloadFile(const std::string& sha256, int64_t size, const std::string& path, const CancelToken& cancel,
                      const Progress& progress = nullptr);
  // Into memory: for manifests and model packs.
  Result<std::string> DownloadBytes(const std::string& sha256, int64_t size, const CancelToken& cancel);

  // The SHA-256 of each kBlobPartBytes of a stored blob, the last part shorter, in hexadecimal. NOT_FOUND when it is not stored, DATA_LOSS
  // when the coordinator's list does not fit the size.
  Result<std::vector<std::string>> PartHashes(const std::string& sha256, int64_t size, const CancelToken& cancel);
  // `size` bytes of a stored blob from `offset` on, into memory. DATA_LOSS when they do not have the hash `part_sha256`.
  Result<std::string> DownloadPart(const std::string& sha256, int64_t offset, int64_t size, const std::string& part_sha256,
                                   const CancelToken& cancel);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nsic

#endif  // NSIC_CORE_RPC_BLOB_TRANSFER_H_
