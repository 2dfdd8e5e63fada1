// Lets an upload in: sources may not crowd out the results that they are needed for.
#ifndef NSIC_COORDINATOR_RECEIVE_BLOB_H_
#define NSIC_COORDINATOR_RECEIVE_BLOB_H_

#include <memory>
#include <mutex>

#include "coordinator/farm.h"
#include "core/base/status.h"
#include "core/farm/blob_store.h"
#include "nsic/v1/blobs.pb.h"

namespace nsic {

// Thread-safe.
class BlobReceiver {
 public:
  explicit BlobReceiver(const Farm* farm) : farm_(farm) {}

  // As BlobStore::BeginUpload. Sources of unfinished tasks may fill half of the capacity: else a client that uploads faster than the
  // farm works would leave no room for a single output, and nothing would ever move. A source that is alone may be larger.
  Result<std::unique_ptr<BlobUpload>> Admit(const v1::UploadHeader& header);

 private:
  const Farm* const farm_;
  std::mutex sources_;  // held while a source is let in, so that two cannot both think that they are alone
};

}  // namespace nsic

#endif  // NSIC_COORDINATOR_RECEIVE_BLOB_H_
