#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "coordinator/bench_workers.h"
#include "coordinator/db/attempts.h"
#include "coordinator/db/database.h"
#include "coordinator/db/jobs.h"
#include "coordinator/db/tasks.h"
#include "coordinator/db/workers.h"
#include "coordinator/services.h"
#include "core/base/digest.h"
#include "core/farm/blob_store.h"
#include "nsic/v1/admin.grpc.pb.h"

namespace nsic {
namespace {

constexpr int64_t kDefaultBlockMs = int64_t{3600} * 1000;
constexpr int64_t kMaxBlockMs = int64_t{10} * 365 * 24 * 3600 * 1000;

class AdminService : public v1::Admin::CallbackService {
 public:
  AdminService(const Farm* farm, const CallGate* gate) : farm_(*farm), gate_(*gate) {}

  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* context, const v1::ListWorkersRequest* /*request*/,
                                        v1::ListWorkersResponse* reply) override {
    return ServeUnary(gate_, context, "Admin.ListWorkers", [=] {
      return farm_.database->Read([&](Transaction& transaction) {
        for (const WorkerRow& row : nsic::ListWorkers(transaction)) Describe(transaction, row, reply->add_workers());
        return OkStatus();
      });
    });
  }

  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context, const v1::DrainRequest* request,
                                  v1::AdminResponse* /*reply*/) override {
    return ServeUnary(gate_, context, "Admin.Drain", [=] {
      return ChangeWorker(request->worker(), [&](Transaction& transaction, const WorkerRow& worker) {
        SetDraining(transaction, worker.id, request->on());
        return OkStatus();
      });
    });
  }

  grpc::ServerUnaryReactor* Block(grpc::CallbackServerContext* context, const v1::BlockRequest* request,
                                  v1::AdminResponse* /*reply*/) override {
    return ServeUnary(gate_, context, "Admin.Block", [=]() -> Status {
      if (!IsSha256Hex(request->model_id())) return InvalidArgumentError("a model is named by its identity here");
      if (request->for_ms() < 0) return InvalidArgumentError("for_ms must not be negative");
      return ChangeWorker(request->worker(), [&](Transaction& transaction, const WorkerRow& worker) {
        WorkerModelRow row = FindWorkerModel(transaction, worker.id, request->model_id());
        row.banned_until_ms = farm_.now_ms() + (request->for_ms() == 0 ? kDefaultBlockMs : std::min(request->for_ms(), kMaxBlockMs));
        PutFailures(transaction, worker.id, row);
        return OkStatus();
      });
    });
  }

  grpc::ServerUnaryReactor* Unblock(grpc::CallbackServerContext* context, const v1::BlockRequest* request,
                                    v1::AdminResponse* /*reply*/) override {
    return ServeUnary(gate_, context, "Admin.Unblock", [=]() -> Status {
      if (!IsSha256Hex(request->model_id())) return InvalidArgumentError("a model is named by its identity here");
      return ChangeWorker(request->worker(), [&](Transaction& transaction, const WorkerRow& worker) {
        WorkerModelRow row = FindWorkerModel(transaction, worker.id, request->model_id());
        row.failures_in_row = 0;
        row.blocked_until_ms = 0;
        row.banned_until_ms = 0;
        PutFailures(transaction, worker.id, row);
        return OkStatus();
      });
    });
  }

  grpc::ServerUnaryReactor* Stats(grpc::CallbackServerContext* context, const v1::StatsRequest* /*request*/,
                                  v1::StatsResponse* reply) override {
    return ServeUnary(gate_, context, "Admin.Stats", [=] {
      const BlobStore::Usage usage = farm_.blobs->usage();
      reply->set_blob_bytes(usage.used());
      reply->set_blob_quota_bytes(usage.quota);
      reply->set_blobs(usage.blobs);
      reply->set_version(farm_.options.version);
      return farm_.database->Read([&](Transaction& transaction) {
        for (const auto& [state, count] : CountJobs(transaction)) {
          if (state == "running") reply->set_jobs_running(count);
        }
        for (const TaskCount& count : CountTasks(transaction)) {
          if (count.state == TaskState::kQueued) reply->set_tasks_queued(count.count);
          if (count.state == TaskState::kLeased) reply->set_tasks_leased(count.count);
        }
        return OkStatus();
      });
    });
  }

  grpc::ServerUnaryReactor* Bench(grpc::CallbackServerContext* context, const v1::BenchRequest* request,
                                  v1::BenchResponse* reply) override {
    return ServeUnary(gate_, context, "Admin.Bench", [=] { return Fill(reply, BenchWorkers(farm_, *request)); });
  }

 private:
  void Describe(Transaction& transaction, const WorkerRow& row, v1::WorkerStatus* status) const {
    status->set_name(row.name);
    status->set_device(row.device);
    status->set_device_name(row.device_name);
    status->set_version(row.version);
    status->set_cores(row.cores);
    status->set_memory_bytes(row.memory_bytes);
    status->set_connected(row.last_seen_ms >= farm_.seen_since_ms());
    status->set_draining(row.draining);
    status->set_last_seen_ms(row.last_seen_ms);
    status->set_active_leases(CountActiveAttemptsOfWorker(transaction, row.id));
    status->set_tasks_done(row.tasks_done);
    status->set_tasks_failed(row.tasks_failed);
    for (const WorkerModelRow& model : ListWorkerModels(transaction, row.id)) {
      if (model.megapixels_per_s > 0) {
        v1::ModelSpeed* const speed = status->add_speeds();
        speed->set_model_id(model.model_id);
        speed->set_megapixels_per_second(model.megapixels_per_s);
        speed->set_precision(model.precision);
      }
      if (std::max(model.blocked_until_ms, model.banned_until_ms) > farm_.now_ms()) status->add_blocked_models(model.model_id);
    }
  }

  Status ChangeWorker(const std::string& name, const std::function<Status(Transaction&, const WorkerRow&)>& change) const {
    return farm_.database->Write([&](Transaction& transaction) -> Status {
      const std::optional<WorkerRow> worker = FindWorkerByName(transaction, name);
      if (!worker) return NotFoundError("no worker named '" + name.substr(0, 200) + "'; 'nsic-client workers' lists those there are");
      return change(transaction, *worker);
    });
  }

  const Farm& farm_;
  const CallGate& gate_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAdminService(const Farm* farm, const CallGate* gate) {
  return std::make_unique<AdminService>(farm, gate);
}

}  // namespace nsic
