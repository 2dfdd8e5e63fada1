#include "models/train/corpora/spoil_corpus.h"
#include "models/train/measure/evaluate.h"
#include "models/train/measure/evaluate_judges.h"
#include "models/train/measure/evaluate_suite.h"
#include "models/train/measure/side_by_side.h"

namespace nsic {
namespace {

Status TrainingOnly() {
  return UnimplementedError("this nsic-train was built for training only (NSIC_ONLY_TRAIN); do this with one from a full build");
}

}  // namespace

Result<Evaluation> Evaluate(const EvaluateOptions&, const Clock&, std::ostream&) { return TrainingOnly(); }

std::string EvaluationTable(const Evaluation&) { return ""; }

Status WriteToCard(const std::string&, const std::vector<Evaluation>&) { return TrainingOnly(); }

Result<JudgesEvaluation> EvaluateJudges(const EvaluateJudgesOptions&, const Clock&, std::ostream&) { return TrainingOnly(); }

std::string JudgesTable(const JudgesEvaluation&) { return ""; }

Status EvaluateSuite(const SuiteOptions&, const Clock&, std::ostream&, std::ostream&) { return TrainingOnly(); }

Status DrawSideBySide(const SideBySideOptions&) { return TrainingOnly(); }

Status SpoilCorpus(const SpoilOptions&, std::ostream&) { return TrainingOnly(); }

}  // namespace nsic
