#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/admit_worker.h"
#include "coordinator/bench_workers.h"
#include "coordinator/commit_result.h"
#include "coordinator/db/attempts.h"
#include "coordinator/db/database.h"
#include "coordinator/db/tasks.h"
#include "coordinator/end_lease.h"
#include "coordinator/register_models.h"
#include "coordinator/services.h"
#include "nsic/v1/work.grpc.pb.h"

namespace nsic {
namespace {

constexpr int kMaxItems = 10'000;

// A long poll. It waits in the WorkQueue and holds no thread. Freed when both gRPC and the queue are done with it.
class LeasePoll : public grpc::ServerUnaryReactor, public std::enable_shared_from_this<LeasePoll> {
 public:
  LeasePoll(const CallGate& gate, WorkQueue* queue, v1::LeaseResponse* reply) : record_(gate, "Work.Lease"), queue_(queue), reply_(reply) {}

  void Start(const v1::LeaseRequest& request) {
    self_ = shared_from_this();
    const uint64_t ticket = queue_->Add(request, [self = self_](const Status& status, v1::LeaseResponse response) {
      *self->reply_ = std::move(response);
      self->End(status);
    });
    std::lock_guard<std::mutex> lock(mutex_);
    ticket_ = ticket;
    if (cancelled_) DropAndEnd();
  }

  void Refuse(const Status& status) {
    self_ = shared_from_this();
    End(status);
  }

  void OnCancel() override {
    std::lock_guard<std::mutex> lock(mutex_);
    cancelled_ = true;
    if (ticket_ != 0) DropAndEnd();
  }

  void OnDone() override { const std::shared_ptr<LeasePoll> last = std::move(self_); }

 private:
  void End(const Status& status) { Finish(record_.End(status)); }
  void DropAndEnd() {
    if (queue_->Drop(ticket_)) End(CancelledError("the worker has gone"));
  }

  const CallRecord record_;
  WorkQueue* const queue_;
  v1::LeaseResponse* const reply_;
  std::shared_ptr<LeasePoll> self_;  // until OnDone
  std::mutex mutex_;
  uint64_t ticket_ = 0;     // guarded by mutex_
  bool cancelled_ = false;  // guarded by mutex_
};

class WorkService : public v1::Work::CallbackService {
 public:
  WorkService(const Farm* farm, const CallGate* gate, WorkQueue* queue) : farm_(*farm), gate_(*gate), queue_(queue) {}

  grpc::ServerUnaryReactor* Register(grpc::CallbackServerContext* context, const v1::RegisterRequest* request,
                                     v1::RegisterResponse* reply) override {
    return ServeUnary(gate_, context, "Work.Register", [=] { return Fill(reply, AdmitWorker(farm_, *request)); });
  }

  grpc::ServerUnaryReactor* Lease(grpc::CallbackServerContext* context, const v1::LeaseRequest* request,
                                  v1::LeaseResponse* reply) override {
    const auto poll = std::make_shared<LeasePoll>(gate_, queue_, reply);
    LeasePoll* const reactor = poll.get();
    if (const Status admitted = gate_.Admit(*context); admitted.ok()) {
      poll->Start(*request);
    } else {
      poll->Refuse(admitted);
    }
    return reactor;
  }

  grpc::ServerUnaryReactor* Renew(grpc::CallbackServerContext* context, const v1::RenewRequest* request,
                                  v1::RenewResponse* reply) override {
    return ServeUnary(gate_, context, "Work.Renew", [=]() -> Status {
      if (request->tokens_size() > kMaxItems) return InvalidArgumentError("too many tokens in one call");
      return farm_.database->Write([&](Transaction& transaction) -> Status {
        reply->Clear();
        NSIC_ASSIGN_OR_RETURN(const WorkerRow worker, CheckSession(farm_, transaction, request->session()));
        reply->set_drain(worker.draining);
        for (const std::string& token : request->tokens()) {
          const std::optional<AttemptRow> attempt = FindAttempt(transaction, token);
          const bool go_on = attempt && attempt->worker_id == worker.id && attempt->state == AttemptState::kActive;
          if (go_on) ExtendAttempt(transaction, *attempt, farm_.steady_ms() + farm_.options.lease_ttl_ms);
          reply->add_go_on(go_on);
        }
        return OkStatus();
      });
    });
  }

  grpc::ServerUnaryReactor* Complete(grpc::CallbackServerContext* context, const v1::CompleteRequest* request,
                                     v1::ItemsResponse* reply) override {
    return ServeUnary(gate_, context, "Work.Complete", [=]() -> Status {
      if (request->items_size() > kMaxItems) return InvalidArgumentError("too many items in one call");
      std::vector<std::function<void()>> counts;
      NSIC_RETURN_IF_ERROR(farm_.database->Write([&](Transaction& transaction) -> Status {
        reply->Clear();
        counts.clear();
        NSIC_ASSIGN_OR_RETURN(const WorkerRow worker, CheckSession(farm_, transaction, request->session()));
        for (const v1::CompletedItem& item : request->items()) {
          bool changed = false;
          NSIC_RETURN_IF_ERROR(CommitResult(farm_, transaction, worker, item, reply->add_items(), &changed));
          const std::optional<TaskRow> task = changed ? TaskOf(transaction, item.token()) : std::nullopt;
          if (!task) continue;
          counts.push_back(
              [this, name = worker.name, model = ModelName(transaction, task->model_id), seconds = item.result().seconds(),
               megapixels = static_cast<double>(task->pixels) / 1e6] { farm_.metrics->CountDone(name, model, seconds, megapixels); });
        }
        return OkStatus();
      }));
      for (const auto& count : counts) count();
      return OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Fail(grpc::CallbackServerContext* context, const v1::FailRequest* request, v1::ItemsResponse* reply) override {
    return ServeUnary(gate_, context, "Work.Fail", [=]() -> Status {
      if (request->items_size() > kMaxItems) return InvalidArgumentError("too many items in one call");
      std::vector<std::function<void()>> counts;
      NSIC_RETURN_IF_ERROR(farm_.database->Write([&](Transaction& transaction) -> Status {
        reply->Clear();
        counts.clear();
        NSIC_ASSIGN_OR_RETURN(const WorkerRow worker, CheckSession(farm_, transaction, request->session()));
        for (const v1::FailedItem& item : request->items()) {
          bool changed = false;
          NSIC_RETURN_IF_ERROR(TakeFailure(farm_, transaction, worker, item, reply->add_items(), &changed));
          const std::optional<TaskRow> task = changed ? TaskOf(transaction, item.token()) : std::nullopt;
          if (!task) continue;
          counts.push_back([this, name = worker.name, model = ModelName(transaction, task->model_id),
                            why = ClassName(item.failure_class())] { farm_.metrics->CountFailure(name, model, why); });
        }
        return OkStatus();
      }));
      for (const auto& count : counts) count();
      return OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Release(grpc::CallbackServerContext* context, const v1::ReleaseRequest* request,
                                    v1::ItemsResponse* reply) override {
    return ServeUnary(gate_, context, "Work.Release", [=]() -> Status {
      if (request->tokens_size() > kMaxItems) return InvalidArgumentError("too many tokens in one call");
      return farm_.database->Write([&](Transaction& transaction) -> Status {
        reply->Clear();
        NSIC_ASSIGN_OR_RETURN(const WorkerRow worker, CheckSession(farm_, transaction, request->session()));
        for (const std::string& token : request->tokens()) {
          NSIC_RETURN_IF_ERROR(TakeRelease(farm_, transaction, worker, token, reply->add_items()));
        }
        return OkStatus();
      });
    });
  }

  grpc::ServerUnaryReactor* Report(grpc::CallbackServerContext* context, const v1::ReportRequest* request,
                                   v1::ReportResponse* /*reply*/) override {
    return ServeUnary(gate_, context, "Work.Report", [=]() -> Status {
      std::optional<WorkerRow> worker;
      NSIC_RETURN_IF_ERROR(farm_.database->Write([&](Transaction& transaction) -> Status {
        NSIC_ASSIGN_OR_RETURN(worker, CheckSession(farm_, transaction, request->session()));
        return OkStatus();
      }));
      return farm_.bench->Report(farm_, *worker, *request);
    });
  }

 private:
  static std::optional<TaskRow> TaskOf(Transaction& transaction, const std::string& token) {
    const std::optional<AttemptRow> attempt = FindAttempt(transaction, token);
    return attempt ? FindTask(transaction, attempt->task_id) : std::nullopt;
  }
  static std::string_view ClassName(v1::FailureClass failure_class) {
    switch (failure_class) {
      case v1::FAILURE_CLASS_BAD_INPUT: return Name(LeaseEnd::kBadInput);
      case v1::FAILURE_CLASS_TRANSIENT: return Name(LeaseEnd::kTransient);
      default: return Name(LeaseEnd::kWorkerFault);
    }
  }

  const Farm& farm_;
  const CallGate& gate_;
  WorkQueue* const queue_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeWorkService(const Farm* farm, const CallGate* gate, WorkQueue* queue) {
  return std::make_unique<WorkService>(farm, gate, queue);
}

}  // namespace nsic
