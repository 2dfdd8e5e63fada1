#include "coordinator/collect_blobs.h"

#include <string>
#include <vector>

#include "coordinator/db/blobs.h"
#include "coordinator/db/database.h"
#include "coordinator/db/models.h"
#include "core/farm/blob_store.h"

namespace nsic {
namespace {

constexpr int64_t kIdleUploadMs = int64_t{24} * 3600 * 1000;

}  // namespace

Status CollectGivenUp(const Farm& farm) {
  while (true) {
    std::vector<std::string> candidates;
    NSIC_RETURN_IF_ERROR(farm.database->Write([&](Transaction& transaction) {
      candidates = TakeGivenUpBlobs(transaction, farm.now_ms());
      return OkStatus();
    }));
    if (candidates.empty()) return OkStatus();
    NSIC_RETURN_IF_ERROR(farm.blobs->Remove(candidates).status());
  }
}

Status CollectOld(const Farm& farm) {
  NSIC_RETURN_IF_ERROR(farm.database->Write([&](Transaction& transaction) {
    DeleteRetiredModels(transaction);
    return OkStatus();
  }));
  farm.blobs->DropIdleUploads(kIdleUploadMs);
  while (true) {
    std::vector<std::string> candidates;
    NSIC_RETURN_IF_ERROR(farm.database->Read([&](Transaction& transaction) {
      candidates = OldUnneededBlobs(transaction, farm.now_ms());
      return OkStatus();
    }));
    if (candidates.empty()) return OkStatus();
    NSIC_RETURN_IF_ERROR(farm.blobs->Remove(candidates).status());
  }
}

Status MakeRoom(const Farm& farm, int64_t bytes) {
  std::vector<std::string> candidates;
  NSIC_RETURN_IF_ERROR(farm.database->Read([&](Transaction& transaction) {
    candidates = EvictableBlobs(transaction, bytes, farm.now_ms());
    return OkStatus();
  }));
  if (candidates.empty()) return OkStatus();
  return farm.blobs->Remove(candidates).status();
}

}  // namespace nsic
