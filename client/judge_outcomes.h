// What the workers' judgements of a file's parts come to.
#ifndef NSIC_CLIENT_JUDGE_OUTCOMES_H_
#define NSIC_CLIENT_JUDGE_OUTCOMES_H_

#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/report/report.h"
#include "nsic/v1/jobs.pb.h"

namespace nsic {

// Parts of a picture count by their area, frames of a video each for one.
ReportJudgement CombineJudgements(const std::vector<v1::TaskOutcome>& tasks);

// The name of the model that restored the file, where its tasks chose it; empty where nothing was to repair. ABORTED when they did not
// agree.
Result<std::string> ChosenModel(const std::vector<v1::TaskOutcome>& tasks);

}  // namespace nsic

#endif  // NSIC_CLIENT_JUDGE_OUTCOMES_H_
