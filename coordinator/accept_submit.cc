#include "coordinator/accept_submit.h"

#include <optional>
#include <string>
#include <vector>

#include "coordinator/check_manifest.h"
#include "coordinator/db/blobs.h"
#include "coordinator/db/jobs.h"
#include "coordinator/db/models.h"
#include "coordinator/db/tasks.h"
#include "coordinator/db/workers.h"
#include "coordinator/estimate_speed.h"
#include "coordinator/find_judges.h"
#include "coordinator/report_job.h"
#include "coordinator/split_job.h"
#include "core/base/digest.h"
#include "core/farm/blob_store.h"
#include "core/rpc/video_messages.h"
#include "models/io/model_pack.h"

namespace nsic {
namespace {

// ALREADY_EXISTS when the job is another one.
Status CheckSame(const JobRow& row, const std::string& spec_hash) {
  if (row.spec_hash == spec_hash) return OkStatus();
  return AlreadyExistsError("there is a job " + row.id + " that does something else; submit under a new id");
}

// The job's model, which must be of the kind that it is wanted for.
Result<ModelRow> FindModelOf(Transaction& transaction, const v1::RestoreOptions& options) {
  const std::string& id = options.model_id();
  std::optional<ModelRow> model = FindModel(transaction, id);
  if (!model) {
    std::string known;
    for (const ModelRow& other : ListModels(transaction)) known += (known.empty() ? "" : ", ") + other.name;
    return NotFoundError("the farm has no model " + id + "; it has: " + (known.empty() ? "none" : known));
  }
  const char* const task = options.auto_model() ? "classify" : options.assess() ? "score" : "enhance";
  if (model->task == task) return *std::move(model);
  const char* const fault = options.auto_model() ? " recommends no models"
                            : options.assess()   ? " scores no pictures"
                                                 : " does not make pictures";
  return InvalidArgumentError("model " + model->name + fault + ": its task is " + model->task);
}

// Before anything is planned: the job may be there, or lack what it needs.
struct Prepared {
  std::optional<v1::Job> existing;
  ModelRow model;
  Judges judges;
  double megapixels_per_second = 0;  // measured; 0: not yet
};
Result<Prepared> Prepare(const Farm& farm, const std::string& job_id, const std::string& spec_hash, v1::JobSpec* spec) {
  Prepared prepared;
  NSIC_RETURN_IF_ERROR(farm.database->Read([&](Transaction& transaction) -> Status {
    if (const std::optional<JobRow> row = FindJob(transaction, job_id)) {
      NSIC_RETURN_IF_ERROR(CheckSame(*row, spec_hash));
      NSIC_ASSIGN_OR_RETURN(prepared.existing, DescribeJob(farm, transaction, *row));
      return OkStatus();
    }
    NSIC_ASSIGN_OR_RETURN(prepared.model, FindModelOf(transaction, spec->options()));
    NSIC_ASSIGN_OR_RETURN(prepared.judges, FindJudges(transaction, prepared.model, spec->mutable_options()));
    prepared.megapixels_per_second = FastestSpeed(transaction, spec->options().model_id());
    if (!IsStored(transaction, spec->manifest().sha256())) {
      return FailedPreconditionError("manifest blob " + spec->manifest().sha256() + " is not stored; upload it first");
    }
    return OkStatus();
  }));
  return prepared;
}

// How the job's pictures are cut, and for how fast a worker. Where the recommender chooses, any model's grid serves, and the slowest model
// counts.
struct Pace {
  TileSpec tiling;
  double megapixels_per_second = 0;
};
Result<Pace> PaceOf(const Prepared& prepared) {
  Pace pace;
  std::vector<ModelRow> models = prepared.judges.enhancers;
  if (models.empty()) models.push_back(prepared.model);
  for (const ModelRow& model : models) {
    NSIC_ASSIGN_OR_RETURN(const ModelCard card, ParseModelCard(model.card, "model " + model.name));
    const double speed = EstimateSpeed(card, model.bundle_size);
    if (&model == &models.front()) pace.tiling = card.tiling;
    if (&model == &models.front() || speed < pace.megapixels_per_second) pace.megapixels_per_second = speed;
  }
  if (prepared.megapixels_per_second > 0) pace.megapixels_per_second = prepared.megapixels_per_second;
  return pace;
}

// The share of its file that a task has.
double ShareOf(const PlannedTask& task, const v1::SourceFile& file) {
  if (task.step == TaskStep::kChunk) return 0;
  if (task.frames) return static_cast<double>(task.frames->count) / file.video().range().count();
  if (!task.region) return 1;
  return static_cast<double>(task.region->area()) / (static_cast<double>(file.picture().width()) * file.picture().height());
}

Status IndexMissing(const v1::JobManifest& manifest, int file_index) {
  return FailedPreconditionError(NameOfFile(manifest, file_index) + "has an index, blob " +
                                 manifest.files(file_index).video().index().sha256() + ", that is not stored; upload it first");
}

// Untrusted until it has passed here.
Result<VideoIndex> ReadIndex(const Farm& farm, const v1::JobManifest& manifest, int file_index) {
  const v1::BlobRef& blob = manifest.files(file_index).video().index();
  const Result<std::string> bytes = farm.blobs->ReadAll(blob.sha256(), kMaxIndexBytes);
  if (bytes.status().code() == StatusCode::kNotFound) return IndexMissing(manifest, file_index);
  if (!bytes.ok()) return bytes.status();
  v1::VideoIndex message;
  if (!message.ParseFromString(*bytes)) {
    return InvalidArgumentError(NameOfFile(manifest, file_index) + "names blob " + blob.sha256() + " as its index, which is none");
  }
  Result<VideoIndex> index = FromMessage(message);
  if (!index.ok()) return InvalidArgumentError(NameOfFile(manifest, file_index) + index.status().message());
  return index;
}

Status InsertTasks(const Farm& farm, Transaction& transaction, const std::string& job_id, const v1::JobSpec& spec,
                   const v1::JobManifest& manifest, const std::vector<PlannedTask>& plan) {
  std::vector<int> parts(static_cast<size_t>(manifest.files_size()), 0);
  for (const PlannedTask& planned : plan) parts[static_cast<size_t>(planned.file_index)] += planned.step == TaskStep::kChunk ? 0 : 1;
  std::vector<bool> here(parts.size());
  for (int i = 0; i < manifest.files_size(); ++i) {
    const v1::SourceFile& file = manifest.files(i);
    std::optional<std::string> index;
    if (file.has_video()) index = file.video().index().sha256();
    if (index && !IsStored(transaction, *index)) return IndexMissing(manifest, i);
    InsertJobFile(transaction, job_id, i, file.SerializeAsString(), parts[static_cast<size_t>(i)], index);
    here[static_cast<size_t>(i)] = file.has_in_place() || IsStored(transaction, file.content().sha256());
  }
  std::vector<int64_t> chunks;  // those since the last task of another step
  for (size_t i = 0; i < plan.size(); ++i) {
    // Where the segment is there already, its chunks are not wanted.
    if (plan[i].step == TaskStep::kChunk && chunks.empty()) {
      size_t encode = i;
      while (plan[encode].step == TaskStep::kChunk) ++encode;
      if (FindDoneTwin(transaction, plan[encode].result_key)) i = encode;
    }
    const PlannedTask& planned = plan[i];
    const v1::SourceFile& file = manifest.files(planned.file_index);
    TaskRow task;
    task.job_id = job_id;
    task.index = static_cast<int>(i);
    task.file_index = planned.file_index;
    task.region = planned.region;
    task.frames = planned.frames;
    task.step = planned.step;
    task.pixels = planned.pixels;
    task.file_share = ShareOf(planned, file);
    task.model_id = spec.options().model_id();
    task.result_key = planned.result_key;
    if (planned.step == TaskStep::kEncode) {
      task.state = chunks.empty() ? TaskState::kQueued : TaskState::kWaiting;
    } else {
      task.source_sha256 = file.content().sha256();
      if (file.has_in_place()) task.root_id = file.in_place().root_id();
      task.state = here[static_cast<size_t>(planned.file_index)] ? TaskState::kQueued : TaskState::kWaiting;
    }
    InsertTask(transaction, &task, planned.segment);
    if (planned.step == TaskStep::kChunk) {
      chunks.push_back(task.id);
    } else {
      for (const int64_t chunk : chunks) InsertNeed(transaction, task.id, chunk);
      chunks.clear();
    }
  }
  // Only now, when all are there: the job must not end before its last task is in.
  for (const TaskState state : {TaskState::kWaiting, TaskState::kQueued}) {
    for (TaskRow& task : TasksInState(transaction, job_id, state)) {
      if (state == TaskState::kWaiting && task.step == TaskStep::kEncode) continue;  // its chunks come first
      const std::optional<TaskRow> twin = FindDoneTwin(transaction, task.result_key);
      if (twin) NSIC_RETURN_IF_ERROR(MarkDone(transaction, &task, OutputOf(*twin), farm.now_ms()));
    }
  }
  return OkStatus();
}

}  // namespace

Result<v1::Job> AcceptSubmit(const Farm& farm, const v1::SubmitRequest& request) {
  if (!IsId(request.job_id())) return InvalidArgumentError("a job's id is 32 lower-case hexadecimal digits");
  const std::string submitted = request.spec().SerializeAsString();
  const std::string spec_hash = Sha256Hex(submitted);
  v1::JobSpec spec = request.spec();
  NSIC_RETURN_IF_ERROR(CheckSpec(&spec));
  NSIC_ASSIGN_OR_RETURN(Prepared prepared, Prepare(farm, request.job_id(), spec_hash, &spec));
  if (prepared.existing) return *std::move(prepared.existing);

  NSIC_ASSIGN_OR_RETURN(const std::string bytes, farm.blobs->ReadAll(spec.manifest().sha256(), kMaxManifestBytes));
  v1::JobManifest manifest;
  if (!manifest.ParseFromString(bytes)) return InvalidArgumentError("blob " + spec.manifest().sha256() + " is no job manifest");
  NSIC_RETURN_IF_ERROR(CheckManifest(manifest));
  for (int i = 0; spec.options().assess() && i < manifest.files_size(); ++i) {
    if (manifest.files(i).has_video()) return InvalidArgumentError(NameOfFile(manifest, i) + "is a video: only pictures are assessed");
  }
  NSIC_ASSIGN_OR_RETURN(const Pace pace, PaceOf(prepared));
  NSIC_ASSIGN_OR_RETURN(const std::vector<PlannedTask> plan,
                        SplitJob(manifest, spec.options(), pace.tiling, farm.options.version, pace.megapixels_per_second,
                                 [&](int i) { return ReadIndex(farm, manifest, i); }));

  v1::Job job;
  NSIC_RETURN_IF_ERROR(farm.database->Write([&](Transaction& transaction) -> Status {
    if (const std::optional<JobRow> row = FindJob(transaction, request.job_id())) {  // a twin call was faster
      NSIC_RETURN_IF_ERROR(CheckSame(*row, spec_hash));
      NSIC_ASSIGN_OR_RETURN(job, DescribeJob(farm, transaction, *row));
      return OkStatus();
    }
    NSIC_RETURN_IF_ERROR(FindModelOf(transaction, spec.options()).status());
    for (const std::string& id : prepared.judges.model_ids) {
      if (!FindModel(transaction, id)) return FailedPreconditionError("a model that the job needs was removed just now; submit it again");
    }
    if (!IsStored(transaction, spec.manifest().sha256())) return FailedPreconditionError("the manifest blob has gone; upload it again");
    JobRow row;
    row.id = request.job_id();
    row.spec_hash = spec_hash;
    row.spec = spec.SerializeAsString();
    row.model_id = spec.options().model_id();
    row.manifest_sha256 = spec.manifest().sha256();
    row.priority = spec.priority();
    row.created_ms = farm.now_ms();
    InsertJob(transaction, row);
    InsertJobModels(transaction, row.id, prepared.judges.model_ids);
    NSIC_RETURN_IF_ERROR(InsertTasks(farm, transaction, row.id, spec, manifest, plan));
    NSIC_ASSIGN_OR_RETURN(job, DescribeJob(farm, transaction, row.id));
    return OkStatus();
  }));
  return job;
}

}  // namespace nsic
