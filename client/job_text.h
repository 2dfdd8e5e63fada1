// A job as text and as JSON.
#ifndef NSIC_CLIENT_JOB_TEXT_H_
#define NSIC_CLIENT_JOB_TEXT_H_

#include <nlohmann/json.hpp>
#include <string>

#include "nsic/v1/jobs.pb.h"

namespace nsic {

std::string JobStateName(v1::JobState state);  // "running", "succeeded", "failed", "cancelled"
nlohmann::json JobToJson(const v1::Job& job);
std::string DescribeScores(double before, double after);  // "61.2 -> 83.0 (+21.8 NS-IQA)"
// Several lines for a person.
std::string DescribeJob(const v1::Job& job);

}  // namespace nsic

#endif  // NSIC_CLIENT_JOB_TEXT_H_
