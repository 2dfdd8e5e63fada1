// Stores what comes from the coordinator: into a temporary file first, noted in the record, and only then under its name.
#ifndef NSIC_CLIENT_STORE_OUTPUT_H_
#define NSIC_CLIENT_STORE_OUTPUT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "client/farm_connection.h"
#include "client/job_record.h"
#include "core/base/cancel.h"
#include "core/base/status.h"

namespace nsic {

// A path for the output's temporary file or folder, on the output's own disk for the rename: in the report folder if that is there, else
// hidden beside the output. The same for the same output and record. Makes the folder that it is in.
Result<std::string> TemporaryPath(const JobRecord& record, const std::string& output);

// Removes the temporary files of this submit, after a run and what a killed one left before the next, but for those of the files that
// `keep` names.
void RemoveLeftovers(const std::vector<PlannedFile>& files, const JobRecord& record,
                     const std::function<bool(const PlannedFile& file)>& keep);

// Removes a path and everything below it at the end of a scope.
class RemoveAtEnd {
 public:
  explicit RemoveAtEnd(std::string path) : path_(std::move(path)) {}
  ~RemoveAtEnd();
  RemoveAtEnd(const RemoveAtEnd&) = delete;
  RemoveAtEnd& operator=(const RemoveAtEnd&) = delete;

 private:
  const std::string path_;
};

// A coordinator that goes away is waited for. NOT_FOUND, saying what to do, when the blob has gone.
Status Download(FarmConnection* farm, const v1::BlobRef& blob, const std::string& path, const CancelToken& cancel);

// Syncs nothing itself: `temporary` must be. Notes the output, then renames.
Status Publish(JobRecord* record, const WrittenOutput& written, const std::string& temporary);

// Whether a regular file with these bytes is there.
bool HasContent(const std::string& path, const std::string& sha256, int64_t bytes);

}  // namespace nsic

#endif  // NSIC_CLIENT_STORE_OUTPUT_H_
