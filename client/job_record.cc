#include "client/job_record.h"

#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "client/json_bytes.h"
#include "core/base/digest.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int kRecordVersion = 1;
constexpr std::string_view kPrefix = "record-";
constexpr std::string_view kSuffix = ".jsonl";

// Outputs below the output folder are stored relative to it, so that a record survives its folder's move.
Json OutputToJson(const std::string& output, const std::string& base) {
  const bool below = base == "/" ? !output.empty()
                                 : output.size() > base.size() && output.compare(0, base.size(), base) == 0 && output[base.size()] == '/';
  return BytesToJson(below ? output.substr(base == "/" ? 1 : base.size() + 1) : output);
}

std::string OutputFromJson(const Json& json, const std::string& base) {
  const std::string output = BytesFromJson(json);
  if (output.empty() || output.front() == '/') return output;
  return base == "/" ? "/" + output : base + "/" + output;
}

Json SizeToJson(Size size) { return {size.width, size.height}; }
Size SizeFromJson(const Json& json) { return {json.at(0).get<int>(), json.at(1).get<int>()}; }

Json ToJson(const ReportVideo& video, const std::string& base) {
  return {{"frames", video.frames},
          {"frames_per_second", video.frames_per_second},
          {"duration", video.duration},
          {"input_codec", video.input_codec},
          {"output_codec", video.output_codec},
          {"carried", video.carried},
          {"left_out", video.left_out},
          {"frames_repeated", video.frames_repeated},
          {"frames_concealed", video.frames_concealed},
          {"concealed_at", video.concealed_at},
          {"notes", video.notes},
          {"before_frame", OutputToJson(video.before_frame, base)},
          {"after_frame", OutputToJson(video.after_frame, base)}};
}

std::optional<ReportVideo> ReportVideoFromJson(const Json& json, const std::string& base) {
  if (!json.contains("video")) return std::nullopt;
  const Json& from = json.at("video");
  ReportVideo video;
  from.at("frames").get_to(video.frames);
  from.at("frames_per_second").get_to(video.frames_per_second);
  from.at("duration").get_to(video.duration);
  from.at("input_codec").get_to(video.input_codec);
  from.at("output_codec").get_to(video.output_codec);
  from.at("carried").get_to(video.carried);
  from.at("left_out").get_to(video.left_out);
  from.at("frames_repeated").get_to(video.frames_repeated);
  from.at("frames_concealed").get_to(video.frames_concealed);
  from.at("concealed_at").get_to(video.concealed_at);
  from.at("notes").get_to(video.notes);
  video.before_frame = OutputFromJson(from.at("before_frame"), base);
  video.after_frame = OutputFromJson(from.at("after_frame"), base);
  return video;
}

Json ToJson(const ReportJudgement& judgement) {
  Json json = {{"error", BytesToJson(judgement.error)}};
  if (judgement.scores) {
    Json frames = Json::array();
    for (const ReportFrameScore& frame : judgement.scores->frames) frames.push_back({frame.frame, frame.before, frame.after});
    json["scores"] = {{"before", judgement.scores->before}, {"after", judgement.scores->after}, {"frames", std::move(frames)}};
  }
  if (judgement.recommendation) {
    const ReportRecommendation& told = *judgement.recommendation;
    json["recommendation"] = {{"label", told.label}, {"probability", told.probability}, {"model", told.model}};
  }
  return json;
}

// Records of versions that did not judge have none.
ReportJudgement JudgementFromJson(const Json& json) {
  ReportJudgement judgement;
  if (!json.contains("judgement")) return judgement;
  const Json& from = json.at("judgement");
  judgement.error = BytesFromJson(from.at("error"));
  if (from.contains("scores")) {
    ReportScores& scores = judgement.scores.emplace();
    from.at("scores").at("before").get_to(scores.before);
    from.at("scores").at("after").get_to(scores.after);
    for (const Json& frame : from.at("scores").at("frames")) {
      scores.frames.push_back({frame.at(0).get<int>(), frame.at(1).get<double>(), frame.at(2).get<double>()});
    }
  }
  if (from.contains("recommendation")) {
    ReportRecommendation& told = judgement.recommendation.emplace();
    from.at("recommendation").at("label").get_to(told.label);
    from.at("recommendation").at("probability").get_to(told.probability);
    from.at("recommendation").at("model").get_to(told.model);
  }
  return judgement;
}

Json ToJson(const WrittenOutput& written, const std::string& base) {
  Json json = {{"written", OutputToJson(written.output, base)},
               {"input_sha256", written.input_sha256},
               {"parameters", written.parameters},
               {"sha256", written.sha256},
               {"bytes", written.bytes},
               {"size", SizeToJson(written.size)},
               {"model", written.model},
               {"seconds", written.seconds},
               {"worker", written.worker},
               {"precision", written.precision}};
  if (written.video) json["video"] = ToJson(*written.video, base);
  json["judgement"] = ToJson(written.judgement);
  return json;
}

WrittenOutput WrittenFromJson(const Json& json, const std::string& base) {
  WrittenOutput written;
  written.output = OutputFromJson(json.at("written"), base);
  json.at("input_sha256").get_to(written.input_sha256);
  json.at("parameters").get_to(written.parameters);
  json.at("sha256").get_to(written.sha256);
  json.at("bytes").get_to(written.bytes);
  written.size = SizeFromJson(json.at("size"));
  json.at("model").get_to(written.model);
  json.at("seconds").get_to(written.seconds);
  json.at("worker").get_to(written.worker);
  written.precision = json.value("precision", "");
  written.video = ReportVideoFromJson(json, base);
  written.judgement = JudgementFromJson(json);
  return written;
}

Result<Json> ToJson(const PlannedFile& file, const std::string& base) {
  Json json = {{"file", BytesToJson(file.input)}, {"path", BytesToJson(file.path)},
               {"sha256", file.sha256},           {"bytes", file.bytes},
               {"size", SizeToJson(file.size)},   {"output", OutputToJson(file.output, base)}};
  if (file.video) {
    std::string message;
    const auto status = google::protobuf::util::MessageToJsonString(file.video->message, &message);
    if (!status.ok()) return InternalError("cannot note what is done to " + file.input + ": " + status.ToString());
    json["video"] = {
        {"message", Json::parse(message)}, {"dropped_streams", file.video->dropped_streams}, {"parameters", file.video->parameters}};
  }
  return json;
}

Result<PlannedFile> PlannedFromJson(const Json& json, const std::string& base) {
  PlannedFile file;
  file.input = BytesFromJson(json.at("file"));
  file.path = BytesFromJson(json.at("path"));
  json.at("sha256").get_to(file.sha256);
  json.at("bytes").get_to(file.bytes);
  file.size = SizeFromJson(json.at("size"));
  file.output = OutputFromJson(json.at("output"), base);
  if (json.contains("video")) {
    const Json& from = json.at("video");
    PlannedVideo& video = file.video.emplace();
    const auto status = google::protobuf::util::JsonStringToMessage(from.at("message").dump(), &video.message);
    if (!status.ok()) return DataLossError("what is done to the video " + file.input + " cannot be read: " + status.ToString());
    from.at("dropped_streams").get_to(video.dropped_streams);
    from.at("parameters").get_to(video.parameters);
  }
  return file;
}

// Thumbnails are not kept: they are made anew for each report.
Json ToJson(const ReportFile& file, const std::string& base) {
  Json json = {{"settled", BytesToJson(file.input)},
               {"output", OutputToJson(file.output, base)},
               {"state", static_cast<int>(file.state)},
               {"error", BytesToJson(file.error)},
               {"model", file.model},
               {"input_size", SizeToJson(file.input_size)},
               {"output_size", SizeToJson(file.output_size)},
               {"input_bytes", file.input_bytes},
               {"output_bytes", file.output_bytes},
               {"seconds", file.seconds},
               {"worker", file.worker},
               {"precision", file.precision}};
  if (file.video) json["video"] = ToJson(*file.video, base);
  json["judgement"] = ToJson(file.judgement);
  return json;
}

ReportFile SettledFromJson(const Json& json, const std::string& base) {
  ReportFile file;
  file.input = BytesFromJson(json.at("settled"));
  file.output = OutputFromJson(json.at("output"), base);
  const int state = json.at("state").get<int>();
  file.state = state >= 0 && state <= static_cast<int>(FileState::kCancelled) ? static_cast<FileState>(state) : FileState::kFailed;
  file.error = BytesFromJson(json.at("error"));
  json.at("model").get_to(file.model);
  file.input_size = SizeFromJson(json.at("input_size"));
  file.output_size = SizeFromJson(json.at("output_size"));
  json.at("input_bytes").get_to(file.input_bytes);
  json.at("output_bytes").get_to(file.output_bytes);
  json.at("seconds").get_to(file.seconds);
  json.at("worker").get_to(file.worker);
  file.precision = json.value("precision", "");
  file.video = ReportVideoFromJson(json, base);
  file.judgement = JudgementFromJson(json);
  return file;
}

Json JobToJson(const RecordedJob& job) {
  return {{"job", job.job_id},
          {"coordinator", job.coordinator},
          {"title", BytesToJson(job.title)},
          {"parameters", job.parameters},
          {"model", job.model},
          {"network_scale", job.network_scale},
          {"started_ms", job.started_ms},
          {"auto_model", job.auto_model},
          {"no_recommender", job.no_recommender}};
}

RecordedJob JobFromJson(const Json& json) {
  RecordedJob job;
  json.at("job").get_to(job.job_id);
  json.at("coordinator").get_to(job.coordinator);
  job.title = BytesFromJson(json.at("title"));
  json.at("parameters").get_to(job.parameters);
  json.at("model").get_to(job.model);
  json.at("network_scale").get_to(job.network_scale);
  json.at("started_ms").get_to(job.started_ms);
  job.auto_model = json.value("auto_model", false);
  job.no_recommender = json.value("no_recommender", false);
  return job;
}

struct Contents {
  std::optional<RecordedJob> job;
  bool closed = false;
  std::vector<WrittenOutput> written;
  int64_t complete_bytes = 0;
};

Result<Contents> ReadRecord(const std::string& path, const std::string& base) {
  NSIC_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  Contents contents;
  size_t line_number = 0;
  size_t start = 0;
  while (start < text.size()) {
    const size_t end = text.find('\n', start);
    if (end == std::string::npos) break;  // a killed client did not finish it
    ++line_number;
    try {
      const Json line = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(start), text.begin() + static_cast<std::ptrdiff_t>(end));
      if (line.contains("version")) {
        if (line.at("version").get<int>() != kRecordVersion) {
          return FailedPreconditionError(path + " was written by another version of nsic-client: remove it to start afresh");
        }
      } else if (line.contains("job")) {
        contents.job = JobFromJson(line);
      } else if (line.contains("closed")) {
        contents.closed = true;
      } else if (line.contains("written")) {
        contents.written.push_back(WrittenFromJson(line, base));
      } else if (line.contains("file") && contents.job) {
        Result<PlannedFile> file = PlannedFromJson(line, base);
        if (!file.ok()) return file.status().WithContext(path + ":" + std::to_string(line_number));
        contents.job->files.push_back(*std::move(file));
      } else if (line.contains("settled") && contents.job) {
        contents.job->settled.push_back(SettledFromJson(line, base));
      } else {
        return DataLossError(path + ":" + std::to_string(line_number) + " is no line of a record: remove the file to start afresh");
      }
    } catch (const Json::exception& error) {
      return DataLossError(path + ":" + std::to_string(line_number) + " is damaged (" + error.what() +
                           "): remove the file to start afresh");
    }
    start = end + 1;
  }
  contents.complete_bytes = static_cast<int64_t>(start);
  return contents;
}

// Names of the record files in a folder; none if it cannot be listed.
std::vector<std::string> RecordFiles(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.size() > kPrefix.size() + kSuffix.size() && name.compare(0, kPrefix.size(), kPrefix) == 0 &&
        name.compare(name.size() - kSuffix.size(), kSuffix.size(), kSuffix) == 0) {
      names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string BaseOf(const std::string& report_folder) { return fs::path(report_folder).parent_path().string(); }

bool HasSize(const std::string& path, int64_t bytes) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_size == bytes;
}

}  // namespace

std::string JobRecord::path() const { return folder_ + "/" + std::string(kPrefix) + key_ + std::string(kSuffix); }

Result<std::unique_ptr<JobRecord>> JobRecord::Open(const std::string& report_folder, const std::string& key) {
  std::unique_ptr<JobRecord> record(new JobRecord(report_folder, key));
  const std::string base = BaseOf(report_folder);
  for (const std::string& name : RecordFiles(report_folder)) {
    const std::string path = report_folder + "/" + name;
    const bool own = path == record->path();
    Result<Contents> contents = ReadRecord(path, base);
    if (!contents.ok()) {
      if (own) return contents.status();
      continue;  // it only adds what is known: without it those outputs are strangers' files, which are not overwritten
    }
    if (own) {
      record->job_ = std::move(contents->job);
      record->closed_ = contents->closed;
      record->complete_bytes_ = contents->complete_bytes;
    }
    for (WrittenOutput& written : contents->written) {
      std::string output = written.output;
      record->known_.emplace(std::move(output), Known{std::move(written), own});
    }
  }
  return record;
}

bool JobRecord::Knows(const std::string& output) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return known_.count(output) != 0;
}

std::vector<WrittenOutput> JobRecord::Find(const std::string& output, const std::string& input_sha256,
                                           const std::string& parameters) const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<WrittenOutput> found;
  const auto [first, last] = known_.equal_range(output);
  for (auto known = first; known != last; ++known) {
    const WrittenOutput& written = known->second.written;
    if (written.input_sha256 == input_sha256 && written.parameters == parameters) found.push_back(written);
  }
  return found;
}

Status JobRecord::BeginJob(RecordedJob job) {
  std::lock_guard<std::mutex> lock(mutex_);
  const std::string base = BaseOf(folder_);
  std::string text = Json({{"version", kRecordVersion}}).dump() + "\n";
  const auto add = [&text](const Json& json) { text += json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; };
  for (auto known = known_.begin(); known != known_.end();) {
    // Lines about files that have gone or changed since say nothing any more.
    if (known->second.own && !HasSize(known->first, known->second.written.bytes)) {
      known = known_.erase(known);
      continue;
    }
    if (known->second.own) add(ToJson(known->second.written, base));
    ++known;
  }
  add(JobToJson(job));
  for (const PlannedFile& file : job.files) {
    NSIC_ASSIGN_OR_RETURN(const Json json, ToJson(file, base));
    add(json);
  }
  for (const ReportFile& file : job.settled) add(ToJson(file, base));

  NSIC_RETURN_IF_ERROR(MakeFolders(folder_));
  NSIC_RETURN_IF_ERROR(WriteFileAtomically(path(), text));
  UniqueFd fd(::open(path().c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!fd.valid()) return ErrnoError(errno, "cannot open " + path());
  fd_ = std::move(fd);
  job_ = std::move(job);
  closed_ = false;
  return OkStatus();
}

Status JobRecord::AppendLine(const std::string& line) {
  if (!fd_.valid()) {
    fd_ = UniqueFd(::open(path().c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    if (!fd_.valid()) return ErrnoError(errno, "cannot open " + path());
    if (::ftruncate(fd_.get(), complete_bytes_) != 0) return ErrnoError(errno, "cannot shorten " + path());
  }
  struct stat info {};
  if (::fstat(fd_.get(), &info) != 0) return ErrnoError(errno, "cannot examine " + path());
  Status status = WriteAll(fd_.get(), line, path());
  if (status.ok() && ::fdatasync(fd_.get()) != 0) status = ErrnoError(errno, "cannot sync " + path());
  // Half a line (the disk is full) would swallow the next one.
  if (!status.ok() && ::ftruncate(fd_.get(), info.st_size) != 0) {
    return ErrnoError(errno, "cannot restore " + path()).WithContext(status.message());
  }
  return status;
}

Status JobRecord::Append(const WrittenOutput& written) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Json json = ToJson(written, BaseOf(folder_));
  NSIC_RETURN_IF_ERROR(AppendLine(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"));
  known_.emplace(written.output, Known{written, true});
  return OkStatus();
}

Status JobRecord::CloseJob() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!job_ || closed_) return OkStatus();
  NSIC_RETURN_IF_ERROR(AppendLine(Json({{"closed", job_->job_id}}).dump() + "\n"));
  closed_ = true;
  return OkStatus();
}

std::vector<std::string> RecordedOutputs(const std::string& report_folder) {
  std::vector<std::string> outputs;
  for (const std::string& name : RecordFiles(report_folder)) {
    Result<Contents> contents = ReadRecord(report_folder + "/" + name, BaseOf(report_folder));
    if (!contents.ok()) continue;
    for (WrittenOutput& written : contents->written) outputs.push_back(std::move(written.output));
  }
  return outputs;
}

std::string RecordKey(const std::vector<std::string>& inputs, const std::string& report_folder) {
  Sha256 digest;
  for (const std::string& input : inputs) {
    digest.Update(input);
    digest.Update(std::string_view("\0", 1));
  }
  digest.Update(report_folder);
  return digest.Hex().substr(0, 16);
}

}  // namespace nsic
