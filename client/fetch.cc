// fetch JOB: brings home what a job has finished and waits for the rest.
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "client/map_outputs.h"
#include "client/scan_inputs.h"
#include "client/session.h"
#include "client/submit.h"
#include "client/text.h"
#include "core/base/files.h"

namespace nsic {
namespace {

struct FetchOptions {
  std::string job_id;
  std::string out;
};

class Fetch {
 public:
  Fetch(Session* session, const FetchOptions& options) : session_(session), options_(options) {}
  int Run();

 private:
  // The record that the submit left, when its folder is where the outputs shall go.
  Status UseRecord();
  // A job as its manifest tells it, with outputs below --out.
  Status UseManifest();
  Status Lock(const std::string& key);

  Session* const session_;
  const FetchOptions& options_;
  std::optional<JobPlace> place_;  // if it was submitted here
  std::string state_folder_;
  v1::Job state_;
  std::optional<FileLock> lock_;
  std::unique_ptr<JobRecord> record_;
  RecordedJob job_;
};

Status Fetch::Lock(const std::string& key) {
  NSIC_RETURN_IF_ERROR(MakeFolders(state_folder_ + "/locks"));
  Result<FileLock> lock = FileLock::Take(state_folder_ + "/locks/" + key);
  if (lock.status().code() == StatusCode::kAborted)
    return AbortedError("another nsic-client is working on this job: wait until it is done");
  NSIC_RETURN_IF_ERROR(lock.status());
  lock_.emplace(*std::move(lock));
  return OkStatus();
}

Status Fetch::UseRecord() {
  NSIC_RETURN_IF_ERROR(Lock(place_->record_key));
  NSIC_ASSIGN_OR_RETURN(record_, JobRecord::Open(place_->report_folder, place_->record_key));
  if (!record_->job() || record_->job()->job_id != options_.job_id) {
    return FailedPreconditionError("a later submit has taken the place of job " + options_.job_id + " in " + place_->report_folder +
                                   ": say where its outputs go with --out DIR");
  }
  job_ = *record_->job();
  return OkStatus();
}

Status Fetch::UseManifest() {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path base = fs::weakly_canonical(fs::absolute(options_.out, error), error);
  if (error) return ErrnoError(error.value(), "cannot find " + options_.out);
  const v1::BlobRef& blob = state_.spec().manifest();
  NSIC_ASSIGN_OR_RETURN(const std::string bytes, session_->farm().blobs().DownloadBytes(blob.sha256(), blob.size(), session_->cancel()));
  v1::JobManifest manifest;
  if (!manifest.ParseFromString(bytes)) return DataLossError("the coordinator's manifest of job " + options_.job_id + " cannot be read");

  const std::string report_folder = (base / std::string(kReportFolderName)).string();
  const std::string key = RecordKey({options_.job_id}, report_folder);
  NSIC_RETURN_IF_ERROR(Lock(key));
  NSIC_ASSIGN_OR_RETURN(record_, JobRecord::Open(report_folder, key));

  // Where it was submitted, the sources are known: for what is still to be sent, for pictures that come in pieces, for all of a video that
  // is not restored, and for the report.
  std::map<std::string, PlannedFile> known;
  if (place_) {
    const Result<std::unique_ptr<JobRecord>> original = JobRecord::Open(place_->report_folder, place_->record_key);
    if (original.ok() && (*original)->job() && (*original)->job()->job_id == options_.job_id) {
      for (const PlannedFile& file : (*original)->job()->files) known[file.path] = file;
    }
  }
  const v1::RestoreOptions& restore = state_.spec().options();
  job_.job_id = options_.job_id;
  job_.coordinator = session_->coordinator_name();
  job_.title = state_.spec().name();
  job_.parameters = ParametersHash(restore);
  job_.model = restore.model_name();
  job_.auto_model = restore.auto_model();
  job_.started_ms = session_->clock().WallMs();
  // Only pictures in pieces need the scale, and those need the original too; without the model they fail by themselves.
  // A recommender's models keep the size.
  const Result<v1::Model> model = session_->farm().GetModel(restore.model_id(), session_->cancel());
  if (model.ok()) {
    NSIC_ASSIGN_OR_RETURN(job_.network_scale, NetworkScale(*model));
  } else if (model.status().code() != StatusCode::kNotFound) {
    return model.status();
  }

  const OutputPlaces places{report_folder, {base.string()}, false};
  const InputRoot root{base.string(), true};
  std::vector<MappedFile> mapped;
  for (const v1::SourceFile& source : manifest.files()) {
    // Written by another client: it must not lead out of the folder.
    const fs::path relative = fs::path(source.path()).lexically_normal();
    if (relative.empty() || relative.is_absolute() || *relative.begin() == ".." || relative.filename().empty()) {
      return DataLossError("the manifest of job " + options_.job_id + " names a file outside its folder: " + source.path());
    }
    PlannedFile file;
    const auto earlier = known.find(source.path());
    file.input = earlier == known.end() ? "" : earlier->second.input;
    file.path = source.path();
    file.sha256 = source.content().sha256();
    file.bytes = source.content().size();
    if (source.has_video()) {
      const v1::VideoInfo& video = source.video();
      file.size = {video.width(), video.height()};
      file.output = VideoOutputPath(places, root, {0, relative.string(), ""}, video.encode().container());
      if (earlier != known.end() && earlier->second.video) {
        file.video = earlier->second.video;
      } else {
        const FrameNumbers frames{video.range().first() + 1, video.range().first() + video.range().count()};
        file.video = PlannedVideo{video, {}, ParametersHash(restore, video, {}, frames), ""};
      }
      mapped.push_back({file.input.empty() ? file.path : file.input, file.output});
      job_.files.push_back(std::move(file));
      continue;
    }
    PictureFormat format = PictureFormat::kPng;
    for (const PictureFormat candidate : {PictureFormat::kJpeg, PictureFormat::kPng, PictureFormat::kWebp, PictureFormat::kTiff,
                                          PictureFormat::kBmp, PictureFormat::kAvif}) {
      if (PictureFormatName(candidate) == source.picture().format()) format = candidate;
    }
    NSIC_ASSIGN_OR_RETURN(const PictureFormat output, OutputFormat(format, restore.format()));
    file.size = {source.picture().width(), source.picture().height()};
    file.output = OutputPath(places, root, {0, relative.string(), ""}, format, output);
    mapped.push_back({file.input.empty() ? file.path : file.input, file.output});
    job_.files.push_back(std::move(file));
  }
  NSIC_RETURN_IF_ERROR(CheckOutputs(mapped, [this](const std::string& output) { return record_->Knows(output); }));
  return record_->BeginJob(job_);
}

int Fetch::Run() {
  if (!IsJobId(options_.job_id)) {
    return session_->FailUsage(InvalidArgumentError("'" + options_.job_id + "' is no job id: nsic-client jobs lists them"));
  }
  Result<std::string> state_folder = StateFolder();
  if (!state_folder.ok()) return session_->Fail(state_folder.status());
  state_folder_ = *std::move(state_folder);
  Result<JobPlace> place = FindJobPlace(state_folder_, options_.job_id);
  if (place.ok()) place_ = *std::move(place);
  if (!place.ok() && place.status().code() != StatusCode::kNotFound) return session_->Fail(place.status());
  if (!place_ && options_.out.empty()) {
    return session_->FailUsage(
        InvalidArgumentError("job " + options_.job_id + " was not submitted from here: say where its outputs go with --out DIR"));
  }
  Status status = session_->Connect(Session::Need::kRestore, place_);
  if (!status.ok()) return session_->Fail(status);
  Result<v1::Job> state = session_->farm().GetJob(options_.job_id, session_->cancel());
  if (!state.ok()) return session_->Fail(state.status());
  state_ = *std::move(state);

  const MediaLibrary media;
  status = options_.out.empty() ? UseRecord() : UseManifest();
  if (!status.ok()) return status.code() == StatusCode::kInvalidArgument ? session_->FailUsage(status) : session_->Fail(status);
  if (session_->local_farm() != nullptr && state_.state() == v1::JOB_STATE_RUNNING) session_->local_farm()->StartWorker();
  const Result<JobEnd> end = RunJobInSession(session_, record_.get(), job_, state_.spec().options(), true);
  if (!end.ok()) return session_->Fail(end.status());
  if (end->unfetched == 0) {
    status = record_->CloseJob();
    if (!status.ok()) return session_->Fail(status);
  }
  FinalReport report;
  report.job_id = options_.job_id;
  report.state = end->state == v1::JOB_STATE_SUCCEEDED ? "succeeded" : end->state == v1::JOB_STATE_CANCELLED ? "cancelled" : "failed";
  report.title = job_.title;
  report.started_ms = job_.started_ms;
  report.files = job_.settled;
  report.files.insert(report.files.end(), end->files.begin(), end->files.end());
  report.report_folder = record_->report_folder();
  report.no_recommender = job_.no_recommender;
  return PrintReport(session_, std::move(report));
}

}  // namespace

void AddFetchCommand(CLI::App* app, Session* session) {
  auto options = std::make_shared<FetchOptions>();
  CLI::App* command = app->add_subcommand("fetch", "Bring a job's outputs home: go on where a submit was interrupted");
  command->add_option("job", options->job_id, "Job id")->required()->type_name("JOB");
  command->add_option("--out", options->out, "Folder for the outputs (default: where the submit put them)")->type_name("DIR");
  command->callback([session, options] { session->command = [session, options] { return Fetch(session, *options).Run(); }; });
}

}  // namespace nsic
