// Brings results to the coordinator: uploads the output, then tells what became of the task.
#ifndef NSIC_WORKER_DELIVER_RESULT_H_
#define NSIC_WORKER_DELIVER_RESULT_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/cancel.h"
#include "core/base/status.h"
#include "core/rpc/blob_transfer.h"
#include "nsic/v1/work.pb.h"
#include "worker/hold_session.h"

namespace nsic {

// Messages name files, whose names need not be UTF-8; the wire takes nothing else, and not without end.
std::string ToMessage(std::string_view text);

// Thread-safe. Every call waits for a coordinator that is away until `cancel` is set.
class Deliverer {
 public:
  // Both must outlive it. `transfer` should be patient too.
  Deliverer(Session* session, BlobTransfer* transfer) : session_(session), transfer_(transfer) {}

  // Uploads the file at `path` and completes the task. While the coordinator has no room it waits for outputs to be fetched, as long as
  // `wait_for_room` allows, and then returns RESOURCE_EXHAUSTED. `result` lacks the output, which is filled in here.
  Status Complete(const std::string& token, v1::TaskResult result, const std::string& path, const std::function<bool()>& wait_for_room,
                  const CancelToken& cancel);
  Status Fail(const std::string& token, v1::FailureClass failure_class, const std::string& message, const CancelToken& cancel);
  Status Release(const std::vector<std::string>& tokens, const CancelToken& cancel);

 private:
  Status Upload(const std::string& path, const v1::BlobRef& blob, const std::function<bool()>& wait_for_room, const CancelToken& cancel);

  Session* const session_;
  BlobTransfer* const transfer_;
};

}  // namespace nsic

#endif  // NSIC_WORKER_DELIVER_RESULT_H_
