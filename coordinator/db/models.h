// The table of model packs.
#ifndef NSIC_COORDINATOR_DB_MODELS_H_
#define NSIC_COORDINATOR_DB_MODELS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/db/database.h"

namespace nsic {

struct ModelRow {
  std::string id;
  std::string name;  // empty: replaced under its name, here for running jobs only
  std::string task;
  std::string card;
  std::string bundle_sha256;
  int64_t bundle_size = 0;
  bool shipped = false;
};

std::optional<ModelRow> FindModel(Transaction& transaction, const std::string& id);
std::optional<ModelRow> FindModelByName(Transaction& transaction, const std::string& name);
std::vector<ModelRow> ListModels(Transaction& transaction);  // those with a name, by name
// The bundle must be stored.
void InsertModel(Transaction& transaction, const ModelRow& model);
// Takes the name away; the pack stays for the jobs that need it.
void RetireModel(Transaction& transaction, const std::string& id);
// Makes a pack the shipped one of that name. The name must be free.
void NameModel(Transaction& transaction, const std::string& id, const std::string& name);
void DeleteModel(Transaction& transaction, const ModelRow& model);
bool RunningJobNeeds(Transaction& transaction, const std::string& model_id);
// Deletes nameless packs that no running job needs.
void DeleteRetiredModels(Transaction& transaction);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_DB_MODELS_H_
