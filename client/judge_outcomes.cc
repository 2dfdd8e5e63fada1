#include "client/judge_outcomes.h"

#include <algorithm>

namespace nsic {

ReportJudgement CombineJudgements(const std::vector<v1::TaskOutcome>& tasks) {
  ReportJudgement judgement;
  ReportScores scores;
  double weight = 0;
  for (const v1::TaskOutcome& task : tasks) {
    const v1::TaskResult& result = task.result();
    if (result.has_recommendation() && !judgement.recommendation) {
      const v1::Recommendation& told = result.recommendation();
      judgement.recommendation = ReportRecommendation{told.label(), told.probability(), told.model()};
    }
    if (judgement.error.empty()) judgement.error = result.judging_error();
    if (!result.has_scores()) continue;
    for (const v1::FrameScore& frame : result.scores().frames()) scores.frames.push_back({frame.frame(), frame.before(), frame.after()});
    const v1::Region& region = task.region();
    const double part = task.has_region()   ? static_cast<double>(region.width()) * region.height()
                        : task.has_frames() ? static_cast<double>(result.scores().frames_size())
                                            : 1.0;
    scores.before += part * result.scores().before();
    scores.after += part * result.scores().after();
    weight += part;
  }
  if (weight <= 0) return judgement;
  scores.before /= weight;
  scores.after /= weight;
  std::sort(scores.frames.begin(), scores.frames.end(),
            [](const ReportFrameScore& a, const ReportFrameScore& b) { return a.frame < b.frame; });
  judgement.scores = std::move(scores);
  return judgement;
}

Result<std::string> ChosenModel(const std::vector<v1::TaskOutcome>& tasks) {
  for (const v1::TaskOutcome& task : tasks) {
    if (task.result().model_id() == tasks.front().result().model_id()) continue;
    return AbortedError("its parts were restored by different models, since the workers " + tasks.front().worker() + " and " +
                        task.worker() + " saw different things in it: name a model with --model");
  }
  return tasks.empty() || tasks.front().result().model_id().empty() ? "" : tasks.front().result().recommendation().model();
}

}  // namespace nsic
