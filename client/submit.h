// What a submit and a fetch do with a job: find what is missing, run it, report.
#ifndef NSIC_CLIENT_SUBMIT_H_
#define NSIC_CLIENT_SUBMIT_H_

#include <optional>
#include <string>
#include <vector>

#include "client/job_record.h"
#include "client/plan_video.h"
#include "client/run_job.h"
#include "client/session.h"

namespace nsic {

// The packs that judge are those of these names, as the coordinator has it.
inline constexpr const char* kScorer = "ns-iqa";
inline constexpr const char* kRecommender = "ns-c";
// What --model auto means in a farm without a recommender.
inline constexpr const char* kUsualModel = "kairitsu-lite";

// Of one PATH... and its options: everything the command line says.
struct SubmitOptions {
  std::vector<std::string> paths;
  std::string out;
  std::string model = "auto";
  double strength = 1;
  double sharpen = 0;
  double scale = 0;
  std::string size;  // "WxH"
  std::string format = "keep";
  int jpeg_quality = 95;
  int priority = 0;
  int64_t split_pixels = 24'000'000;
  bool no_wait = false;
  // Videos:
  std::string codec;
  std::optional<double> crf;
  std::string preset;
  std::string pixel_format;
  std::string container = "keep";
  bool drop_streams = false;
  std::string deinterlace = "auto";
  bool tolerate = false;
  int static_threshold = 0;
  std::string frames;  // "A-B"
  std::optional<int> preview;
  std::optional<int> score_every;
};

// INVALID_ARGUMENT names the option. The model is left to the coordinator.
Result<v1::RestoreOptions> ToRestoreOptions(const SubmitOptions& options);
Result<VideoOptions> ToVideoOptions(const SubmitOptions& options);

// The hash of all that decides a picture's output, except the source: a result's key. (How a picture is split does not.)
std::string ParametersHash(const v1::RestoreOptions& options);
// The same for a video, whose message may still lack its index and range.
std::string ParametersHash(const v1::RestoreOptions& options, const v1::VideoInfo& video, const std::vector<int>& dropped_streams,
                           const std::optional<FrameNumbers>& frames);

// Output pixels per source pixel, each way, as the model's card says.
Result<int> NetworkScale(const v1::Model& model);

// What `settled` and the end of a job come to: writes the report with thumbnails, prints it, and returns the exit code.
struct FinalReport {
  std::string job_id;
  std::string state;  // "succeeded", "failed", "cancelled"; "running" when nobody waits
  std::string title;
  int64_t started_ms = 0;
  std::vector<ReportFile> files;
  std::string report_folder;
  bool no_recommender = false;
  bool write = true;
};
int PrintReport(Session* session, FinalReport final_report);

// Runs a job with the session's farm; says how to resume when it is interrupted.
Result<JobEnd> RunJobInSession(Session* session, JobRecord* record, const RecordedJob& job, const v1::RestoreOptions& restore, bool wait);

}  // namespace nsic

#endif  // NSIC_CLIENT_SUBMIT_H_
