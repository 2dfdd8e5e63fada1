#include "coordinator/register_models.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <vector>

#include "coordinator/db/blobs.h"
#include "core/base/digest.h"
#include "core/base/files.h"
#include "core/farm/blob_store.h"
#include "models/io/model_pack.h"

namespace nsic {
namespace {

constexpr int64_t kMaxBundleBytes = int64_t{2} << 30;

std::string TaskName(ModelTask task) {
  switch (task) {
    case ModelTask::kEnhance: return "enhance";
    case ModelTask::kScore: return "score";
    case ModelTask::kClassify: return "classify";
  }
  return "";
}

ModelRow RowOf(const ModelCard& card, const std::string& bundle_sha256, bool shipped) {
  return {PackIdentity(card), card.name, TaskName(card.task), SerializeModelCard(card), bundle_sha256, 0, shipped};
}

Status RegisterShippedPack(const Farm& farm, const std::string& folder) {
  NSIC_ASSIGN_OR_RETURN(const ModelPack pack, ReadModelPack(folder));
  NSIC_ASSIGN_OR_RETURN(const std::string bundle, farm.blobs->Put(BundleModelPack(pack)));
  const ModelRow row = RowOf(pack.card, bundle, true);
  return farm.database->Write([&](Transaction& transaction) -> Status {
    const std::optional<ModelRow> same = FindModel(transaction, row.id);
    if (same && !same->name.empty()) return OkStatus();  // under this name or under another that a user gave it
    const std::optional<ModelRow> holder = FindModelByName(transaction, row.name);
    if (holder && !holder->shipped) {
      spdlog::warn("the shipped model in {} is not used: a user has put another pack named {}", folder, row.name);
      return OkStatus();
    }
    if (!IsStored(transaction, bundle)) return UnavailableError("the bundle of " + folder + " has gone; start again");
    if (holder) RetireModel(transaction, holder->id);
    if (same) {
      NameModel(transaction, row.id, row.name);
    } else {
      InsertModel(transaction, row);
    }
    return OkStatus();
  });
}

Status UnknownModel(Transaction& transaction, const std::string& name_or_id) {
  std::string known;
  for (const ModelRow& model : ListModels(transaction)) known += (known.empty() ? "" : ", ") + model.name;
  return NotFoundError("no model '" + name_or_id.substr(0, 200) + "'; there are: " + (known.empty() ? "none" : known));
}

std::optional<ModelRow> Find(Transaction& transaction, const std::string& name_or_id) {
  std::optional<ModelRow> row = FindModelByName(transaction, name_or_id);
  return row ? row : FindModel(transaction, name_or_id);
}

}  // namespace

v1::Model DescribeModel(const ModelRow& row) {
  v1::Model model;
  model.set_id(row.id);
  model.set_name(row.name);
  model.set_task(row.task);
  model.set_card(row.card);
  model.mutable_bundle()->set_sha256(row.bundle_sha256);
  model.mutable_bundle()->set_size(row.bundle_size);
  return model;
}

std::string ModelName(Transaction& transaction, const std::string& id) {
  const std::optional<ModelRow> row = FindModel(transaction, id);
  return row && !row->name.empty() ? row->name : id;
}

Status RegisterShippedModels(const Farm& farm, const std::string& folder) {
  std::vector<std::string> packs;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;  // no model.json: not a pack
    if (std::filesystem::exists(it->path() / "model.json", ignored)) packs.push_back(it->path().string());
  }
  if (error) return ErrnoError(error.value(), "cannot list the models in " + folder);
  std::sort(packs.begin(), packs.end());
  for (const std::string& pack : packs) NSIC_RETURN_IF_ERROR(RegisterShippedPack(farm, pack));
  return OkStatus();
}

Result<v1::Model> PutModel(const Farm& farm, const std::string& bundle_sha256) {
  if (!IsSha256Hex(bundle_sha256)) return InvalidArgumentError("a bundle is named by its SHA-256");
  Result<std::string> bytes = farm.blobs->ReadAll(bundle_sha256, kMaxBundleBytes);
  if (!bytes.ok() && bytes.status().code() == StatusCode::kNotFound) {
    return FailedPreconditionError("bundle blob " + bundle_sha256 + " is not stored; upload it first");
  }
  if (!bytes.ok()) return bytes.status();
  NSIC_ASSIGN_OR_RETURN(const ModelPack pack, UnbundleModelPack(*bytes, "bundle " + bundle_sha256));
  const ModelRow row = RowOf(pack.card, bundle_sha256, false);
  v1::Model model;
  NSIC_RETURN_IF_ERROR(farm.database->Write([&](Transaction& transaction) -> Status {
    const std::optional<ModelRow> same = FindModel(transaction, row.id);
    if (same && !same->name.empty()) {
      model = DescribeModel(*same);
      return OkStatus();
    }
    if (FindModelByName(transaction, row.name)) {
      return AlreadyExistsError("the farm has another model named " + row.name +
                                "; remove that first, or import this one under another name");
    }
    if (!IsStored(transaction, bundle_sha256)) return FailedPreconditionError("the bundle blob has gone; upload it again");
    if (same) DeleteModel(transaction, *same);  // a retired one: it comes back as the user's
    InsertModel(transaction, row);
    model = DescribeModel(*FindModel(transaction, row.id));
    return OkStatus();
  }));
  return model;
}

Result<v1::Model> GetModel(const Farm& farm, const std::string& name_or_id) {
  v1::Model model;
  NSIC_RETURN_IF_ERROR(farm.database->Read([&](Transaction& transaction) -> Status {
    const std::optional<ModelRow> row = Find(transaction, name_or_id);
    if (!row) return UnknownModel(transaction, name_or_id);
    model = DescribeModel(*row);
    return OkStatus();
  }));
  return model;
}

Status RemoveModel(const Farm& farm, const std::string& name_or_id) {
  return farm.database->Write([&](Transaction& transaction) -> Status {
    const std::optional<ModelRow> row = Find(transaction, name_or_id);
    if (!row) return OkStatus();
    if (RunningJobNeeds(transaction, row->id)) {
      return FailedPreconditionError("model " + row->name + " is needed by a running job; wait for it or cancel it");
    }
    DeleteModel(transaction, *row);
    return OkStatus();
  });
}

}  // namespace nsic
