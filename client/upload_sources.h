// Sends the sources of a job to the coordinator.
#ifndef NSIC_CLIENT_UPLOAD_SOURCES_H_
#define NSIC_CLIENT_UPLOAD_SOURCES_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "client/farm_connection.h"
#include "client/job_record.h"
#include "core/base/cancel.h"
#include "core/base/status.h"

namespace nsic {

// All are called from several threads at once.
struct UploadHooks {
  // Whether the file's source is still needed.
  std::function<bool(size_t file)> wanted;
  // The coordinator has no room: waits, and says whether to try again (else the source is lost).
  std::function<bool(const Status& why)> wait_for_room;
  // The source cannot be sent: it has changed, is gone, or found no room.
  std::function<void(size_t file, const Status& why)> lost;
  std::function<void(int64_t bytes)> progress;
};

// One pass in the order of the files: finds what the coordinator does not have and sends it, several files at once. A coordinator that
// goes away is waited for. Returns when nothing is left to send, or an error that concerns all files (CANCELLED, UNAUTHENTICATED, ...).
Status UploadSources(FarmConnection* farm, const std::vector<PlannedFile>& files, const UploadHooks& hooks, const CancelToken& cancel);

}  // namespace nsic

#endif  // NSIC_CLIENT_UPLOAD_SOURCES_H_
