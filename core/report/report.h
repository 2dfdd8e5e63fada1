// The report of a job: one HTML page for people, JSON and CSV for programs.
#ifndef NSIC_CORE_REPORT_REPORT_H_
#define NSIC_CORE_REPORT_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/geometry.h"
#include "core/base/status.h"

namespace nsic {

enum class FileState { kDone, kFailed, kSkipped, kCancelled };
std::string_view FileStateName(FileState state);  // "done", "failed", "skipped", "cancelled"

// From 0 (worst) to 100 (best).
struct ReportFrameScore {
  int frame = 0;  // its number in the video, from 0
  double before = 0;
  double after = 0;
};
struct ReportScores {
  double before = 0;  // of a video: the means of `frames`
  double after = 0;
  std::vector<ReportFrameScore> frames;
};

// What a recommender sees in a file.
struct ReportRecommendation {
  std::string label;       // "photograph-light"
  double probability = 0;  // of the label, 0 to 1
  std::string model;       // empty: the file needs no repair
};

// How good a file is, and what was done to it before. What is not known is left out.
struct ReportJudgement {
  std::optional<ReportScores> scores;
  std::optional<ReportRecommendation> recommendation;
  std::string error;  // why one of them is missing though it was wanted, one sentence
};

// What a video has beyond what pictures have. Of a finished one.
struct ReportVideo {
  int64_t frames = 0;            // of the output
  double frames_per_second = 0;  // on average
  double duration = 0;           // of the output, in seconds
  std::string input_codec;       // FFmpeg's names: "h264"
  std::string output_codec;
  std::vector<std::string> carried;   // the other streams that the output has: "audio 1 (aac, eng)"
  std::vector<std::string> left_out;  // those that it has not, as the user allowed
  int64_t frames_repeated = 0;        // whose result was that of an equal frame before
  int64_t frames_concealed = 0;       // that could not be decoded and show the last good one
  std::vector<double> concealed_at;   // seconds into the video, of the first of them
  std::vector<std::string> notes;     // what else the user should know, a sentence each
  std::string before_frame;           // pictures of the frame in the middle, paths; empty if there are none
  std::string after_frame;
};

struct ReportFile {
  std::string input;   // path of the source, as the file system spells it (may not be UTF-8)
  std::string output;  // path of the output; empty unless done
  FileState state = FileState::kDone;
  std::string error;  // one sentence, when failed or skipped
  std::string model;  // that restored it; empty where the recommender saw nothing to repair
  Size input_size;
  Size output_size;
  int64_t input_bytes = 0;
  int64_t output_bytes = 0;
  double seconds = 0;       // of work on it, summed over its tasks
  std::string worker;       // names, comma-separated when several
  std::string precision;    // that the network computed in: "bf16", or "bf16, fp32" where workers differed
  std::string before_jpeg;  // thumbnails (JPEG bytes); empty unless done
  std::string after_jpeg;
  std::optional<ReportVideo> video;
  ReportJudgement judgement;
};

// The mean over the files that were scored.
struct MeanReportScores {
  int64_t files = 0;
  double before = 0;
  double after = 0;
};
MeanReportScores MeanScoresOf(const std::vector<ReportFile>& files);

struct Report {
  std::string job_id;
  std::string state;       // "succeeded", "failed", "cancelled"
  std::string title;       // the folder
  std::string version;     // of the software
  int64_t started_ms = 0;  // since the epoch
  int64_t ended_ms = 0;
  bool no_scorer = false;       // the farm has none
  bool no_recommender = false;  // the farm has none, and the job wanted one: it took the usual model
  std::vector<ReportFile> files;
};

// Bytes in names and errors that are not UTF-8 are shown as U+FFFD in the page and in JSON; links and CSV have the bytes as they are.
// One page holds up to 64 MB of thumbnails; the files after that are listed without.
//
// Writes index.html (self-contained; English and Traditional Chinese, switched on the page), report.json and report.csv into `folder`, each
// by rename. The page: totals; a row a file with thumbnails before and after, scores, model and recommendation, time, worker, error; a
// slider that compares the full-size files, which it finds by relative path (and says so when they have been moved); for a video its facts,
// a graph of its frames' scores, the slider over its middle frame, and both files to play.
Status WriteReport(const Report& report, const std::string& folder);

// The object of `submit --json`, on one line:
// {"job_id","state","files":[{"input","output","state","error","model","width","height","seconds","worker","precision"}],"report"}. width
// and height are the output's. What does not apply is "" or 0. A video that is done has "frames" too. A file that was judged has
// "score_before" and "score_after", and "recommendation" (a model, or "none"), "label" and "probability". With scores, "scores" has
// "files", "before" and "after".
std::string ReportToJson(const Report& report, const std::string& report_path);

}  // namespace nsic

#endif  // NSIC_CORE_REPORT_REPORT_H_
