#include "models/train/evaluate.h"

namespace nsic {

Result<Evaluation> Evaluate(const EvaluateOptions&, const Clock&, std::ostream&) {
  return UnimplementedError("this nsic-train was built for training only (NSIC_ONLY_TRAIN); evaluate with one from a full build");
}

std::string EvaluationTable(const Evaluation&) { return ""; }

}  // namespace nsic
