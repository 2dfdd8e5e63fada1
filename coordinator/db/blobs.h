// The table of blobs, and which of them are still needed.
#ifndef NSIC_COORDINATOR_DB_BLOBS_H_
#define NSIC_COORDINATOR_DB_BLOBS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/db/database.h"
#include "core/base/clock.h"
#include "core/farm/blob_store.h"

namespace nsic {

// A blob that no job, task or model mentions is kept this long after someone was told that it is there: it is about to be mentioned.
inline constexpr int64_t kUnmentionedBlobMs = int64_t{3600} * 1000;
// A fetched output is kept this long, room permitting: the same work asked again is answered with it.
inline constexpr int64_t kFetchedOutputMs = int64_t{7} * 24 * 3600 * 1000;

// What the blob store keeps in the database. Storing a blob queues the tasks that waited for it, in the same transaction.
class DatabaseBlobIndex : public BlobIndex {
 public:
  DatabaseBlobIndex(Database* database, const Clock* clock) : database_(database), clock_(clock) {}
  Result<std::optional<BlobRecord>> Find(const std::string& sha256) override;
  Status Add(const BlobRecord& blob) override;
  Result<std::vector<std::string>> Strike(const std::vector<std::string>& sha256s) override;
  Result<std::vector<BlobRecord>> List() override;
  Result<bool> WasStruck(const std::string& sha256) override;

 private:
  Database* const database_;
  const Clock* const clock_;
};

bool IsStored(Transaction& transaction, const std::string& sha256);
// The caller is going to tell someone that the blob is there.
void TouchBlob(Transaction& transaction, const std::string& sha256, int64_t now_ms);
// One that mentioned the blob does so no more: it is looked at soon.
void GiveUpBlob(Transaction& transaction, const std::string& sha256);

// Blobs that were given up or that nobody has mentioned for long: candidates for BlobStore::Remove. Those given up but needed by others
// are marked as looked at.
std::vector<std::string> TakeGivenUpBlobs(Transaction& transaction, int64_t now_ms);
std::vector<std::string> OldUnneededBlobs(Transaction& transaction, int64_t now_ms);
// Those that can go when room is needed, longest untouched first, of at least `bytes` if there are as many.
std::vector<std::string> EvictableBlobs(Transaction& transaction, int64_t bytes, int64_t now_ms);

// True if an unfinished task waits for this blob: it is a source.
bool IsWantedSource(Transaction& transaction, const std::string& sha256);
// True if the source of any unfinished task is stored.
bool AnySourceStored(Transaction& transaction);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_DB_BLOBS_H_
