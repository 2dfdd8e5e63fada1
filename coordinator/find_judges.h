// Finds the packs that a job is judged with, and among which its recommender chooses.
#ifndef NSIC_COORDINATOR_FIND_JUDGES_H_
#define NSIC_COORDINATOR_FIND_JUDGES_H_

#include <set>
#include <string>
#include <vector>

#include "coordinator/db/database.h"
#include "coordinator/db/models.h"
#include "core/base/status.h"
#include "nsic/v1/jobs.pb.h"

namespace nsic {

// The packs that judge are those of these names. A farm without them restores all the same.
inline constexpr const char* kScorerName = "ns-iqa";
inline constexpr const char* kRecommenderName = "ns-c";

struct Judges {
  std::vector<ModelRow> enhancers;  // with auto_model: those that the recommender may choose, each once
  std::set<std::string> model_ids;  // all packs that the job needs besides its own
};

// Fills in scorer, recommender and candidates of `options`, whose model is `model` and has been checked. With auto_model each candidate
// must be there and keep the size of a picture: FAILED_PRECONDITION names the pack that is missing, INVALID_ARGUMENT the one that scales.
Result<Judges> FindJudges(Transaction& transaction, const ModelRow& model, v1::RestoreOptions* options);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_FIND_JUDGES_H_
