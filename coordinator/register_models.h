// Model packs come in: put by users, or shipped in the coordinator's own folder.
#ifndef NSIC_COORDINATOR_REGISTER_MODELS_H_
#define NSIC_COORDINATOR_REGISTER_MODELS_H_

#include <string>

#include "coordinator/db/database.h"
#include "coordinator/db/models.h"
#include "coordinator/farm.h"
#include "core/base/status.h"
#include "nsic/v1/models.pb.h"

namespace nsic {

// Registers every pack in `folder`. Under a taken name: a pack that was shipped before is replaced (and kept, nameless, while jobs need
// it); one that a user has put stays, with a warning. An unreadable pack is an error that names it; a missing folder is NOT_FOUND.
Status RegisterShippedModels(const Farm& farm, const std::string& folder);

// See models.proto.
Result<v1::Model> PutModel(const Farm& farm, const std::string& bundle_sha256);
Result<v1::Model> GetModel(const Farm& farm, const std::string& name_or_id);
Status RemoveModel(const Farm& farm, const std::string& name_or_id);

v1::Model DescribeModel(const ModelRow& row);
// The name of a model for people and metrics; its identity if it has none any more.
std::string ModelName(Transaction& transaction, const std::string& id);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_REGISTER_MODELS_H_
