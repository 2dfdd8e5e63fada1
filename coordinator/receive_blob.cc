#include "coordinator/receive_blob.h"

#include "coordinator/db/blobs.h"
#include "coordinator/db/database.h"

namespace nsic {

Result<std::unique_ptr<BlobUpload>> BlobReceiver::Admit(const v1::UploadHeader& header) {
  const v1::BlobRef& blob = header.blob();
  bool source = false;
  bool others = false;
  const auto look = [&](Transaction& transaction) {
    source = IsWantedSource(transaction, blob.sha256());
    others = source && AnySourceStored(transaction);
    return OkStatus();
  };
  NSIC_RETURN_IF_ERROR(farm_->database->Read(look));
  if (!source) return farm_->blobs->BeginUpload(blob.sha256(), blob.size(), header.offset());
  std::lock_guard<std::mutex> lock(sources_);
  NSIC_RETURN_IF_ERROR(farm_->database->Read(look));
  const bool alone = !others && farm_->blobs->UploadBytesBeside(blob.sha256()) == 0;
  return farm_->blobs->BeginUpload(blob.sha256(), blob.size(), header.offset(), alone ? 0 : farm_->blobs->usage().capacity / 2);
}

}  // namespace nsic
