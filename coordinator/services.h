// The gRPC services: each turns a call into one of the coordinator's functions. No decisions are made here.
#ifndef NSIC_COORDINATOR_SERVICES_H_
#define NSIC_COORDINATOR_SERVICES_H_

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/service_type.h>

#include <memory>

#include "coordinator/farm.h"
#include "coordinator/receive_blob.h"
#include "coordinator/serve_call.h"
#include "coordinator/wait_for_work.h"
#include "coordinator/watch_job.h"

namespace nsic {

// All arguments must outlive the service.
std::unique_ptr<grpc::Service> MakeJobsService(const Farm* farm, const CallGate* gate, JobWatchers* watchers);
std::unique_ptr<grpc::Service> MakeBlobsService(const Farm* farm, const CallGate* gate, BlobReceiver* receiver);
std::unique_ptr<grpc::Service> MakeWorkService(const Farm* farm, const CallGate* gate, WorkQueue* queue);
std::unique_ptr<grpc::Service> MakeModelsService(const Farm* farm, const CallGate* gate);
std::unique_ptr<grpc::Service> MakeAdminService(const Farm* farm, const CallGate* gate);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_SERVICES_H_
