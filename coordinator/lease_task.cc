#include "coordinator/lease_task.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "coordinator/bench_workers.h"
#include "coordinator/db/attempts.h"
#include "coordinator/db/jobs.h"
#include "coordinator/db/models.h"
#include "coordinator/db/tasks.h"
#include "coordinator/find_workers.h"
#include "core/base/digest.h"
#include "core/farm/blob_store.h"
#include "core/rpc/channel.h"
#include "core/rpc/video_messages.h"

namespace nsic {
namespace {

constexpr double kPixelsPerMegapixel = 1e6;
// A second lease costs the farm double work: only where it saves some seconds, or where the first seems stuck.
constexpr double kWorthLendingSeconds = 5;
constexpr double kStuckSeconds = 120;

// Whatever is leased at once fits a message: segments are the largest part, with ten bytes a time stamp at worst; paths, names and options
// take less than sixteen thousand.
static_assert(kMaxBatch * (kMaxSegmentFrames * 10 + kMaxStartPoints * 24 + 16'000) < kMaxMessageBytes / 2);

// What of a job does not change from task to task.
struct JobContext {
  v1::RestoreOptions options;
  ModelRow model;
};

Result<JobContext> LoadContext(Transaction& transaction, const std::string& job_id) {
  const std::optional<JobRow> job = FindJob(transaction, job_id);
  v1::JobSpec spec;
  if (!job || !spec.ParseFromString(job->spec)) return InternalError("job " + job_id + " has no readable spec");
  std::optional<ModelRow> model = FindModel(transaction, job->model_id);
  if (!model) return InternalError("job " + job_id + " needs a model that is gone");
  return JobContext{spec.options(), *std::move(model)};
}

Status DescribeLease(Transaction& transaction, const JobContext& context, const TaskRow& task, const std::string& token,
                     v1::LeaseResponse* response) {
  v1::LeasedTask* const lease = response->add_tasks();
  lease->set_task_id(task.id);
  lease->set_token(token);
  lease->set_job_id(task.job_id);
  lease->set_file_index(task.file_index);
  if (!lease->mutable_source()->ParseFromString(FindJobFileSource(transaction, task.job_id, task.file_index))) {
    return InternalError("task " + std::to_string(task.id) + " has no readable source");
  }
  *lease->mutable_options() = context.options;
  if (task.region) {
    lease->mutable_region()->set_x(task.region->x);
    lease->mutable_region()->set_y(task.region->y);
    lease->mutable_region()->set_width(task.region->width);
    lease->mutable_region()->set_height(task.region->height);
  }
  if (task.frames && !lease->mutable_segment()->ParseFromString(FindSegment(transaction, task.id))) {
    return InternalError("task " + std::to_string(task.id) + " has no readable segment");
  }
  if (task.step == TaskStep::kEncode) {
    for (const Need& need : ListNeeds(transaction, task.id)) {
      v1::Chunk* const chunk = lease->mutable_segment()->add_chunks();
      chunk->mutable_frames()->set_first(need.frames.first);
      chunk->mutable_frames()->set_count(need.frames.count);
      chunk->mutable_output()->set_sha256(need.output_sha256);
      chunk->mutable_output()->set_size(need.output_size);
    }
  }
  lease->set_model_blob(context.model.bundle_sha256);
  lease->set_model_blob_size(context.model.bundle_size);
  return OkStatus();
}

Status Grant(const Farm& farm, Transaction& transaction, const WorkerRow& worker, const std::string& request_id, const JobContext& context,
             TaskRow task, v1::LeaseResponse* response) {
  NSIC_RETURN_IF_ERROR(MarkLeased(transaction, &task));
  AttemptRow attempt;
  attempt.task_id = task.id;
  attempt.lease_no = task.lease_no;
  attempt.worker_id = worker.id;
  attempt.token = RandomHex(16);
  attempt.request_id = request_id;
  attempt.leased_ms = farm.now_ms();
  attempt.expires_steady_ms = farm.steady_ms() + farm.options.lease_ttl_ms;
  InsertAttempt(transaction, attempt);
  return DescribeLease(transaction, context, task, attempt.token, response);
}

// The leases of an earlier call with the same id, whose reply was lost.
Status RepeatLeases(Transaction& transaction, const std::vector<AttemptRow>& attempts, v1::LeaseResponse* response) {
  for (const AttemptRow& attempt : attempts) {
    const std::optional<TaskRow> task = FindTask(transaction, attempt.task_id);
    if (!task) return InternalError("a lease without a task");
    NSIC_ASSIGN_OR_RETURN(const JobContext context, LoadContext(transaction, task->job_id));
    NSIC_RETURN_IF_ERROR(DescribeLease(transaction, context, *task, attempt.token, response));
  }
  return OkStatus();
}

struct Batch {
  std::vector<TaskRow> tasks;
  bool nothing_beside = false;  // the next task must run alone, and the worker is busy: it gets nothing now
};

Batch ChooseBatch(const Farm& farm, Transaction& transaction, const WorkerRow& worker, const JobRow& job, int max_tasks, bool idle,
                  bool only_encodes, WorkerFinder* finder) {
  Batch batch;
  const double speed = FindWorkerModel(transaction, worker.id, job.model_id).megapixels_per_s;
  const double budget = speed * kBatchSeconds * kPixelsPerMegapixel - static_cast<double>(LeasedPixelsOfWorker(transaction, worker.id));
  double used = 0;
  size_t limit = speed > 0 ? static_cast<size_t>(std::clamp(max_tasks, 1, kMaxBatch)) : 1;
  std::set<std::string> chosen;
  ForEachLeasable(transaction, job.id, worker.id, farm.now_ms(), only_encodes, [&](const TaskRow& task) {
    if (!finder->MayTake(worker.id, task)) return true;
    if (chosen.count(task.result_key) != 0 || HasLeasedTwin(transaction, task.result_key)) return true;  // its result will serve both
    if (batch.tasks.empty()) {
      const auto sharers = static_cast<int64_t>(finder->Eligible(task.model_id, task.root_id).size());
      limit = std::min(limit, static_cast<size_t>((job.queued + sharers - 1) / sharers));
    }
    if (task.suspect) {
      if (batch.tasks.empty() && idle) batch.tasks.push_back(task);
      batch.nothing_beside = batch.tasks.empty();
      return false;
    }
    // How long it takes has nothing to do with the model's speed: alone, and the next when this one is done.
    if (task.step == TaskStep::kEncode) {
      if (batch.tasks.empty()) batch.tasks.push_back(task);
      return false;
    }
    used += static_cast<double>(task.pixels);
    if (!batch.tasks.empty() && used > budget) return false;
    batch.tasks.push_back(task);
    chosen.insert(task.result_key);
    return batch.tasks.size() < limit;
  });
  return batch;
}

// A task that another worker has and this idle one would probably finish first.
std::optional<TaskRow> ChooseStraggler(const Farm& farm, Transaction& transaction, const WorkerRow& worker, WorkerFinder* finder) {
  for (const Straggler& straggler : ListStragglers(transaction, worker.id)) {
    const double pixels = static_cast<double>(straggler.pixels) / kPixelsPerMegapixel;
    const double my_speed = FindWorkerModel(transaction, worker.id, straggler.model_id).megapixels_per_s;
    const double holder_speed = FindWorkerModel(transaction, straggler.worker_id, straggler.model_id).megapixels_per_s;
    if (my_speed <= 0) continue;
    const double my_seconds = pixels / my_speed;
    const double age = static_cast<double>(farm.now_ms() - straggler.leased_ms) / 1000;
    bool lend = false;
    if (holder_speed > 0) {
      const double left = static_cast<double>(straggler.pixels_ahead) / kPixelsPerMegapixel / holder_speed;
      lend = my_speed > holder_speed && left > 2 * my_seconds + kWorthLendingSeconds;
      lend = lend || age > kStuckSeconds + 3 * pixels / holder_speed;
    } else {
      lend = age > kStuckSeconds + 3 * my_seconds;
    }
    if (!lend) continue;
    std::optional<TaskRow> task = FindTask(transaction, straggler.task_id);
    if (task && finder->MayTake(worker.id, *task)) return task;
  }
  return std::nullopt;
}

}  // namespace

Status LeaseTasks(const Farm& farm, Transaction& transaction, const WorkerRow& worker, const v1::LeaseRequest& request,
                  v1::LeaseResponse* response) {
  const std::vector<AttemptRow> repeated = ActiveAttemptsOfRequest(transaction, worker.id, request.request_id());
  if (!repeated.empty()) return RepeatLeases(transaction, repeated, response);
  response->set_drain(worker.draining);
  if (worker.draining) return OkStatus();
  if (std::optional<v1::Measure> measure = farm.bench->Next(farm, worker)) {
    *response->mutable_measure() = *std::move(measure);
    return OkStatus();
  }
  if (HoldsSuspect(transaction, worker.id)) return OkStatus();
  // Encoding makes room: large chunks become small segments.
  const bool only_encodes = !farm.blobs->HasRoom();

  WorkerFinder finder(farm, transaction);
  const bool idle = CountActiveAttemptsOfWorker(transaction, worker.id) == 0;
  for (const JobRow& job : JobsToLeaseFrom(transaction)) {
    const Batch batch = ChooseBatch(farm, transaction, worker, job, request.max_tasks(), idle, only_encodes, &finder);
    if (batch.nothing_beside) return OkStatus();
    if (batch.tasks.empty()) continue;
    NSIC_ASSIGN_OR_RETURN(const JobContext context, LoadContext(transaction, job.id));
    for (const TaskRow& task : batch.tasks) {
      NSIC_RETURN_IF_ERROR(Grant(farm, transaction, worker, request.request_id(), context, task, response));
    }
    return OkStatus();
  }

  if (!idle || only_encodes) return OkStatus();
  const std::optional<TaskRow> straggler = ChooseStraggler(farm, transaction, worker, &finder);
  if (!straggler) return OkStatus();
  NSIC_ASSIGN_OR_RETURN(const JobContext context, LoadContext(transaction, straggler->job_id));
  return Grant(farm, transaction, worker, request.request_id(), context, *straggler, response);
}

}  // namespace nsic
