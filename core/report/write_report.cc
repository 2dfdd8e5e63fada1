#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "core/base/files.h"
#include "core/report/page.h"
#include "core/report/report.h"

namespace nsic {
namespace {

using nlohmann::json;

constexpr size_t kThumbnailGroup = 100;                // files a script element; page.html knows it too
constexpr size_t kThumbnailBudget = size_t{64} << 20;  // of base64 in one page: browsers still open that without effort

// JSON text. Bytes that are no UTF-8 become U+FFFD.
std::string Text(const json& value, int indent = -1) { return value.dump(indent, ' ', false, json::error_handler_t::replace); }

std::string ValidUtf8(const std::string& bytes) { return json::parse(Text(bytes)).get<std::string>(); }

std::string EscapeHtml(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '"': escaped += "&quot;"; break;
      case '\'': escaped += "&#39;"; break;
      default: escaped += c;
    }
  }
  return escaped;
}

// JSON for a script element, which "</script>" or "<!--" in a file's name must not end. '<' occurs in JSON inside strings only.
std::string ScriptJson(const json& value) {
  std::string escaped;
  for (const char c : Text(value)) {
    if (c == '<') {
      escaped += "\\u003c";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string Base64(const std::string& bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) group = group << 8 | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j) text += i + j > bytes.size() ? '=' : kDigits[group >> (18 - 6 * j) & 63];
  }
  return text;
}

std::filesystem::path Absolute(const std::string& path) {
  std::filesystem::path absolute = std::filesystem::absolute(path).lexically_normal();
  return absolute.has_filename() ? absolute : absolute.parent_path();
}

// A link from a page in `folder` to a file, byte for byte: a name need not be UTF-8, and may hold anything.
std::string Link(const std::string& path, const std::string& folder) {
  if (path.empty()) return "";
  std::string link;
  for (const char c : Absolute(path).lexically_relative(Absolute(folder)).string()) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' || c == '-' || c == '.' ||
                       c == '_' || c == '~';
    if (plain) {
      link += c;
    } else {
      char escaped[4];
      std::snprintf(escaped, sizeof(escaped), "%%%02X", static_cast<uint8_t>(c));
      link += escaped;
    }
  }
  return link;
}

// What `submit --json` says of a file.
json FileToJson(const ReportFile& file) {
  json row = {{"input", file.input},   {"output", file.output},           {"state", FileStateName(file.state)}, {"error", file.error},
              {"model", file.model},   {"width", file.output_size.width}, {"height", file.output_size.height},  {"seconds", file.seconds},
              {"worker", file.worker}, {"precision", file.precision}};
  if (file.video) row["frames"] = file.video->frames;
  const ReportJudgement& judgement = file.judgement;
  if (judgement.scores) {
    row["score_before"] = judgement.scores->before;
    row["score_after"] = judgement.scores->after;
  }
  if (judgement.recommendation) {
    row["recommendation"] = judgement.recommendation->model.empty() ? "none" : judgement.recommendation->model;
    row["label"] = judgement.recommendation->label;
    row["probability"] = judgement.recommendation->probability;
  }
  if (!judgement.error.empty()) row["judging_error"] = judgement.error;
  return row;
}

// Of the frames that were scored: [number, before, after] each.
json FrameScoresToJson(const ReportScores& scores) {
  json frames = json::array();
  for (const ReportFrameScore& frame : scores.frames) frames.push_back({frame.frame, frame.before, frame.after});
  return frames;
}

// Nothing where nothing was scored.
json MeansToJson(const std::vector<ReportFile>& files) {
  const MeanReportScores mean = MeanScoresOf(files);
  if (mean.files == 0) return nullptr;
  return {{"files", mean.files}, {"before", mean.before}, {"after", mean.after}};
}

json VideoToJson(const ReportVideo& video) {
  return {{"frames_per_second", video.frames_per_second},
          {"duration", video.duration},
          {"input_codec", video.input_codec},
          {"output_codec", video.output_codec},
          {"carried", video.carried},
          {"left_out", video.left_out},
          {"frames_repeated", video.frames_repeated},
          {"frames_concealed", video.frames_concealed},
          {"concealed_at", video.concealed_at},
          {"notes", video.notes}};
}

json JobToJson(const Report& report) {
  return {{"job_id", report.job_id},
          {"state", report.state},
          {"title", report.title},
          {"version", report.version},
          {"started_ms", report.started_ms},
          {"ended_ms", report.ended_ms},
          {"no_scorer", report.no_scorer},
          {"no_recommender", report.no_recommender},
          {"scores", MeansToJson(report.files)}};
}

std::string ReportJson(const Report& report) {
  json all = JobToJson(report);
  json& files = all["files"] = json::array();
  for (const ReportFile& file : report.files) {
    json row = FileToJson(file);
    row["input_width"] = file.input_size.width;
    row["input_height"] = file.input_size.height;
    row["input_bytes"] = file.input_bytes;
    row["output_bytes"] = file.output_bytes;
    if (file.video) row["video"] = VideoToJson(*file.video);
    if (file.video && file.judgement.scores) row["video"]["frame_scores"] = FrameScoresToJson(*file.judgement.scores);
    files.push_back(std::move(row));
  }
  return Text(all, 1) + "\n";
}

std::string CsvField(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + "\"";
}

std::string Number(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

// RFC 4180, with a header line. Paths are written as the file system spells them.
std::string ReportCsv(const Report& report) {
  std::string csv =
      "input,output,state,error,model,input_width,input_height,width,height,input_bytes,output_bytes,seconds,worker,precision,frames,"
      "frames_repeated,frames_concealed,score_before,score_after,recommendation,label,probability\r\n";
  for (const ReportFile& file : report.files) {
    const std::optional<ReportScores>& scores = file.judgement.scores;
    const std::optional<ReportRecommendation>& recommendation = file.judgement.recommendation;
    const auto of_video = [&file](int64_t ReportVideo::*count) { return file.video ? std::to_string((*file.video).*count) : ""; };
    const std::string fields[] = {file.input,
                                  file.output,
                                  std::string(FileStateName(file.state)),
                                  file.error,
                                  file.model,
                                  std::to_string(file.input_size.width),
                                  std::to_string(file.input_size.height),
                                  std::to_string(file.output_size.width),
                                  std::to_string(file.output_size.height),
                                  std::to_string(file.input_bytes),
                                  std::to_string(file.output_bytes),
                                  Number(file.seconds, 3),
                                  file.worker,
                                  file.precision,
                                  of_video(&ReportVideo::frames),
                                  of_video(&ReportVideo::frames_repeated),
                                  of_video(&ReportVideo::frames_concealed),
                                  scores ? Number(scores->before, 2) : "",
                                  scores ? Number(scores->after, 2) : "",
                                  recommendation ? (recommendation->model.empty() ? "none" : recommendation->model) : "",
                                  recommendation ? recommendation->label : "",
                                  recommendation ? Number(recommendation->probability, 4) : ""};
    bool first = true;
    for (const std::string& field : fields) {
      if (!first) csv += ',';
      csv += CsvField(field);
      first = false;
    }
    csv += "\r\n";
  }
  return csv;
}

// For the page.
json JudgementToJson(const ReportJudgement& judgement) {
  json object = {{"error", judgement.error}};
  if (judgement.scores) {
    object["before"] = judgement.scores->before;
    object["after"] = judgement.scores->after;
    object["frames"] = FrameScoresToJson(*judgement.scores);
  }
  if (judgement.recommendation) {
    object["label"] = judgement.recommendation->label;
    object["probability"] = judgement.recommendation->probability;
    object["model"] = judgement.recommendation->model;
  }
  return object;
}

// The files' thumbnails in script elements of kThumbnailGroup files each, which the page parses when it shows one of them.
std::string ThumbnailScripts(const Report& report, bool* left_out) {
  std::string scripts;
  size_t spent = 0;
  *left_out = false;
  for (size_t first = 0; first < report.files.size(); first += kThumbnailGroup) {
    json group = json::array();
    for (size_t i = first; i < std::min(first + kThumbnailGroup, report.files.size()); ++i) {
      const ReportFile& file = report.files[i];
      const size_t cost = (file.before_jpeg.size() + file.after_jpeg.size()) / 3 * 4;
      if (spent + cost > kThumbnailBudget) *left_out = true;
      if (*left_out) {
        group.push_back(nullptr);
        continue;
      }
      spent += cost;
      group.push_back({Base64(file.before_jpeg), Base64(file.after_jpeg)});
    }
    scripts += "<script type=\"application/json\" id=\"thumbnails-" + std::to_string(first / kThumbnailGroup) + "\">" + ScriptJson(group) +
               "</script>\n";
  }
  return scripts;
}

std::string PageData(const Report& report, const std::string& folder, bool thumbnails_left_out) {
  json data = JobToJson(report);
  data["thumbnails_left_out"] = thumbnails_left_out;
  json& files = data["files"] = json::array();
  for (const ReportFile& file : report.files) {
    const bool done = file.state == FileState::kDone;
    files.push_back({{"input", file.input},
                     {"output", file.output},
                     {"input_link", Link(file.input, folder)},
                     {"output_link", done ? Link(file.output, folder) : ""},
                     {"state", FileStateName(file.state)},
                     {"error", file.error},
                     {"model", file.model},
                     {"input_size", {file.input_size.width, file.input_size.height}},
                     {"output_size", {file.output_size.width, file.output_size.height}},
                     {"input_bytes", file.input_bytes},
                     {"output_bytes", file.output_bytes},
                     {"seconds", file.seconds},
                     {"worker", file.worker},
                     {"precision", file.precision},
                     {"judgement", JudgementToJson(file.judgement)}});
    if (!file.video) continue;
    json& video = files.back()["video"] = VideoToJson(*file.video);
    video["frames"] = file.video->frames;
    video["before_link"] = Link(file.video->before_frame, folder);
    video["after_link"] = Link(file.video->after_frame, folder);
  }
  return ScriptJson(data);
}

std::string Page(const Report& report, const std::string& folder) {
  const std::string title = EscapeHtml(ValidUtf8(report.title));
  bool left_out;
  const std::string thumbnails = ThumbnailScripts(report, &left_out);
  const std::string data = PageData(report, folder, left_out);
  const std::pair<std::string_view, const std::string*> kPlaceholders[] = {
      {"@TITLE@", &title}, {"@DATA@", &data}, {"@THUMBNAILS@", &thumbnails}};
  // In one pass over the page, so that a file named "@DATA@" stays what it is.
  std::string page;
  std::string_view rest = kReportPage;
  while (!rest.empty()) {
    const size_t at = std::min(rest.find('@'), rest.size());
    page += rest.substr(0, at);
    rest.remove_prefix(at);
    if (rest.empty()) break;
    std::string_view taken = rest.substr(0, 1);
    std::string_view put = taken;
    for (const auto& [placeholder, value] : kPlaceholders) {
      if (rest.substr(0, placeholder.size()) != placeholder) continue;
      taken = placeholder;
      put = *value;
    }
    page += put;
    rest.remove_prefix(taken.size());
  }
  return page;
}

}  // namespace

std::string_view FileStateName(FileState state) {
  switch (state) {
    case FileState::kDone: return "done";
    case FileState::kFailed: return "failed";
    case FileState::kSkipped: return "skipped";
    case FileState::kCancelled: return "cancelled";
  }
  return "unknown";
}

MeanReportScores MeanScoresOf(const std::vector<ReportFile>& files) {
  MeanReportScores mean;
  for (const ReportFile& file : files) {
    if (!file.judgement.scores) continue;
    ++mean.files;
    mean.before += file.judgement.scores->before;
    mean.after += file.judgement.scores->after;
  }
  if (mean.files == 0) return mean;
  mean.before /= static_cast<double>(mean.files);
  mean.after /= static_cast<double>(mean.files);
  return mean;
}

Status WriteReport(const Report& report, const std::string& folder) {
  NSIC_RETURN_IF_ERROR(MakeFolders(folder));
  const auto write = [&folder](const char* name, const std::string& bytes) { return WriteFileAtomically(folder + "/" + name, bytes); };
  NSIC_RETURN_IF_ERROR(write("report.json", ReportJson(report)));
  NSIC_RETURN_IF_ERROR(write("report.csv", ReportCsv(report)));
  return write("index.html", Page(report, folder));
}

std::string ReportToJson(const Report& report, const std::string& report_path) {
  json object = {{"job_id", report.job_id}, {"state", report.state}, {"report", report_path}};
  json& files = object["files"] = json::array();
  for (const ReportFile& file : report.files) files.push_back(FileToJson(file));
  if (json means = MeansToJson(report.files); !means.is_null()) object["scores"] = std::move(means);
  return Text(object);
}

}  // namespace nsic
