#include "client/job_index.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "client/json_bytes.h"
#include "core/base/files.h"

namespace nsic {
namespace {

using Json = nlohmann::json;

std::string PathOf(const std::string& state_folder, const std::string& job_id) { return state_folder + "/jobs/" + job_id + ".json"; }

}  // namespace

bool IsJobId(const std::string& text) {
  return text.size() == 32 &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Status SaveJobPlace(const std::string& state_folder, const std::string& job_id, const JobPlace& place) {
  NSIC_RETURN_IF_ERROR(MakeFolders(state_folder + "/jobs"));
  const Json json = {{"coordinator", place.coordinator},
                     {"token_file", BytesToJson(place.token_file)},
                     {"report_folder", BytesToJson(place.report_folder)},
                     {"record_key", place.record_key}};
  return WriteFileAtomically(PathOf(state_folder, job_id), json.dump(2) + "\n");
}

Result<JobPlace> FindJobPlace(const std::string& state_folder, const std::string& job_id) {
  const std::string path = PathOf(state_folder, job_id);
  NSIC_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 1 << 20));
  try {
    const Json json = Json::parse(text);
    JobPlace place;
    json.at("coordinator").get_to(place.coordinator);
    place.token_file = BytesFromJson(json.at("token_file"));
    place.report_folder = BytesFromJson(json.at("report_folder"));
    json.at("record_key").get_to(place.record_key);
    return place;
  } catch (const Json::exception& error) {
    return DataLossError(path + " is damaged (" + error.what() + "): remove it");
  }
}

}  // namespace nsic
