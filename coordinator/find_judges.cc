#include "coordinator/find_judges.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>

#include "models/io/model_pack.h"

namespace nsic {
namespace {

constexpr size_t kMaxCandidates = 20;
constexpr size_t kMaxLabelBytes = 100;

v1::PackRef RefTo(const ModelRow& model) {
  v1::PackRef ref;
  ref.set_model_id(model.id);
  ref.set_name(model.name);
  ref.set_blob(model.bundle_sha256);
  ref.set_blob_size(model.bundle_size);
  return ref;
}

// Candidates go with every lease.
bool FitsALease(const ModelCard& card) {
  const bool short_labels = std::all_of(card.recommends.begin(), card.recommends.end(),
                                        [](const auto& recommended) { return recommended.first.size() <= kMaxLabelBytes; });
  return short_labels && card.recommends.size() <= kMaxCandidates;
}

std::optional<ModelRow> FindFor(Transaction& transaction, const char* name, const std::string& task) {
  std::optional<ModelRow> model = FindModelByName(transaction, name);
  if (model && model->task != task) return std::nullopt;  // a user's own pack that has the name
  return model;
}

Status CheckCandidate(const std::optional<ModelRow>& model, const std::string& name, const std::string& label,
                      const ModelRow& recommender) {
  if (!model) {
    return FailedPreconditionError("the recommender " + recommender.name + " recommends the model " + name + " for pictures of the kind '" +
                                   label + "', which the farm does not have: import it, or name a model with --model");
  }
  NSIC_ASSIGN_OR_RETURN(const ModelCard card, ParseModelCard(model->card, "model " + model->name));
  if (card.task == ModelTask::kEnhance && card.scale == 1) return OkStatus();
  return InvalidArgumentError("the recommender " + recommender.name + " recommends the model " + name +
                              ", which does not restore pictures at their own size: name a model with --model");
}

}  // namespace

Result<Judges> FindJudges(Transaction& transaction, const ModelRow& model, v1::RestoreOptions* options) {
  Judges judges;
  options->clear_scorer();
  options->clear_recommender();
  options->clear_candidates();
  const std::optional<ModelRow> scorer = options->assess() ? model : FindFor(transaction, kScorerName, "score");
  const std::optional<ModelRow> recommender = options->auto_model() ? model : FindFor(transaction, kRecommenderName, "classify");
  if (scorer) {
    *options->mutable_scorer() = RefTo(*scorer);
    judges.model_ids.insert(scorer->id);
  }
  if (!recommender) return judges;
  NSIC_ASSIGN_OR_RETURN(const ModelCard card, ParseModelCard(recommender->card, "model " + recommender->name));
  if (!FitsALease(card)) {
    if (!options->auto_model()) return judges;  // its advice can be done without
    return InvalidArgumentError("the recommender " + recommender->name + " knows more than " + std::to_string(kMaxCandidates) +
                                " kinds of pictures that want a model, or such with long names: name a model with --model");
  }
  *options->mutable_recommender() = RefTo(*recommender);
  judges.model_ids.insert(recommender->id);
  std::set<std::string> known;
  for (const auto& [label, name] : card.recommends) {
    const std::optional<ModelRow> candidate = FindModelByName(transaction, name);
    v1::Candidate* const added = options->add_candidates();
    added->set_label(label);
    added->mutable_pack()->set_name(name);
    if (!options->auto_model()) continue;
    NSIC_RETURN_IF_ERROR(CheckCandidate(candidate, name, label, *recommender));
    *added->mutable_pack() = RefTo(*candidate);
    if (known.insert(candidate->id).second) judges.enhancers.push_back(*candidate);
    judges.model_ids.insert(candidate->id);
  }
  if (options->auto_model() && judges.enhancers.empty()) {
    return FailedPreconditionError("the recommender " + recommender->name + " recommends no model: name one with --model");
  }
  return judges;
}

}  // namespace nsic
