#include "client/farm_connection.h"

#include <algorithm>
#include <utility>

namespace nsic {
namespace {

constexpr size_t kFindMissingBatch = 10'000;
constexpr int kListOutputsBatch = 1'000;

RetryPolicy Patient() {
  RetryPolicy policy;
  policy.max_attempts = 0;
  policy.max_delay = std::chrono::milliseconds(2'000);
  return policy;
}

}  // namespace

FarmConnection::FarmConnection(std::string address, const std::string& token, std::string name)
    : name_(std::move(name)),
      patient_policy_(Patient()),
      channel_(OpenChannel(address, token)),
      jobs_(v1::Jobs::NewStub(channel_)),
      blob_calls_(v1::Blobs::NewStub(channel_)),
      models_(v1::Models::NewStub(channel_)),
      admin_(v1::Admin::NewStub(channel_)),
      blobs_(channel_),
      patient_blobs_(channel_, Patient()) {}

Status FarmConnection::Explain(Status status) const {
  switch (status.code()) {
    case StatusCode::kUnavailable:
    case StatusCode::kDeadlineExceeded:
      return UnavailableError(
          "cannot reach the coordinator at " + name_ + " (" + status.message() +
          "): start it with nsic-coordinator serve, check --coordinator, or restore on this machine alone with --local");
    case StatusCode::kUnauthenticated:
    case StatusCode::kPermissionDenied:
      return Status(status.code(), "the coordinator at " + name_ + " refused this client (" + status.message() +
                                       "): give its token with --token-file FILE");
    default: return status;
  }
}

Result<v1::Job> FarmConnection::Submit(const v1::SubmitRequest& request, const CancelToken& cancel) {
  v1::Job job;
  NSIC_RETURN_IF_ERROR(Call(*jobs_, &v1::Jobs::Stub::Submit, request, &job, cancel));
  return job;
}

Result<v1::Job> FarmConnection::GetJob(const std::string& job_id, const CancelToken& cancel) {
  return ChangeJob(&v1::Jobs::Stub::Get, job_id, cancel);
}

Result<v1::Job> FarmConnection::ChangeJob(grpc::Status (v1::Jobs::Stub::*method)(grpc::ClientContext*, const v1::JobId&, v1::Job*),
                                          const std::string& job_id, const CancelToken& cancel) {
  v1::JobId request;
  request.set_job_id(job_id);
  v1::Job job;
  NSIC_RETURN_IF_ERROR(Call(*jobs_, method, request, &job, cancel));
  return job;
}

Status FarmConnection::DeleteJob(const std::string& job_id, const CancelToken& cancel) {
  v1::JobId request;
  request.set_job_id(job_id);
  v1::DeleteJobResponse reply;
  return Call(*jobs_, &v1::Jobs::Stub::Delete, request, &reply, cancel);
}

Result<std::vector<v1::Job>> FarmConnection::ListJobs(const CancelToken& cancel) {
  v1::ListJobsResponse reply;
  NSIC_RETURN_IF_ERROR(Call(*jobs_, &v1::Jobs::Stub::List, v1::ListJobsRequest(), &reply, cancel));
  return std::vector<v1::Job>(reply.jobs().begin(), reply.jobs().end());
}

Result<std::vector<v1::TaskOutcome>> FarmConnection::ListOutputs(const std::string& job_id, int64_t after, const CancelToken& cancel) {
  std::vector<v1::TaskOutcome> outcomes;
  while (true) {
    v1::ListOutputsRequest request;
    request.set_job_id(job_id);
    request.set_after(after);
    request.set_limit(kListOutputsBatch);
    v1::ListOutputsResponse reply;
    NSIC_RETURN_IF_ERROR(Call(*jobs_, &v1::Jobs::Stub::ListOutputs, request, &reply, cancel, true));
    if (reply.outcomes().empty()) return outcomes;
    outcomes.insert(outcomes.end(), reply.outcomes().begin(), reply.outcomes().end());
    after = outcomes.back().sequence();
  }
}

Status FarmConnection::MarkFetched(const std::string& job_id, const std::vector<int64_t>& task_ids, const CancelToken& cancel) {
  v1::MarkFetchedRequest request;
  request.set_job_id(job_id);
  for (const int64_t id : task_ids) request.add_task_ids(id);
  v1::MarkFetchedResponse reply;
  return Call(*jobs_, &v1::Jobs::Stub::MarkFetched, request, &reply, cancel, true);
}

Result<std::vector<std::string>> FarmConnection::FindMissing(const std::vector<std::string>& sha256, const CancelToken& cancel) {
  std::vector<std::string> missing;
  for (size_t start = 0; start < sha256.size(); start += kFindMissingBatch) {
    v1::FindMissingRequest request;
    for (size_t i = start; i < std::min(sha256.size(), start + kFindMissingBatch); ++i) request.add_sha256(sha256[i]);
    v1::FindMissingResponse reply;
    NSIC_RETURN_IF_ERROR(Call(*blob_calls_, &v1::Blobs::Stub::FindMissing, request, &reply, cancel, true));
    missing.insert(missing.end(), reply.missing().begin(), reply.missing().end());
  }
  return missing;
}

Result<v1::Model> FarmConnection::GetModel(const std::string& name_or_id, const CancelToken& cancel) {
  v1::GetModelRequest request;
  request.set_name_or_id(name_or_id);
  v1::Model model;
  NSIC_RETURN_IF_ERROR(Call(*models_, &v1::Models::Stub::Get, request, &model, cancel));
  return model;
}

Result<std::vector<v1::Model>> FarmConnection::ListModels(const CancelToken& cancel) {
  v1::ListModelsResponse reply;
  NSIC_RETURN_IF_ERROR(Call(*models_, &v1::Models::Stub::List, v1::ListModelsRequest(), &reply, cancel));
  return std::vector<v1::Model>(reply.models().begin(), reply.models().end());
}

Result<v1::Model> FarmConnection::PutModel(const std::string& bundle_sha256, const CancelToken& cancel) {
  v1::PutModelRequest request;
  request.set_bundle_sha256(bundle_sha256);
  v1::Model model;
  NSIC_RETURN_IF_ERROR(Call(*models_, &v1::Models::Stub::Put, request, &model, cancel));
  return model;
}

Status FarmConnection::RemoveModel(const std::string& name_or_id, const CancelToken& cancel) {
  v1::RemoveModelRequest request;
  request.set_name_or_id(name_or_id);
  v1::RemoveModelResponse reply;
  return Call(*models_, &v1::Models::Stub::Remove, request, &reply, cancel);
}

Result<std::vector<v1::WorkerStatus>> FarmConnection::ListWorkers(const CancelToken& cancel) {
  v1::ListWorkersResponse reply;
  NSIC_RETURN_IF_ERROR(Call(*admin_, &v1::Admin::Stub::ListWorkers, v1::ListWorkersRequest(), &reply, cancel));
  return std::vector<v1::WorkerStatus>(reply.workers().begin(), reply.workers().end());
}

Result<v1::BenchResponse> FarmConnection::Bench(const v1::BenchRequest& request, const CancelToken& cancel) {
  v1::BenchResponse reply;
  NSIC_RETURN_IF_ERROR(Call(*admin_, &v1::Admin::Stub::Bench, request, &reply, cancel));
  return reply;
}

}  // namespace nsic
