#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "coordinator/accept_submit.h"
#include "coordinator/control_job.h"
#include "coordinator/db/database.h"
#include "coordinator/db/jobs.h"
#include "coordinator/report_job.h"
#include "coordinator/services.h"
#include "nsic/v1/jobs.grpc.pb.h"

namespace nsic {
namespace {

constexpr int kMaxJobs = 1000;
constexpr int kMaxOutcomes = 1000;
constexpr int kMaxFetched = 100'000;

class JobsService : public v1::Jobs::CallbackService {
 public:
  JobsService(const Farm* farm, const CallGate* gate, JobWatchers* watchers) : farm_(*farm), gate_(*gate), watchers_(watchers) {}

  grpc::ServerUnaryReactor* Submit(grpc::CallbackServerContext* context, const v1::SubmitRequest* request, v1::Job* reply) override {
    return ServeUnary(gate_, context, "Jobs.Submit", [=] { return Fill(reply, AcceptSubmit(farm_, *request)); });
  }

  grpc::ServerUnaryReactor* Get(grpc::CallbackServerContext* context, const v1::JobId* request, v1::Job* reply) override {
    return ServeUnary(gate_, context, "Jobs.Get", [=] {
      return farm_.database->Read(
          [&](Transaction& transaction) { return Fill(reply, DescribeJob(farm_, transaction, request->job_id())); });
    });
  }

  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context, const v1::ListJobsRequest* request,
                                 v1::ListJobsResponse* reply) override {
    return ServeUnary(gate_, context, "Jobs.List", [=]() -> Status {
      if (request->limit() < 0) return InvalidArgumentError("limit must not be negative");
      const int limit = request->limit() == 0 ? 100 : std::min(request->limit(), kMaxJobs);
      return farm_.database->Read([&](Transaction& transaction) -> Status {
        for (const JobRow& row : ListJobs(transaction, limit)) {
          NSIC_ASSIGN_OR_RETURN(*reply->add_jobs(), DescribeJob(farm_, transaction, row));
        }
        return OkStatus();
      });
    });
  }

  grpc::ServerWriteReactor<v1::JobEvent>* Watch(grpc::CallbackServerContext* context, const v1::WatchRequest* request) override {
    return watchers_->Watch(gate_, *context, *request);
  }

  grpc::ServerUnaryReactor* Cancel(grpc::CallbackServerContext* context, const v1::JobId* request, v1::Job* reply) override {
    return ServeUnary(gate_, context, "Jobs.Cancel", [=] { return Fill(reply, CancelJob(farm_, request->job_id())); });
  }

  grpc::ServerUnaryReactor* Pause(grpc::CallbackServerContext* context, const v1::JobId* request, v1::Job* reply) override {
    return ServeUnary(gate_, context, "Jobs.Pause", [=] { return Fill(reply, PauseJob(farm_, request->job_id(), true)); });
  }

  grpc::ServerUnaryReactor* Resume(grpc::CallbackServerContext* context, const v1::JobId* request, v1::Job* reply) override {
    return ServeUnary(gate_, context, "Jobs.Resume", [=] { return Fill(reply, PauseJob(farm_, request->job_id(), false)); });
  }

  grpc::ServerUnaryReactor* Retry(grpc::CallbackServerContext* context, const v1::JobId* request, v1::Job* reply) override {
    return ServeUnary(gate_, context, "Jobs.Retry", [=] { return Fill(reply, RetryJob(farm_, request->job_id())); });
  }

  grpc::ServerUnaryReactor* SetPriority(grpc::CallbackServerContext* context, const v1::SetPriorityRequest* request,
                                        v1::Job* reply) override {
    return ServeUnary(gate_, context, "Jobs.SetPriority",
                      [=] { return Fill(reply, PrioritizeJob(farm_, request->job_id(), request->priority())); });
  }

  grpc::ServerUnaryReactor* ListOutputs(grpc::CallbackServerContext* context, const v1::ListOutputsRequest* request,
                                        v1::ListOutputsResponse* reply) override {
    return ServeUnary(gate_, context, "Jobs.ListOutputs", [=]() -> Status {
      if (request->limit() < 0) return InvalidArgumentError("limit must not be negative");
      const int limit = request->limit() == 0 ? kMaxOutcomes : std::min(request->limit(), kMaxOutcomes);
      return farm_.database->Read([&](Transaction& transaction) -> Status {
        if (!FindJob(transaction, request->job_id())) return NotFoundError("no job " + request->job_id());
        NSIC_ASSIGN_OR_RETURN(std::vector<v1::TaskOutcome> outcomes,
                              DescribeOutcomes(transaction, request->job_id(), request->after(), limit));
        for (v1::TaskOutcome& outcome : outcomes) *reply->add_outcomes() = std::move(outcome);
        return OkStatus();
      });
    });
  }

  grpc::ServerUnaryReactor* MarkFetched(grpc::CallbackServerContext* context, const v1::MarkFetchedRequest* request,
                                        v1::MarkFetchedResponse* /*reply*/) override {
    return ServeUnary(gate_, context, "Jobs.MarkFetched", [=]() -> Status {
      if (request->task_ids_size() > kMaxFetched) return InvalidArgumentError("too many tasks in one call");
      return MarkJobFetched(farm_, request->job_id(), {request->task_ids().begin(), request->task_ids().end()});
    });
  }

  grpc::ServerUnaryReactor* Delete(grpc::CallbackServerContext* context, const v1::JobId* request,
                                   v1::DeleteJobResponse* /*reply*/) override {
    return ServeUnary(gate_, context, "Jobs.Delete", [=] { return DeleteJob(farm_, request->job_id()); });
  }

 private:
  const Farm& farm_;
  const CallGate& gate_;
  JobWatchers* const watchers_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeJobsService(const Farm* farm, const CallGate* gate, JobWatchers* watchers) {
  return std::make_unique<JobsService>(farm, gate, watchers);
}

}  // namespace nsic
