#include "models/train/evaluate.h"
#include "models/train/evaluate_judges.h"
#include "models/train/evaluate_suite.h"
#include "models/train/side_by_side.h"
#include "models/train/spoil_corpus.h"

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
