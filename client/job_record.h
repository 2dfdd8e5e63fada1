// The record of a submit, kept beside its report: what makes "the same again" do only what is missing, and a killed client resume.
//
// A file of JSON lines, nsic-report/record-KEY.jsonl, where KEY names the inputs and the output folder, so that submits of different files
// into one folder do not touch each other's. The beginning (what is known of finished outputs, then the open job with its files) is
// written by rename; finished outputs are appended. A line that a killed client left incomplete is ignored.
#ifndef NSIC_CLIENT_JOB_RECORD_H_
#define NSIC_CLIENT_JOB_RECORD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/base/files.h"
#include "core/base/geometry.h"
#include "core/base/status.h"
#include "core/media/picture.h"
#include "core/report/report.h"
#include "nsic/v1/video.pb.h"

namespace nsic {

// How a job restores a video.
struct PlannedVideo {
  v1::VideoInfo message;             // as the manifest has it
  std::vector<int> dropped_streams;  // of the source, by index: its container cannot hold them, and the user allows that
  std::string parameters;            // hash of what is done
  std::string index;                 // the blob that message.index names; not kept in the record
};

// A picture or a video that a job restores.
struct PlannedFile {
  std::string input;   // absolute path of the source
  std::string path;    // its name in the manifest
  std::string sha256;  // of the source
  int64_t bytes = 0;
  Size size;           // in pixels, after orientation
  std::string output;  // absolute path
  PictureInfo info;    // what the manifest says of a picture; not kept in the record
  std::optional<PlannedVideo> video;
};

// A finished output. It counts only while the file at `output` has the hash: the line is written before the file is renamed into place.
struct WrittenOutput {
  std::string output;  // absolute path
  std::string input_sha256;
  std::string parameters;  // hash of what was done: ParametersHash
  std::string sha256;      // of the output
  int64_t bytes = 0;
  Size size;
  std::string model;  // name, for the report
  double seconds = 0;
  std::string worker;
  std::string precision;  // as ReportFile has it
  std::optional<ReportVideo> video;
  ReportJudgement judgement;
};

struct RecordedJob {
  std::string job_id;
  std::string coordinator;      // "HOST:PORT", or "local"
  std::string title;            // for the report
  std::string parameters;       // hash of what is done to pictures
  std::string model;            // name
  bool auto_model = false;      // each file's was chosen by the recommender
  bool no_recommender = false;  // as Report has it
  int network_scale = 1;
  int64_t started_ms = 0;
  std::vector<PlannedFile> files;   // in the order of the manifest
  std::vector<ReportFile> settled;  // files that are not part of the job: skipped, failed before it began, or done earlier

  const std::string& ParametersOf(const PlannedFile& file) const { return file.video ? file.video->parameters : parameters; }
};

// Thread-safe but for BeginJob.
class JobRecord {
 public:
  // Reads record-KEY.jsonl in `report_folder` if it is there, and what the other records in the folder know of outputs. Nothing is
  // written yet.
  static Result<std::unique_ptr<JobRecord>> Open(const std::string& report_folder, const std::string& key);

  const std::string& report_folder() const { return folder_; }
  const std::string& key() const { return key_; }
  // The job that was begun last, and whether it still needs a client.
  const std::optional<RecordedJob>& job() const { return job_; }
  bool job_is_open() const { return job_ && !closed_; }

  // Whether the output was made by a submit (any version of it).
  bool Knows(const std::string& output) const;
  // What is recorded of an output that was made from this source with these parameters: the file is good if it has one of the hashes.
  std::vector<WrittenOutput> Find(const std::string& output, const std::string& input_sha256, const std::string& parameters) const;

  // Makes the folder and rewrites the record with this job as the open one.
  Status BeginJob(RecordedJob job);
  // Adds a line and syncs.
  Status Append(const WrittenOutput& written);
  // The job needs no client any more.
  Status CloseJob();

 private:
  struct Known {
    WrittenOutput written;
    bool own;  // this record names it, not another one in the folder
  };

  JobRecord(std::string folder, std::string key) : folder_(std::move(folder)), key_(std::move(key)) {}
  std::string path() const;
  Status AppendLine(const std::string& line);

  const std::string folder_;
  const std::string key_;
  mutable std::mutex mutex_;  // guards what follows
  std::optional<RecordedJob> job_;
  bool closed_ = false;
  std::multimap<std::string, Known> known_;  // by output
  int64_t complete_bytes_ = 0;               // of the file that Open read: what follows is an incomplete line
  UniqueFd fd_;                              // for appending, once something was
};

// Absolute paths of all outputs that the records in `report_folder` know. Empty if there are none or they cannot be read.
std::vector<std::string> RecordedOutputs(const std::string& report_folder);

// The key of a submit: which inputs go where.
std::string RecordKey(const std::vector<std::string>& inputs, const std::string& report_folder);

}  // namespace nsic

#endif  // NSIC_CLIENT_JOB_RECORD_H_
