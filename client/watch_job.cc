#include "client/watch_job.h"

#include <algorithm>
#include <chrono>
#include <memory>

namespace nsic {
namespace {

// A watch without an end would never notice that it hangs; it is opened again where it stopped.
constexpr auto kStreamLimit = std::chrono::minutes(5);

}  // namespace

Status WatchJob(FarmConnection* farm, const std::string& job_id, int64_t after, const WatchHooks& hooks, const CancelToken& cancel) {
  RetryPolicy policy;
  policy.max_delay = std::chrono::milliseconds(2'000);
  int failures = 0;
  while (true) {
    NSIC_RETURN_IF_ERROR(cancel.Check());
    bool ended = false;
    Status status;
    {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + kStreamLimit);
      const CancelCallback on_cancel(cancel, [&context] { context.TryCancel(); });
      v1::WatchRequest request;
      request.set_job_id(job_id);
      request.set_after(after);
      const auto stream = farm->jobs().Watch(&context, request);
      v1::JobEvent event;
      while (stream->Read(&event)) {
        if (failures > 0) hooks.connection(OkStatus());
        failures = 0;
        for (const v1::TaskOutcome& outcome : event.outcomes()) after = std::max(after, outcome.sequence());
        ended = event.job().state() != v1::JOB_STATE_RUNNING;
        hooks.event(event);
      }
      status = FromGrpc(stream->Finish());
    }
    NSIC_RETURN_IF_ERROR(cancel.Check());
    if (status.ok() && ended) return status;
    if (status.code() == StatusCode::kDeadlineExceeded && failures == 0) continue;
    if (status.ok()) status = UnavailableError("the coordinator ended the watch");
    if (!IsRetryable(status)) return status;
    ++failures;
    if (failures == 1) hooks.connection(status);
    NSIC_RETURN_IF_ERROR(WaitToRetry(&farm->channel(), std::max(std::chrono::milliseconds(100), RetryDelay(policy, failures)), cancel));
  }
}

}  // namespace nsic
