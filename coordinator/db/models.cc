#include "coordinator/db/models.h"

#include "coordinator/db/blobs.h"
#include "coordinator/db/connection.h"

#define NSIC_SELECT_MODEL                                                                         \
  "SELECT model.id, coalesce(name, ''), task, card, bundle_sha256, blob.size, shipped FROM model" \
  " JOIN blob ON blob.sha256 = bundle_sha256 "

namespace nsic {
namespace {

ModelRow ReadModelRow(Query& query) {
  return {query.Text(0), query.Text(1), query.Text(2), query.Text(3), query.Text(4), query.Int(5), query.Bool(6)};
}

}  // namespace

std::optional<ModelRow> FindModel(Transaction& transaction, const std::string& id) {
  Query query(transaction, NSIC_SELECT_MODEL "WHERE model.id = ?1", id);
  if (!query.Step()) return std::nullopt;
  return ReadModelRow(query);
}

std::optional<ModelRow> FindModelByName(Transaction& transaction, const std::string& name) {
  Query query(transaction, NSIC_SELECT_MODEL "WHERE name = ?1", name);
  if (!query.Step()) return std::nullopt;
  return ReadModelRow(query);
}

std::vector<ModelRow> ListModels(Transaction& transaction) {
  std::vector<ModelRow> models;
  Query query(transaction, NSIC_SELECT_MODEL "WHERE name IS NOT NULL ORDER BY name");
  while (query.Step()) models.push_back(ReadModelRow(query));
  return models;
}

void InsertModel(Transaction& transaction, const ModelRow& model) {
  Query(transaction, "INSERT INTO model(id, name, task, card, bundle_sha256, shipped) VALUES (?1, ?2, ?3, ?4, ?5, ?6)", model.id,
        model.name, model.task, model.card, model.bundle_sha256, model.shipped)
      .Run();
}

void RetireModel(Transaction& transaction, const std::string& id) {
  Query(transaction, "UPDATE model SET name = NULL WHERE id = ?1", id).Run();
}

void NameModel(Transaction& transaction, const std::string& id, const std::string& name) {
  Query(transaction, "UPDATE model SET name = ?2, shipped = 1 WHERE id = ?1", id, name).Run();
}

void DeleteModel(Transaction& transaction, const ModelRow& model) {
  Query(transaction, "DELETE FROM model WHERE id = ?1", model.id).Run();
  GiveUpBlob(transaction, model.bundle_sha256);
}

bool RunningJobNeeds(Transaction& transaction, const std::string& model_id) {
  return Query(transaction,
               "SELECT 1 FROM job WHERE state = 'running' AND (model_id = ?1 OR EXISTS("
               "SELECT 1 FROM job_model WHERE job_id = job.id AND job_model.model_id = ?1))",
               model_id)
      .Step();
}

void DeleteRetiredModels(Transaction& transaction) {
  std::vector<ModelRow> retired;
  {
    Query query(
        transaction, NSIC_SELECT_MODEL
        "WHERE name IS NULL AND NOT EXISTS(SELECT 1 FROM job WHERE job.model_id = model.id AND state = 'running')"
        " AND NOT EXISTS(SELECT 1 FROM job_model JOIN job ON job.id = job_id WHERE job_model.model_id = model.id AND state = 'running')");
    while (query.Step()) retired.push_back(ReadModelRow(query));
  }
  for (const ModelRow& model : retired) DeleteModel(transaction, model);
}

}  // namespace nsic
