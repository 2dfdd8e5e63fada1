#include "models/train/measure/evaluate_suite.h"

#include <algorithm>
#include <filesystem>
#include <iomanip>
#include <utility>
#include <vector>

#include "models/io/count_operations.h"
#include "models/io/model_pack.h"
#include "models/train/measure/evaluate.h"
#include "models/train/measure/evaluate_judges.h"

namespace nsic {
namespace {

std::vector<Spoiling> SuiteSpoilings() {
  using By = Spoiling::By;
  std::vector<Spoiling> spoilings;
  for (const int quality : {10, 20, 30, 40, 90}) spoilings.push_back({By::kJpeg, quality});
  spoilings.push_back({By::kJpegTwice, 10});
  for (const int side : {2, 4, 8}) spoilings.push_back({By::kMosaic, side});
  spoilings.push_back({By::kNothing, 0});
  return spoilings;
}

int64_t Parameters(const ModelPack& pack) {
  int64_t parameters = 0;
  for (const auto& [name, tensor] : pack.weights) {
    int64_t count = 1;
    for (const int64_t side : tensor.shape) count *= side;
    parameters += count;
  }
  return parameters;
}

Result<std::vector<std::string>> ListPacks(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> packs;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (std::filesystem::exists(at->path() / "model.json", error)) packs.push_back(at->path());
  }
  if (error) return InvalidArgumentError("cannot list the packs in " + folder + ": " + error.message());
  if (packs.empty()) return NotFoundError("no folder in " + folder + " has a model.json");
  std::sort(packs.begin(), packs.end());
  return packs;
}

Status EvaluateEnhancer(const SuiteOptions& options, const std::string& folder, const Clock& clock, std::ostream& progress,
                        std::ostream& tables) {
  std::vector<Evaluation> evaluations;
  for (const std::string& data : {options.photographs, options.drawings}) {
    EvaluateOptions evaluate;
    evaluate.pack = folder;
    evaluate.data = data;
    evaluate.spoilings = SuiteSpoilings();
    evaluate.pictures = options.pictures;
    evaluate.device = options.device;
    evaluate.threads = options.threads;
    evaluate.state = options.state;
    NSIC_ASSIGN_OR_RETURN(Evaluation evaluation, Evaluate(evaluate, clock, progress));
    tables << EvaluationTable(evaluation) << std::endl;
    evaluations.push_back(std::move(evaluation));
  }
  return options.update_cards ? WriteToCard(folder, evaluations) : OkStatus();
}

Status EvaluateJudge(const SuiteOptions& options, const std::string& folder, ModelTask task, const Clock& clock, std::ostream& progress,
                     std::ostream& tables) {
  EvaluateJudgesOptions evaluate;
  if (task == ModelTask::kScore) {
    evaluate.scorers = options.other_scorers;
    evaluate.scorers.insert(evaluate.scorers.begin(), folder);
    evaluate.brisque = options.brisque;
  } else {
    evaluate.classifier = folder;
  }
  evaluate.photographs = {options.photographs};
  evaluate.drawings = {options.drawings};
  evaluate.pictures = options.pictures;
  evaluate.device = options.device;
  evaluate.threads = options.threads;
  evaluate.state = options.state;
  evaluate.update_cards = options.update_cards;
  NSIC_ASSIGN_OR_RETURN(const JudgesEvaluation evaluation, EvaluateJudges(evaluate, clock, progress));
  tables << JudgesTable(evaluation) << std::endl;
  return OkStatus();
}

}  // namespace

Status EvaluateSuite(const SuiteOptions& options, const Clock& clock, std::ostream& progress, std::ostream& tables) {
  NSIC_ASSIGN_OR_RETURN(const std::vector<std::string> folders, ListPacks(options.packs));
  for (const std::string& folder : folders) {
    NSIC_ASSIGN_OR_RETURN(const ModelPack pack, ReadModelPack(folder));
    const ModelCard& card = pack.card;
    if (card.task == ModelTask::kEnhance && card.scale != 1) {
      progress << "left out: " << card.name << " changes the size" << std::endl;
      continue;
    }
    tables << "== " << card.name << ": " << card.architecture << ", " << Parameters(pack) << " parameters";
    if (const double operations = MultiplyAddsPerPixel(card); operations > 0) {
      tables << std::fixed << std::setprecision(1) << ", " << operations / 1e3 << " k multiply-adds a pixel";
    }
    tables << "\n\n";
    NSIC_RETURN_IF_ERROR(card.task == ModelTask::kEnhance ? EvaluateEnhancer(options, folder, clock, progress, tables)
                                                          : EvaluateJudge(options, folder, card.task, clock, progress, tables));
  }
  return OkStatus();
}

}  // namespace nsic
