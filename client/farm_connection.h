// The coordinator's services as the client calls them: deadlines, retries and errors for a person.
#ifndef NSIC_CLIENT_FARM_CONNECTION_H_
#define NSIC_CLIENT_FARM_CONNECTION_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/cancel.h"
#include "core/base/status.h"
#include "core/rpc/blob_transfer.h"
#include "core/rpc/channel.h"
#include "nsic/v1/admin.grpc.pb.h"
#include "nsic/v1/blobs.grpc.pb.h"
#include "nsic/v1/jobs.grpc.pb.h"
#include "nsic/v1/models.grpc.pb.h"

namespace nsic {

// Thread-safe. Calls without `patient` give up after some seconds without a coordinator; with it they go on until cancelled.
class FarmConnection {
 public:
  // `name` is what messages call the coordinator: its address, or "local".
  FarmConnection(std::string address, const std::string& token, std::string name);

  const std::string& name() const { return name_; }
  BlobTransfer& blobs() { return blobs_; }  // gives up
  BlobTransfer& patient_blobs() { return patient_blobs_; }
  v1::Jobs::Stub& jobs() { return *jobs_; }  // for Watch
  grpc::Channel& channel() { return *channel_; }

  // The same codes as on the wire; UNAVAILABLE and UNAUTHENTICATED say what to do.
  template <typename Request, typename Reply, typename Stub>
  Status Call(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Reply*), const Request& request, Reply* reply,
              const CancelToken& cancel, bool patient = false) {
    return Explain(CallWithRetry(channel_.get(), patient ? patient_policy_ : RetryPolicy(), cancel, [&](grpc::ClientContext* context) {
      reply->Clear();
      return (stub.*method)(context, request, reply);
    }));
  }

  Result<v1::Job> Submit(const v1::SubmitRequest& request, const CancelToken& cancel);
  Result<v1::Job> GetJob(const std::string& job_id, const CancelToken& cancel);
  Result<v1::Job> ChangeJob(grpc::Status (v1::Jobs::Stub::*method)(grpc::ClientContext*, const v1::JobId&, v1::Job*),
                            const std::string& job_id, const CancelToken& cancel);
  Status DeleteJob(const std::string& job_id, const CancelToken& cancel);
  Result<std::vector<v1::Job>> ListJobs(const CancelToken& cancel);
  // All outcomes after `after`, in order.
  Result<std::vector<v1::TaskOutcome>> ListOutputs(const std::string& job_id, int64_t after, const CancelToken& cancel);
  Status MarkFetched(const std::string& job_id, const std::vector<int64_t>& task_ids, const CancelToken& cancel);
  Result<std::vector<std::string>> FindMissing(const std::vector<std::string>& sha256, const CancelToken& cancel);

  Result<v1::Model> GetModel(const std::string& name_or_id, const CancelToken& cancel);
  Result<std::vector<v1::Model>> ListModels(const CancelToken& cancel);
  Result<v1::Model> PutModel(const std::string& bundle_sha256, const CancelToken& cancel);
  Status RemoveModel(const std::string& name_or_id, const CancelToken& cancel);

  Result<std::vector<v1::WorkerStatus>> ListWorkers(const CancelToken& cancel);
  Result<v1::BenchResponse> Bench(const v1::BenchRequest& request, const CancelToken& cancel);

 private:
  Status Explain(Status status) const;

  const std::string name_;
  const RetryPolicy patient_policy_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Jobs::Stub> jobs_;
  const std::unique_ptr<v1::Blobs::Stub> blob_calls_;
  const std::unique_ptr<v1::Models::Stub> models_;
  const std::unique_ptr<v1::Admin::Stub> admin_;
  BlobTransfer blobs_;
  BlobTransfer patient_blobs_;
};

}  // namespace nsic

#endif  // NSIC_CLIENT_FARM_CONNECTION_H_
