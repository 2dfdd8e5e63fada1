#include "client/submit.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "client/map_outputs.h"
#include "client/probe_inputs.h"
#include "client/scan_inputs.h"
#include "client/text.h"
#include "core/base/digest.h"
#include "core/base/program.h"
#include "models/io/model_pack.h"

namespace nsic {
namespace {

constexpr int kThumbnailSide = 320;
constexpr const char* kAutoModel = "kairitsu-lite";
constexpr size_t kNamedSkips = 10;  // more are in the report

bool ParseWidthHeight(const std::string& text, int* width, int* height) {
  const char* end = text.data() + text.size();
  const auto [middle, error] = std::from_chars(text.data(), end, *width);
  if (error != std::errc() || middle == end || (*middle != 'x' && *middle != 'X')) return false;
  const auto [rest, second_error] = std::from_chars(middle + 1, end, *height);
  return second_error == std::errc() && rest == end && *width > 0 && *height > 0;
}

// The outputs that are there already, as the record and the files themselves say.
std::optional<WrittenOutput> FindFinished(const JobRecord& record, const PlannedFile& file, const std::string& parameters) {
  for (WrittenOutput& written : record.Find(file.output, file.sha256, parameters)) {
    const Result<std::string> hash = Sha256OfFile(file.output);
    if (hash.ok() && *hash == written.sha256) return std::move(written);
  }
  return std::nullopt;
}

ReportFile ToReportFile(const PlannedFile& file, const WrittenOutput& written) {
  ReportFile report;
  report.input = file.input;
  report.output = file.output;
  report.state = FileState::kDone;
  report.model = written.model;
  report.input_size = file.size;
  report.output_size = written.size;
  report.input_bytes = file.bytes;
  report.output_bytes = written.bytes;
  report.seconds = written.seconds;
  report.worker = written.worker;
  return report;
}

std::string Title(const std::vector<InputRoot>& roots) {
  std::string title = roots.front().name().empty() ? roots.front().path : roots.front().name();
  if (roots.size() > 1) title += " and " + std::to_string(roots.size() - 1) + " more";
  return title;
}

// One run of `submit`.
class Submit {
 public:
  Submit(Session* session, const SubmitOptions& options) : session_(session), options_(options) {}
  int Run();

 private:
  // Looks at the inputs and fills in planned_ and settled_. False: `*exit` says how it ended.
  bool Plan(int* exit);
  Status ChooseModel();
  // Moves what is finished from planned_ to settled_.
  Status SetFinishedAside();
  // Goes on with the job of an earlier run, or takes what it has finished. `*resumed` when it is what is wanted now.
  Status TakeUpOpenJob(std::optional<JobEnd>* resumed);
  Result<RecordedJob> SubmitMissing();
  int Report(const std::string& job_id, const std::vector<ReportFile>& of_job, v1::JobState state);
  int ReportSubmitted(const RecordedJob& job, int64_t without_room);

  Session* const session_;
  const SubmitOptions& options_;
  v1::RestoreOptions restore_;
  std::string parameters_;
  int network_scale_ = 1;
  Scan scan_;
  OutputPlaces places_;
  std::optional<FileLock> lock_;
  std::unique_ptr<JobRecord> record_;
  std::string state_folder_;
  std::vector<PlannedFile> planned_;  // what is still to be done
  std::vector<ReportFile> settled_;   // everything else
  int64_t started_ms_ = 0;
};

Status Submit::ChooseModel() {
  const std::string name = options_.model == "auto" ? kAutoModel : options_.model;
  NSIC_ASSIGN_OR_RETURN(const v1::Model model, session_->farm().GetModel(name, session_->cancel()));
  NSIC_ASSIGN_OR_RETURN(const ModelCard card, ParseModelCard(model.card(), "the model " + model.name()));
  if (card.task != ModelTask::kEnhance) {
    return InvalidArgumentError("the model " + model.name() + " does not restore pictures (its task is to " + model.task() +
                                "): nsic-client models list shows which do");
  }
  restore_.set_model_id(model.id());
  restore_.set_model_name(model.name());
  network_scale_ = card.scale;
  parameters_ = ParametersHash(restore_);
  return OkStatus();
}

bool Submit::Plan(int* exit) {
  const CancelToken& cancel = session_->cancel();
  ProgressState shown;
  shown.activity = "looking at";
  shown.files = static_cast<int64_t>(scan_.files.size());
  std::mutex mutex;
  Result<std::vector<ProbedFile>> probed = ProbeFiles(scan_.files, cancel, [&](size_t) {
    std::lock_guard<std::mutex> lock(mutex);
    ++shown.files_done;
    session_->progress().Update(shown);
  });
  if (!probed.ok()) {
    *exit = session_->Fail(probed.status());
    return false;
  }

  std::vector<MappedFile> mapped;
  std::map<size_t, std::string> outputs;  // by index into probed
  for (size_t i = 0; i < probed->size(); ++i) {
    ProbedFile& file = (*probed)[i];
    if (file.state != ProbeState::kPicture) continue;
    const Result<PictureFormat> format = OutputFormat(file.info.format, options_.format);
    if (!format.ok()) {
      file.state = ProbeState::kFailed;
      file.reason = format.status().message();
      continue;
    }
    outputs[i] = OutputPath(places_, scan_.roots[file.file.root], file.file, file.info.format, *format);
    mapped.push_back({file.file.path, outputs[i]});
  }
  const Status check = CheckOutputs(mapped, [this](const std::string& output) { return record_->Knows(output); });
  if (!check.ok()) {
    *exit = session_->FailUsage(check);
    return false;
  }

  session_->progress().Clear();
  shown.activity = "hashing";
  shown.files = static_cast<int64_t>(mapped.size());
  shown.files_done = 0;
  const Status hashed = HashFiles(&*probed, cancel, [&](int64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    ++shown.files_done;
    shown.units_done += static_cast<double>(bytes) / (1 << 20);
    session_->progress().Update(shown);
  });
  if (!hashed.ok()) {
    *exit = session_->Fail(hashed);
    return false;
  }
  session_->progress().Clear();

  for (size_t i = 0; i < probed->size(); ++i) {
    const ProbedFile& file = (*probed)[i];
    if (file.state == ProbeState::kPicture) {
      planned_.push_back(
          {file.file.path, ManifestPath(scan_.roots, file.file), file.sha256, file.bytes, file.info.size, outputs[i], file.info});
    } else {
      ReportFile& settled = settled_.emplace_back();
      settled.input = file.file.path;
      settled.state = file.state == ProbeState::kFailed ? FileState::kFailed : FileState::kSkipped;
      settled.error = file.reason;
    }
  }
  for (const LeftOut& left_out : scan_.left_out) {
    ReportFile& settled = settled_.emplace_back();
    settled.input = left_out.path;
    settled.state = left_out.failed ? FileState::kFailed : FileState::kSkipped;
    settled.error = left_out.reason;
  }
  return true;
}

Status Submit::SetFinishedAside() {
  std::vector<std::optional<WrittenOutput>> finished(planned_.size());
  NSIC_RETURN_IF_ERROR(ForEachInParallel(planned_.size(), session_->cancel(),
                                         [&](size_t i) { finished[i] = FindFinished(*record_, planned_[i], parameters_); }));
  std::vector<PlannedFile> missing;
  for (size_t i = 0; i < planned_.size(); ++i) {
    if (finished[i]) {
      settled_.push_back(ToReportFile(planned_[i], *finished[i]));
    } else {
      missing.push_back(std::move(planned_[i]));
    }
  }
  planned_ = std::move(missing);
  return OkStatus();
}

Status Submit::TakeUpOpenJob(std::optional<JobEnd>* resumed) {
  if (!record_->job_is_open()) return OkStatus();
  const RecordedJob job = *record_->job();
  if (job.coordinator != session_->coordinator_name()) {
    session_->progress().Notice("an earlier job of this submit, " + job.job_id + ", stays at the coordinator " +
                                ForTerminal(job.coordinator));
    return OkStatus();
  }
  const Result<v1::Job> state = session_->farm().GetJob(job.job_id, session_->cancel());
  if (!state.ok()) return state.status().code() == StatusCode::kNotFound ? OkStatus() : state.status();  // it has forgotten it: start anew

  // Is what that job still has to do just what is missing now?
  std::set<std::pair<std::string, std::string>> wanted;
  for (const PlannedFile& file : planned_) wanted.emplace(file.output, file.sha256);
  size_t shared = 0;
  bool same = job.parameters == parameters_;
  for (const PlannedFile& file : job.files) {
    if (wanted.count({file.output, file.sha256}) != 0) {
      ++shared;
    } else if (!FindFinished(*record_, file, job.parameters)) {
      same = false;
    }
  }
  same = same && shared == wanted.size();

  const bool running = state->state() == v1::JOB_STATE_RUNNING;
  if (running && same && !options_.no_wait) {
    session_->progress().Notice("going on with job " + job.job_id);
    if (session_->local_farm() != nullptr) session_->local_farm()->StartWorker();
    // What the job names is told by its end.
    std::set<std::string> inputs;
    for (const PlannedFile& file : job.files) inputs.insert(file.input);
    settled_.erase(std::remove_if(settled_.begin(), settled_.end(), [&](const ReportFile& file) { return inputs.count(file.input) != 0; }),
                   settled_.end());
    Result<JobEnd> end = RunJobInSession(session_, record_.get(), job, state->spec().options(), true);
    if (!end.ok()) return end.status();
    *resumed = *std::move(end);
    return OkStatus();
  }
  // Otherwise take what it has finished, if it is wanted, and end it: the rest becomes part of a new job.
  if (job.parameters == parameters_) {
    NSIC_RETURN_IF_ERROR(RunJobInSession(session_, record_.get(), job, state->spec().options(), false).status());
    NSIC_RETURN_IF_ERROR(SetFinishedAside());
  }
  if (running) {
    session_->progress().Notice("job " + job.job_id + " of an earlier submit is cancelled: what is missing becomes a new job");
    NSIC_RETURN_IF_ERROR(session_->farm().ChangeJob(&v1::Jobs::Stub::Cancel, job.job_id, session_->cancel()).status());
  }
  return record_->CloseJob();
}

Result<RecordedJob> Submit::SubmitMissing() {
  LocalFarm* const local = session_->local_farm();
  v1::JobManifest manifest;
  for (const PlannedFile& file : planned_) {
    v1::SourceFile* source = manifest.add_files();
    source->set_path(file.path);
    source->mutable_content()->set_sha256(file.sha256);
    source->mutable_content()->set_size(file.bytes);
    if (local != nullptr) {
      source->mutable_in_place()->set_root_id(local->root_id());
      source->mutable_in_place()->set_path(file.input.substr(1));
    }
    v1::PictureInfo* picture = source->mutable_picture();
    picture->set_width(file.size.width);
    picture->set_height(file.size.height);
    picture->set_format(std::string(PictureFormatName(file.info.format)));
    picture->set_depth(file.info.depth);
    picture->set_alpha(file.info.alpha);
    picture->set_grey(file.info.grey);
  }
  const std::string bytes = manifest.SerializeAsString();

  RecordedJob job;
  job.job_id = RandomHex(16);
  job.coordinator = session_->coordinator_name();
  job.title = Title(scan_.roots);
  job.parameters = parameters_;
  job.model = restore_.model_name();
  job.network_scale = network_scale_;
  job.started_ms = started_ms_;
  job.files = planned_;
  job.settled = settled_;

  v1::SubmitRequest request;
  request.set_job_id(job.job_id);
  request.mutable_spec()->set_name(ForTerminal(job.title));
  *request.mutable_spec()->mutable_options() = restore_;
  request.mutable_spec()->mutable_manifest()->set_sha256(Sha256Hex(bytes));
  request.mutable_spec()->mutable_manifest()->set_size(static_cast<int64_t>(bytes.size()));
  request.mutable_spec()->set_priority(options_.priority);

  // Recorded before it exists: a job that a killed client has submitted is one that its next run knows.
  NSIC_RETURN_IF_ERROR(record_->BeginJob(job));
  NSIC_RETURN_IF_ERROR(
      SaveJobPlace(state_folder_, job.job_id, {job.coordinator, session_->token_file(), record_->report_folder(), record_->key()}));
  NSIC_RETURN_IF_ERROR(session_->farm().blobs().UploadBytes(bytes, request.spec().manifest().sha256(), session_->cancel()));
  NSIC_RETURN_IF_ERROR(session_->farm().Submit(request, session_->cancel()).status());
  return job;
}

int Submit::Report(const std::string& job_id, const std::vector<ReportFile>& of_job, v1::JobState state) {
  FinalReport report;
  report.job_id = job_id;
  report.title = Title(scan_.roots);
  report.started_ms = started_ms_;
  report.files = settled_;
  report.files.insert(report.files.end(), of_job.begin(), of_job.end());
  const bool failed =
      std::any_of(report.files.begin(), report.files.end(), [](const ReportFile& file) { return file.state == FileState::kFailed; });
  report.state = state == v1::JOB_STATE_CANCELLED && !failed ? "cancelled" : failed ? "failed" : "succeeded";
  report.report_folder = places_.report_folder;
  return PrintReport(session_, std::move(report));
}

int Submit::ReportSubmitted(const RecordedJob& job, int64_t without_room) {
  if (without_room > 0) {
    session_->progress().Notice("the coordinator has no room for " + Count(without_room, "more picture") + ": nsic-client fetch " +
                                job.job_id + " sends them while it brings outputs home");
  }
  FinalReport report;
  report.job_id = job.job_id;
  report.state = "running";
  report.title = job.title;
  report.started_ms = started_ms_;
  report.files = settled_;
  report.report_folder = places_.report_folder;
  report.write = false;
  return PrintReport(session_, std::move(report));
}

int Submit::Run() {
  started_ms_ = session_->clock().WallMs();
  Result<v1::RestoreOptions> restore = ToRestoreOptions(options_);
  if (!restore.ok()) return session_->FailUsage(restore.status());
  restore_ = *std::move(restore);
  Result<Scan> scan = ScanInputs(options_.paths);
  if (!scan.ok()) return session_->FailUsage(scan.status());
  scan_ = *std::move(scan);
  Result<OutputPlaces> places = PlaceOutputs(scan_.roots, options_.out);
  if (!places.ok()) return session_->FailUsage(places.status());
  places_ = *std::move(places);

  // One client at a time works on one submit.
  Result<std::string> state_folder = StateFolder();
  if (!state_folder.ok()) return session_->Fail(state_folder.status());
  state_folder_ = *std::move(state_folder);
  std::vector<std::string> inputs;
  for (const InputRoot& root : scan_.roots) inputs.push_back(root.path);
  const std::string key = RecordKey(inputs, places_.report_folder);
  const Status locks = MakeFolders(state_folder_ + "/locks");
  if (!locks.ok()) return session_->Fail(locks);
  Result<FileLock> lock = FileLock::Take(state_folder_ + "/locks/" + key);
  if (lock.status().code() == StatusCode::kAborted) {
    return session_->Fail(AbortedError("another nsic-client is working on this submit: wait until it is done"));
  }
  if (!lock.ok()) return session_->Fail(lock.status());
  lock_.emplace(*std::move(lock));
  Result<std::unique_ptr<JobRecord>> record = JobRecord::Open(places_.report_folder, key);
  if (!record.ok()) return session_->Fail(record.status());
  record_ = *std::move(record);

  Status status = session_->Connect(Session::Need::kRestore);
  if (!status.ok()) return session_->Fail(status);
  if (session_->is_local() && options_.no_wait) {
    return session_->FailUsage(
        InvalidArgumentError("--no-wait needs a coordinator that stays: give --coordinator HOST:PORT, or leave --no-wait out"));
  }
  status = ChooseModel();
  if (!status.ok()) return session_->Fail(status);

  const MediaLibrary media;
  int exit = 0;
  if (!Plan(&exit)) return exit;
  status = SetFinishedAside();
  if (!status.ok()) return session_->Fail(status);

  std::optional<JobEnd> end;
  std::string job_id = record_->job() ? record_->job()->job_id : "";
  status = TakeUpOpenJob(&end);
  // A job that the coordinator forgets while it runs (its state was lost) is no job any more: what is missing is submitted anew.
  if (!status.ok() && status.code() != StatusCode::kNotFound) return session_->Fail(status);
  if (!end && !planned_.empty()) {
    if (session_->local_farm() != nullptr) session_->local_farm()->StartWorker();
    const Result<RecordedJob> job = SubmitMissing();
    if (!job.ok()) return session_->Fail(job.status());
    job_id = job->job_id;
    if (options_.no_wait) {
      RunContext context{&session_->farm(), record_.get(), &session_->progress(), &session_->clock(), nullptr};
      const Result<int64_t> without_room = SendSources(context, *job, session_->cancel());
      return without_room.ok() ? ReportSubmitted(*job, *without_room) : session_->Fail(without_room.status());
    }
    Result<JobEnd> ran = RunJobInSession(session_, record_.get(), *job, restore_, true);
    if (!ran.ok()) return session_->Fail(ran.status());
    end = *std::move(ran);
  }
  if (!end) return Report(job_id, {}, v1::JOB_STATE_SUCCEEDED);
  if (end->unfetched == 0) {
    status = record_->CloseJob();
    if (!status.ok()) return session_->Fail(status);
  }
  return Report(job_id, end->files, end->state);
}

}  // namespace

Result<v1::RestoreOptions> ToRestoreOptions(const SubmitOptions& options) {
  const auto in_unit_range = [](double value) { return value >= 0 && value <= 1; };  // false for NaN
  if (!in_unit_range(options.strength)) return InvalidArgumentError("--strength is a number from 0 to 1");
  if (!in_unit_range(options.sharpen)) return InvalidArgumentError("--sharpen is a number from 0 to 1");
  if (!(options.scale >= 0 && options.scale <= 16)) return InvalidArgumentError("--scale is a factor over 0 and up to 16");
  if (options.scale > 0 && !options.size.empty()) return InvalidArgumentError("--scale and --size exclude each other: give one of them");
  if (options.jpeg_quality < 1 || options.jpeg_quality > 100) return InvalidArgumentError("--jpeg-quality is a number from 1 to 100");
  if (options.split_pixels < 1) return InvalidArgumentError("--split-pixels is a number of pixels, at least 1");
  static constexpr std::string_view kFormats[] = {"keep", "png", "jpg", "webp", "tiff"};
  if (std::find(std::begin(kFormats), std::end(kFormats), options.format) == std::end(kFormats)) {
    return InvalidArgumentError("--format is keep, png, jpg, webp or tiff, not '" + options.format + "'");
  }
  v1::RestoreOptions restore;
  restore.set_strength(options.strength);
  restore.set_sharpen(options.sharpen);
  restore.set_scale(options.scale);
  if (!options.size.empty()) {
    int width = 0;
    int height = 0;
    if (!ParseWidthHeight(options.size, &width, &height)) {
      return InvalidArgumentError("--size is WIDTHxHEIGHT in pixels, such as 1920x1080, not '" + options.size + "'");
    }
    restore.set_width(width);
    restore.set_height(height);
  }
  restore.set_format(options.format);
  restore.set_jpeg_quality(options.jpeg_quality);
  restore.set_split_pixels(options.split_pixels);
  return restore;
}

Result<int> NetworkScale(const v1::Model& model) {
  NSIC_ASSIGN_OR_RETURN(const ModelCard card, ParseModelCard(model.card(), "the model " + model.name()));
  return card.scale;
}

std::string ParametersHash(const v1::RestoreOptions& options) {
  const nlohmann::json canonical = {{"model", options.model_id()},  {"strength", options.strength()},
                                    {"sharpen", options.sharpen()}, {"scale", options.scale()},
                                    {"width", options.width()},     {"height", options.height()},
                                    {"format", options.format()},   {"jpeg_quality", options.jpeg_quality()}};
  return Sha256Hex(canonical.dump());
}

Result<JobEnd> RunJobInSession(Session* session, JobRecord* record, const RecordedJob& job, const v1::RestoreOptions& restore, bool wait) {
  RunContext context;
  context.farm = &session->farm();
  context.record = record;
  context.progress = &session->progress();
  context.clock = &session->clock();
  if (LocalFarm* local = session->local_farm()) context.health = [local] { return local->health(); };
  JobOptions options;
  options.restore = restore;
  options.upload = !session->is_local();
  options.wait = wait;
  Result<JobEnd> end = RunJob(context, job, options, session->cancel());
  if (end.status().code() != StatusCode::kCancelled) return end;
  return CancelledError(session->is_local()
                            ? "interrupted: the same submit again, or nsic-client fetch " + job.job_id + ", goes on from here"
                            : "interrupted: the job goes on at " + session->farm().name() +
                                  "; the same submit again, or nsic-client fetch " + job.job_id + ", brings its outputs home");
}

int PrintReport(Session* session, FinalReport final_report) {
  std::sort(final_report.files.begin(), final_report.files.end(),
            [](const ReportFile& a, const ReportFile& b) { return a.input < b.input; });
  Report report;
  report.job_id = final_report.job_id;
  report.state = final_report.state;
  report.title = final_report.title;
  report.version = VersionString();
  report.started_ms = final_report.started_ms;
  report.ended_ms = session->clock().WallMs();
  report.files = std::move(final_report.files);

  Status written;
  std::string report_path;
  if (final_report.write) {
    // Pictures that cannot be shown small (a format that browsers lack, a file that was moved) leave their place in the report empty.
    written = ForEachInParallel(report.files.size(), session->cancel(), [&](size_t i) {
      ReportFile& file = report.files[i];
      if (file.state != FileState::kDone) return;
      Result<std::string> before = MakeThumbnail(file.input, kThumbnailSide);
      Result<std::string> after = MakeThumbnail(file.output, kThumbnailSide);
      if (before.ok()) file.before_jpeg = *std::move(before);
      if (after.ok()) file.after_jpeg = *std::move(after);
    });
    if (written.ok()) written = MakeFolders(final_report.report_folder);
    if (written.ok()) written = WriteReport(report, final_report.report_folder);
    if (written.ok()) report_path = final_report.report_folder + "/index.html";
  }

  std::map<FileState, int64_t> counts;
  for (const ReportFile& file : report.files) ++counts[file.state];
  if (session->options.json) {
    session->PrintJson(ReportToJson(report, report_path));
  } else {
    std::string text;
    size_t skipped = 0;
    for (const ReportFile& file : report.files) {
      if (file.state == FileState::kFailed) text += "failed   " + ForTerminal(file.input) + ": " + ForTerminal(file.error) + "\n";
      if (file.state == FileState::kCancelled) text += "cancelled " + ForTerminal(file.input) + "\n";
      if (file.state == FileState::kSkipped && ++skipped <= kNamedSkips) {
        text += "skipped  " + ForTerminal(file.input) + ": " + ForTerminal(file.error) + "\n";
      }
    }
    if (skipped > kNamedSkips) text += "skipped  " + Count(static_cast<int64_t>(skipped - kNamedSkips), "more file") + "\n";
    text += std::to_string(counts[FileState::kDone]) + " done, " + std::to_string(counts[FileState::kFailed]) + " failed, " +
            std::to_string(counts[FileState::kSkipped]) + " skipped";
    if (counts[FileState::kCancelled] > 0) text += ", " + std::to_string(counts[FileState::kCancelled]) + " cancelled";
    text += "\n";
    if (!report_path.empty()) text += "report   " + ForTerminal(report_path) + "\n";
    if (report.state == "running") text += "job      " + report.job_id + "\n";
    session->Print(text);
  }
  if (!written.ok()) {
    const int exit = session->Fail(written.WithContext("the report could not be written"));
    if (exit == kExitInterrupted) return exit;
  }
  const bool all_done = counts[FileState::kFailed] == 0 && counts[FileState::kCancelled] == 0;
  return all_done && written.ok() ? kExitDone : kExitSomeFailed;
}

void AddSubmitCommand(CLI::App* app, Session* session) {
  auto options = std::make_shared<SubmitOptions>();
  CLI::App* command = app->add_subcommand("submit", "Restore pictures: files, and folders with all that is in them");
  command->add_option("paths", options->paths, "Files and folders")->required()->type_name("PATH...");
  command->add_option("--out", options->out, "Folder for the outputs (default: FOLDER-enhanced, for a file NAME-enhanced beside it)")
      ->type_name("DIR");
  command->add_option("--model", options->model, "Model, by name or id; auto: kairitsu-lite")->type_name("NAME");
  command->add_option("--strength", options->strength, "How much of the model's result, 0 to 1 (default 1)")->type_name("S");
  command->add_option("--sharpen", options->sharpen, "Sharpening afterwards, 0 to 1 (default 0)")->type_name("S");
  command->add_option("--scale", options->scale, "Resize to this factor of the original's size")->type_name("F");
  command->add_option("--size", options->size, "Or to this size in pixels")->type_name("WxH");
  command->add_option("--format", options->format, "Of the outputs: keep (default), png, jpg, webp or tiff")->type_name("FORMAT");
  command->add_option("--jpeg-quality", options->jpeg_quality, "1 to 100 (default 95)")->type_name("N");
  command->add_option("--priority", options->priority, "Jobs of a higher priority go first (default 0)")->type_name("N");
  command->add_option("--split-pixels", options->split_pixels, "Larger pictures are shared among workers (default 24000000)")
      ->type_name("N");
  command->add_flag("--no-wait", options->no_wait, "Return when everything is sent; nsic-client fetch brings the outputs home");
  command->callback([session, options] { session->command = [session, options] { return Submit(session, *options).Run(); }; });
}

}  // namespace nsic
