#include <memory>

#include "coordinator/db/database.h"
#include "coordinator/db/models.h"
#include "coordinator/register_models.h"
#include "coordinator/services.h"
#include "nsic/v1/models.grpc.pb.h"

namespace nsic {
namespace {

class ModelsService : public v1::Models::CallbackService {
 public:
  ModelsService(const Farm* farm, const CallGate* gate) : farm_(*farm), gate_(*gate) {}

  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context, const v1::ListModelsRequest* /*request*/,
                                 v1::ListModelsResponse* reply) override {
    return ServeUnary(gate_, context, "Models.List", [=] {
      return farm_.database->Read([&](Transaction& transaction) {
        for (const ModelRow& row : ListModels(transaction)) *reply->add_models() = DescribeModel(row);
        return OkStatus();
      });
    });
  }

  grpc::ServerUnaryReactor* Get(grpc::CallbackServerContext* context, const v1::GetModelRequest* request, v1::Model* reply) override {
    return ServeUnary(gate_, context, "Models.Get", [=] { return Fill(reply, GetModel(farm_, request->name_or_id())); });
  }

  grpc::ServerUnaryReactor* Put(grpc::CallbackServerContext* context, const v1::PutModelRequest* request, v1::Model* reply) override {
    return ServeUnary(gate_, context, "Models.Put", [=] { return Fill(reply, PutModel(farm_, request->bundle_sha256())); });
  }

  grpc::ServerUnaryReactor* Remove(grpc::CallbackServerContext* context, const v1::RemoveModelRequest* request,
                                   v1::RemoveModelResponse* /*reply*/) override {
    return ServeUnary(gate_, context, "Models.Remove", [=] { return RemoveModel(farm_, request->name_or_id()); });
  }

 private:
  const Farm& farm_;
  const CallGate& gate_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeModelsService(const Farm* farm, const CallGate* gate) {
  return std::make_unique<ModelsService>(farm, gate);
}

}  // namespace nsic
