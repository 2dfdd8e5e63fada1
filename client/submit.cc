#include "client/submit.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "client/extract_frames.h"
#include "client/job_text.h"
#include "client/map_outputs.h"
#include "client/probe_inputs.h"
#include "client/scan_inputs.h"
#include "client/store_output.h"
#include "client/text.h"
#include "core/base/digest.h"
#include "core/base/files.h"
#include "core/base/program.h"
#include "core/rpc/video_messages.h"
#include "models/io/model_pack.h"

namespace nsic {
namespace {

constexpr int kThumbnailSide = 320;
constexpr size_t kNamedSkips = 10;  // more are in the report
constexpr int kMaxPreview = 100;

bool ParseWidthHeight(const std::string& text, int* width, int* height) {
  const char* end = text.data() + text.size();
  const auto [middle, error] = std::from_chars(text.data(), end, *width);
  if (error != std::errc() || middle == end || (*middle != 'x' && *middle != 'X')) return false;
  const auto [rest, second_error] = std::from_chars(middle + 1, end, *height);
  return second_error == std::errc() && rest == end && *width > 0 && *height > 0;
}

// "A-B"
std::optional<FrameNumbers> ParseFrames(const std::string& text) {
  FrameNumbers frames;
  const char* end = text.data() + text.size();
  const auto [dash, error] = std::from_chars(text.data(), end, frames.first);
  if (error != std::errc() || dash == end || *dash != '-') return std::nullopt;
  const auto [rest, second_error] = std::from_chars(dash + 1, end, frames.last);
  if (second_error != std::errc() || rest != end || frames.first < 1 || frames.last < frames.first) return std::nullopt;
  return frames;
}

template <typename List>
bool Contains(const List& list, std::string_view value) {
  return std::find(std::begin(list), std::end(list), value) != std::end(list);
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
  report.precision = written.precision;
  report.video = written.video;
  report.judgement = written.judgement;
  return report;
}

// The models among which the recommender chooses decide the output, too.
nlohmann::json WithCandidates(nlohmann::json canonical, const v1::RestoreOptions& options) {
  if (!options.auto_model()) return canonical;
  nlohmann::json& candidates = canonical["candidates"] = nlohmann::json::object();
  for (const v1::Candidate& candidate : options.candidates()) candidates[candidate.label()] = candidate.pack().model_id();
  return canonical;
}

// Whether the farm lacks a scorer though there is something that it would have scored.
bool LacksScorer(Session* session, const std::vector<ReportFile>& files) {
  const bool unscored = std::any_of(files.begin(), files.end(), [](const ReportFile& file) {
    return file.state == FileState::kDone && !file.judgement.scores && file.judgement.error.empty();
  });
  if (!unscored) return false;
  return session->farm().GetModel(kScorer, session->cancel()).status().code() == StatusCode::kNotFound;
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
  // Decides how the videos are restored. INVALID_ARGUMENT when the command line cannot be followed.
  Status PlanVideos(std::vector<ProbedFile>* probed);
  // Puts frames in the place of their videos. INVALID_ARGUMENT likewise.
  Status PlanPreview(std::vector<ProbedFile>* probed);
  // Where each picture's and video's output goes, by index.
  Result<std::map<size_t, std::string>> MapOutputs(std::vector<ProbedFile>* probed);
  Result<std::vector<Result<VideoIndex>>> Index(const std::vector<IndexJob>& jobs);
  // Reads the frames of the videos in planned_; those that cannot be read move to settled_. INVALID_ARGUMENT likewise.
  Status IndexPlanned();
  void Settle(const std::string& input, FileState state, const std::string& error);
  const std::string& ParametersOf(const PlannedFile& file) const { return file.video ? file.video->parameters : parameters_; }
  Status ChooseModel();
  Result<bool> LetRecommenderChoose();
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
  VideoOptions video_options_;
  std::string parameters_;  // of pictures
  int network_scale_ = 1;
  bool no_recommender_ = false;
  Scan scan_;
  OutputPlaces places_;
  std::optional<FileLock> lock_;
  std::unique_ptr<JobRecord> record_;
  std::string state_folder_;
  std::map<std::string, VideoPlan> video_plans_;  // by path
  std::vector<PlannedFile> planned_;              // what is still to be done
  std::vector<ReportFile> settled_;               // everything else
  int64_t started_ms_ = 0;
};

// Leaves the choice to the farm's recommender, file by file. False: it has none.
Result<bool> Submit::LetRecommenderChoose() {
  const Result<v1::Model> recommender = session_->farm().GetModel(kRecommender, session_->cancel());
  if (recommender.status().code() == StatusCode::kNotFound) return false;
  NSIC_RETURN_IF_ERROR(recommender.status());
  NSIC_ASSIGN_OR_RETURN(const ModelCard card, ParseModelCard(recommender->card(), "the model " + recommender->name()));
  if (card.task != ModelTask::kClassify) {
    return FailedPreconditionError(std::string("the farm's model named ") + kRecommender + " recommends no models (its task is to " +
                                   recommender->task() + "): name a model with --model, or have it removed");
  }
  NSIC_ASSIGN_OR_RETURN(const std::vector<v1::Model> models, session_->farm().ListModels(session_->cancel()));
  restore_.set_auto_model(true);
  restore_.set_model_id(recommender->id());
  restore_.set_model_name("auto");
  // The coordinator finds them for itself; here they are part of what says whether an output is what is wanted.
  for (const auto& [label, name] : card.recommends) {
    const auto found = std::find_if(models.begin(), models.end(), [&name = name](const v1::Model& model) { return model.name() == name; });
    if (found == models.end()) continue;  // the coordinator says so
    v1::Candidate* const candidate = restore_.add_candidates();
    candidate->set_label(label);
    candidate->mutable_pack()->set_model_id(found->id());
  }
  network_scale_ = 1;
  parameters_ = ParametersHash(restore_);
  return true;
}

Status Submit::ChooseModel() {
  std::string name = options_.model;
  if (name == "auto") {
    NSIC_ASSIGN_OR_RETURN(const bool chosen, LetRecommenderChoose());
    if (chosen) return OkStatus();
    session_->progress().Notice(std::string("this farm has no recommender (a model named ") + kRecommender + "): --model auto takes " +
                                kUsualModel + " for every file");
    no_recommender_ = true;
    name = kUsualModel;
  }
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

void Submit::Settle(const std::string& input, FileState state, const std::string& error) {
  ReportFile& settled = settled_.emplace_back();
  settled.input = input;
  settled.state = state;
  settled.error = error;
}

Result<std::vector<Result<VideoIndex>>> Submit::Index(const std::vector<IndexJob>& jobs) {
  ProgressState shown;
  shown.activity = "indexing";
  shown.noun = "video";
  shown.files = static_cast<int64_t>(jobs.size());
  shown.unit = "MiB";
  for (const IndexJob& job : jobs) shown.units_total += static_cast<double>(job.bytes) / (1 << 20);
  Result<std::vector<Result<VideoIndex>>> indexes =
      IndexVideos(jobs, video_options_.tolerate, session_->cancel(), [&](double share, size_t done) {
        shown.units_done = share * shown.units_total;
        shown.files_done = static_cast<int64_t>(done);
        session_->progress().Update(shown);
      });
  session_->progress().Clear();
  return indexes;
}

Status Submit::PlanVideos(std::vector<ProbedFile>* probed) {
  const EncodeOptions& encode = video_options_.encode;
  const bool asked = !encode.codec.empty() || encode.crf >= 0 || !encode.preset.empty() || !encode.pixel_format.empty() ||
                     encode.scale > 0 || encode.size.area() > 0;
  Status refused;
  int64_t others = 0;
  for (ProbedFile& file : *probed) {
    if (file.state == ProbeState::kPicture && video_options_.frames) {
      return InvalidArgumentError("--frames goes with videos only: " + file.file.path + " is a picture");
    }
    if (file.state != ProbeState::kVideo) continue;
    Result<VideoPlan> plan = PlanVideo(file.file.path, file.video, video_options_, network_scale_);
    const StatusCode code = plan.status().code();
    if (code == StatusCode::kFailedPrecondition || (code == StatusCode::kInvalidArgument && asked)) {
      if (refused.ok()) {
        refused = plan.status();
      } else {
        ++others;
      }
    } else if (!plan.ok()) {
      file.state = ProbeState::kFailed;
      file.reason = plan.status().message();
    } else {
      if (!plan->notice.empty()) session_->progress().Notice(ForTerminal(plan->notice));
      video_plans_[file.file.path] = *std::move(plan);
    }
  }
  if (refused.ok()) return refused;
  return InvalidArgumentError(refused.message() + (others > 0 ? " (and " + Count(others, "other video") + " likewise)" : ""));
}

Status Submit::PlanPreview(std::vector<ProbedFile>* probed) {
  std::vector<IndexJob> jobs;
  std::vector<ProbedFile*> videos;
  for (ProbedFile& file : *probed) {
    if (file.state == ProbeState::kPicture) {
      file.state = ProbeState::kSkipped;
      file.reason = "a picture: --preview restores frames of videos";
    } else if (file.state == ProbeState::kVideo) {
      file.video.info.deinterlace = video_options_.deinterlace && IsInterlaced(file.video.info);
      jobs.push_back({file.file.path, file.bytes, file.video.info});
      videos.push_back(&file);
    }
  }
  if (videos.empty()) return InvalidArgumentError("--preview is for videos, and there is none among the inputs");
  NSIC_ASSIGN_OR_RETURN(const auto indexes, Index(jobs));
  std::vector<ProbedFile> frames;
  for (size_t i = 0; i < videos.size(); ++i) {
    const FoundFile& found = videos[i]->file;
    Status status = indexes[i].status();
    std::vector<ProbedFile> of_video;
    if (status.ok()) {
      NSIC_ASSIGN_OR_RETURN(const v1::FrameRange range, ChooseRange(found.path, *indexes[i], video_options_.frames));
      const std::string folder = PreviewFolder(places_, found);
      NSIC_RETURN_IF_ERROR(MakeFolders(folder + "/before"));
      status = ExtractFrames(
          found.path, jobs[i].info, *indexes[i], SpreadFrames(range, video_options_.preview), video_options_.tolerate,
          [&](int frame) {
            char name[32];
            std::snprintf(name, sizeof name, "frame-%07d.png", frame + 1);
            ProbedFile& made = of_video.emplace_back();
            made.file = {found.root, std::string(kPreviewFolderName) + "/" + found.relative + "/" + name, folder + "/before/" + name};
            return made.file.path;
          },
          session_->cancel());
    }
    for (ProbedFile& made : of_video) {
      if (!status.ok()) break;
      Result<PictureInfo> info = ProbePicture(made.file.path);
      if (info.ok()) made.info = *info;
      status = info.status();
    }
    NSIC_RETURN_IF_ERROR(session_->cancel().Check());
    if (status.ok()) {
      std::move(of_video.begin(), of_video.end(), std::back_inserter(frames));
    } else {
      Settle(found.path, FileState::kFailed, status.message());
    }
  }
  probed->erase(std::remove_if(probed->begin(), probed->end(), [](const ProbedFile& file) { return file.state == ProbeState::kVideo; }),
                probed->end());
  std::move(frames.begin(), frames.end(), std::back_inserter(*probed));
  return OkStatus();
}

Result<std::map<size_t, std::string>> Submit::MapOutputs(std::vector<ProbedFile>* probed) {
  std::vector<MappedFile> mapped;
  std::map<size_t, std::string> outputs;
  for (size_t i = 0; i < probed->size(); ++i) {
    ProbedFile& file = (*probed)[i];
    const InputRoot& root = scan_.roots[file.file.root];
    if (file.state == ProbeState::kPicture) {
      const Result<PictureFormat> format = OutputFormat(file.info.format, options_.format);
      if (!format.ok()) {
        file.state = ProbeState::kFailed;
        file.reason = format.status().message();
        continue;
      }
      outputs[i] = OutputPath(places_, root, file.file, file.info.format, *format);
    } else if (file.state == ProbeState::kVideo) {
      outputs[i] = VideoOutputPath(places_, root, file.file, video_plans_.at(file.file.path).encode.container);
    } else {
      continue;
    }
    mapped.push_back({file.file.path, outputs[i]});
  }
  NSIC_RETURN_IF_ERROR(CheckOutputs(mapped, [this](const std::string& output) { return record_->Knows(output); }));
  return outputs;
}

bool Submit::Plan(int* exit) {
  const CancelToken& cancel = session_->cancel();
  ProgressState shown;
  shown.activity = "looking at";
  shown.noun = "file";
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
  session_->progress().Clear();

  const Status planned = video_options_.preview > 0 ? PlanPreview(&*probed) : PlanVideos(&*probed);
  if (!planned.ok()) {
    *exit = planned.code() == StatusCode::kInvalidArgument ? session_->FailUsage(planned) : session_->Fail(planned);
    return false;
  }
  const Result<std::map<size_t, std::string>> outputs = MapOutputs(&*probed);
  if (!outputs.ok()) {
    *exit = session_->FailUsage(outputs.status());
    return false;
  }

  shown.activity = "hashing";
  shown.files = static_cast<int64_t>(outputs->size());
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
    if (file.state == ProbeState::kSkipped || file.state == ProbeState::kFailed) {
      Settle(file.file.path, file.state == ProbeState::kFailed ? FileState::kFailed : FileState::kSkipped, file.reason);
      continue;
    }
    PlannedFile& plan = planned_.emplace_back();
    plan.input = file.file.path;
    plan.path = ManifestPath(scan_.roots, file.file);
    plan.sha256 = file.sha256;
    plan.bytes = file.bytes;
    plan.output = outputs->at(i);
    if (file.state == ProbeState::kPicture) {
      plan.size = file.info.size;
      plan.info = file.info;
      continue;
    }
    const VideoPlan& video_plan = video_plans_.at(file.file.path);
    plan.size = video_plan.info.size;
    PlannedVideo& video = plan.video.emplace();
    ToMessage(video_plan.info, video_plan.encode, &video.message);
    video.dropped_streams = video_plan.dropped_streams;
    video.parameters = ParametersHash(restore_, video.message, video.dropped_streams, video_options_.frames);
  }
  for (const LeftOut& left_out : scan_.left_out) {
    Settle(left_out.path, left_out.failed ? FileState::kFailed : FileState::kSkipped, left_out.reason);
  }
  return true;
}

Status Submit::IndexPlanned() {
  std::vector<IndexJob> jobs;
  for (const PlannedFile& file : planned_) {
    if (file.video) jobs.push_back({file.input, file.bytes, video_plans_.at(file.input).info});
  }
  if (jobs.empty()) return OkStatus();
  NSIC_ASSIGN_OR_RETURN(const auto indexes, Index(jobs));
  std::vector<PlannedFile> good;
  auto index = indexes.begin();
  for (PlannedFile& file : planned_) {
    if (file.video) {
      const Result<VideoIndex>& of_file = *index++;
      if (!of_file.ok()) {
        Settle(file.input, FileState::kFailed, of_file.status().message());
        continue;
      }
      NSIC_ASSIGN_OR_RETURN(*file.video->message.mutable_range(), ChooseRange(file.input, *of_file, video_options_.frames));
      file.video->index = IndexBlob(*of_file);
      file.video->message.mutable_index()->set_sha256(Sha256Hex(file.video->index));
      file.video->message.mutable_index()->set_size(static_cast<int64_t>(file.video->index.size()));
    }
    good.push_back(std::move(file));
  }
  planned_ = std::move(good);
  return OkStatus();
}

Status Submit::SetFinishedAside() {
  std::vector<std::optional<WrittenOutput>> finished(planned_.size());
  NSIC_RETURN_IF_ERROR(ForEachInParallel(planned_.size(), session_->cancel(),
                                         [&](size_t i) { finished[i] = FindFinished(*record_, planned_[i], ParametersOf(planned_[i])); }));
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
  std::set<std::tuple<std::string, std::string, std::string>> wanted;
  for (const PlannedFile& file : planned_) wanted.emplace(file.output, file.sha256, ParametersOf(file));
  size_t shared = 0;
  bool same = true;
  for (const PlannedFile& file : job.files) {
    if (wanted.count({file.output, file.sha256, job.ParametersOf(file)}) != 0) {
      ++shared;
    } else if (!FindFinished(*record_, file, job.ParametersOf(file))) {
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
  if (shared > 0) {
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
  std::map<std::string, const std::string*> indexes;  // blobs by hash
  for (const PlannedFile& file : planned_) {
    v1::SourceFile* source = manifest.add_files();
    source->set_path(file.path);
    source->mutable_content()->set_sha256(file.sha256);
    source->mutable_content()->set_size(file.bytes);
    if (local != nullptr) {
      source->mutable_in_place()->set_root_id(local->root_id());
      source->mutable_in_place()->set_path(file.input.substr(1));
    }
    if (file.video) {
      *source->mutable_video() = file.video->message;
      indexes.emplace(file.video->message.index().sha256(), &file.video->index);
      continue;
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
  job.auto_model = restore_.auto_model();
  job.no_recommender = no_recommender_;
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
  std::vector<std::string> names;
  for (const auto& [sha256, index] : indexes) names.push_back(sha256);
  NSIC_ASSIGN_OR_RETURN(const std::vector<std::string> missing, session_->farm().FindMissing(names, session_->cancel()));
  for (const std::string& sha256 : missing) {
    const auto index = indexes.find(sha256);
    if (index == indexes.end()) continue;  // we did not ask for it
    NSIC_RETURN_IF_ERROR(session_->farm().blobs().UploadBytes(*index->second, sha256, session_->cancel()));
  }
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
  report.no_recommender = no_recommender_;
  return PrintReport(session_, std::move(report));
}

int Submit::ReportSubmitted(const RecordedJob& job, int64_t without_room) {
  if (without_room > 0) {
    session_->progress().Notice("the coordinator has no room for " + Count(without_room, "more file") + ": nsic-client fetch " +
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
  Result<VideoOptions> video_options = ToVideoOptions(options_);
  if (!video_options.ok()) return session_->FailUsage(video_options.status());
  video_options_ = *std::move(video_options);
  Result<Scan> scan = ScanInputs(options_.paths);
  if (!scan.ok()) return session_->FailUsage(scan.status());
  scan_ = *std::move(scan);
  Result<OutputPlaces> places = PlaceOutputs(scan_.roots, options_.out);
  if (!places.ok()) return session_->FailUsage(places.status());
  places_ = *std::move(places);
  if (video_options_.preview > 0) {
    // With a report and a record of its own.
    const std::filesystem::path folder = std::filesystem::path(places_.report_folder).parent_path();
    places_.report_folder = (folder / kPreviewFolderName / kReportFolderName).string();
  }

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
  status = IndexPlanned();
  if (!status.ok()) return status.code() == StatusCode::kInvalidArgument ? session_->FailUsage(status) : session_->Fail(status);

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
  if (!end) {
    if (record_->job()) RemoveLeftovers(record_->job()->files, *record_, [](const PlannedFile&) { return false; });
    return Report(job_id, {}, v1::JOB_STATE_SUCCEEDED);
  }
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
  if (!Contains(kFormats, options.format)) {
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
  if (options.static_threshold < 0 || options.static_threshold > 255) {
    return InvalidArgumentError("--static-threshold is a number from 0 (only equal tiles) to 255");
  }
  restore.set_static_threshold(options.static_threshold);
  restore.set_tolerate(options.tolerate);
  if (options.score_every && *options.score_every < 0) {
    return InvalidArgumentError("--score-every is a number of frames, or 0 to score none");
  }
  if (options.score_every) restore.set_score_every(*options.score_every);
  return restore;
}

Result<VideoOptions> ToVideoOptions(const SubmitOptions& options) {
  static constexpr std::string_view kCodecs[] = {"", "x264", "x265", "av1", "ffv1"};
  static constexpr std::string_view kContainers[] = {"keep", "mkv", "mp4", "webm"};
  VideoOptions video;
  if (!Contains(kCodecs, options.codec)) return InvalidArgumentError("--codec is x264, x265, av1 or ffv1, not '" + options.codec + "'");
  if (options.crf && !(*options.crf >= 0 && *options.crf <= 63)) {
    return InvalidArgumentError("--crf is a number from 0 (best) to 51 (x264, x265) or 63 (av1)");
  }
  if (options.codec == "ffv1" && (options.crf || !options.preset.empty())) {
    return InvalidArgumentError(std::string(options.crf ? "--crf" : "--preset") +
                                " means nothing to ffv1, which is lossless: leave it out");
  }
  if (!Contains(kContainers, options.container)) {
    return InvalidArgumentError("--container is keep, mkv, mp4 or webm, not '" + options.container + "'");
  }
  if (options.deinterlace != "auto" && options.deinterlace != "off") {
    return InvalidArgumentError("--deinterlace is auto or off, not '" + options.deinterlace + "'");
  }
  if (!options.frames.empty()) {
    video.frames = ParseFrames(options.frames);
    if (!video.frames) {
      return InvalidArgumentError("--frames is FIRST-LAST, the first frame being 1, such as 1-250, not '" + options.frames + "'");
    }
  }
  if (options.preview && (*options.preview < 1 || *options.preview > kMaxPreview)) {
    return InvalidArgumentError("--preview is a number of frames from 1 to " + std::to_string(kMaxPreview));
  }
  NSIC_ASSIGN_OR_RETURN(const v1::RestoreOptions restore, ToRestoreOptions(options));
  video.encode = {options.codec, options.crf.value_or(-1),           options.preset, options.pixel_format, options.container,
                  options.scale, {restore.width(), restore.height()}};
  video.drop_streams = options.drop_streams;
  video.deinterlace = options.deinterlace == "auto";
  video.tolerate = options.tolerate;
  video.preview = options.preview.value_or(0);
  return video;
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
  return Sha256Hex(WithCandidates(canonical, options).dump());
}

std::string ParametersHash(const v1::RestoreOptions& options, const v1::VideoInfo& video, const std::vector<int>& dropped_streams,
                           const std::optional<FrameNumbers>& frames) {
  const v1::EncodePlan& encode = video.encode();
  const nlohmann::json canonical = {{"model", options.model_id()},
                                    {"strength", options.strength()},
                                    {"sharpen", options.sharpen()},
                                    {"static_threshold", options.static_threshold()},
                                    {"tolerate", options.tolerate()},
                                    {"encoder", encode.encoder()},
                                    {"crf", encode.crf()},
                                    {"preset", encode.preset()},
                                    {"pixel_format", encode.pixel_format()},
                                    {"width", encode.width()},
                                    {"height", encode.height()},
                                    {"threads", encode.threads()},
                                    {"container", encode.container()},
                                    {"deinterlace", video.deinterlace()},
                                    {"dropped_streams", dropped_streams},
                                    {"first", frames ? frames->first : 0},
                                    {"last", frames ? frames->last : 0}};
  return Sha256Hex(WithCandidates(canonical, options).dump());
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
  report.no_recommender = final_report.no_recommender;
  report.no_scorer = final_report.write && LacksScorer(session, report.files);

  Status written;
  std::string report_path;
  if (final_report.write) {
    // Pictures that cannot be shown small (a format that browsers lack, a file that was moved) leave their place in the report empty.
    written = ForEachInParallel(report.files.size(), session->cancel(), [&](size_t i) {
      ReportFile& file = report.files[i];
      if (file.state != FileState::kDone) return;
      Result<std::string> before = MakeThumbnail(file.video ? file.video->before_frame : file.input, kThumbnailSide);
      Result<std::string> after = MakeThumbnail(file.video ? file.video->after_frame : file.output, kThumbnailSide);
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
    const MeanReportScores mean = MeanScoresOf(report.files);
    if (mean.files > 0) text += "quality  " + DescribeScores(mean.before, mean.after) + " over " + Count(mean.files, "file") + "\n";
    if (report.no_scorer) text += std::string("quality  not scored: no scorer is installed (a model named ") + kScorer + ")\n";
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
  CLI::App* command = app->add_subcommand("submit", "Restore pictures and videos: files, and folders with all that is in them");
  command->add_option("paths", options->paths, "Files and folders")->required()->type_name("PATH...");
  command->add_option("--out", options->out, "Folder for the outputs (default: FOLDER-enhanced, for a file NAME-enhanced beside it)")
      ->type_name("DIR");
  command->add_option("--model", options->model, "Model, by name or id; auto (default): the one that suits each file")->type_name("NAME");
  command->add_option("--strength", options->strength, "How much of the model's result, 0 to 1 (default 1)")->type_name("S");
  command->add_option("--sharpen", options->sharpen, "Sharpening afterwards, 0 to 1 (default 0)")->type_name("S");
  command->add_option("--scale", options->scale, "Resize to this factor of the original's size")->type_name("F");
  command->add_option("--size", options->size, "Or to this size in pixels")->type_name("WxH");
  command->add_option("--format", options->format, "Of pictures: keep (default), png, jpg, webp or tiff")->type_name("FORMAT");
  command->add_option("--jpeg-quality", options->jpeg_quality, "1 to 100 (default 95)")->type_name("N");
  command->add_option("--priority", options->priority, "Jobs of a higher priority go first (default 0)")->type_name("N");
  command->add_option("--split-pixels", options->split_pixels, "Larger pictures are shared among workers (default 24000000)")
      ->type_name("N");
  command->add_option("--codec", options->codec, "Of videos: x264, x265, av1 or ffv1 (default x264, x265 over 8 bits, av1 in WebM)")
      ->type_name("CODEC");
  command->add_option("--crf", options->crf, "Their quality, lower is better (default 18 x264, 20 x265, 28 av1)")->type_name("N");
  command->add_option("--preset", options->preset, "The encoder's effort (default medium; 8 for av1)")->type_name("NAME");
  command->add_option("--pix-fmt", options->pixel_format, "Their pixel format, as FFmpeg names it (default: the original's)")
      ->type_name("FORMAT");
  command->add_option("--container", options->container, "keep (default; MKV for what cannot be kept), mkv, mp4 or webm")
      ->type_name("NAME");
  command->add_flag("--drop-streams", options->drop_streams, "Leave out what the container cannot hold, instead of refusing or taking MKV");
  command->add_option("--deinterlace", options->deinterlace, "Of interlaced videos: auto (default) or off")->type_name("HOW");
  command->add_flag("--tolerate", options->tolerate, "A frame that cannot be decoded shows the last good one; the report says so");
  command
      ->add_option("--static-threshold", options->static_threshold,
                   "Tiles that differ from the frame before by at most N of 255 repeat its result (default 0: equal ones)")
      ->type_name("N");
  command->add_option("--frames", options->frames, "Restore only these frames of videos; the first is 1")->type_name("A-B");
  command->add_option("--preview", options->preview, "Restore N frames of each video as pictures, to look at, and no video")
      ->type_name("N");
  command->add_option("--score-every", options->score_every, "Score every Nth frame of videos, 0 for none (default: one each 2 seconds)")
      ->type_name("N");
  command->add_flag("--no-wait", options->no_wait, "Return when everything is sent; nsic-client fetch brings the outputs home");
  command->callback([session, options] { session->command = [session, options] { return Submit(session, *options).Run(); }; });
}

}  // namespace nsic
