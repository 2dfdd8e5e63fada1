// assess: how good one picture is, or which of two is better and where they differ. A worker judges, as a job of its own that is deleted
// afterwards; what needs both pictures is computed here.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "client/session.h"
#include "client/submit.h"
#include "client/text.h"
#include "client/upload_sources.h"
#include "core/base/digest.h"
#include "core/media/picture.h"
#include "core/quality/metrics.h"

namespace nsic {
namespace {

constexpr int64_t kNeverSplit = int64_t{1} << 40;  // pixels
constexpr std::chrono::milliseconds kAskEvery{100};
constexpr double kEqualScores = 0.05;  // a difference that is not shown names no better one
constexpr int64_t kMostComparedPixels = 100'000'000;

struct AssessOptions {
  std::vector<std::string> paths;
  std::string out;
};

struct Assessed {
  std::string path;  // as the user gave it
  PlannedFile file;
  double score = 0;
  std::string label;  // empty without a recommender
  double probability = 0;
  std::string recommendation;  // a model, or "none"
};

// What two pictures of one size have to say of each other.
struct Comparison {
  QualityScores quality;
  double mean_squared_error = 0;
};

class Assess {
 public:
  Assess(Session* session, const AssessOptions& options) : session_(session), options_(options) {}
  int Run();

 private:
  Status LookAt();
  Status ReadModels();
  Result<std::string> Submit();
  Status Send(const std::vector<PlannedFile>& files);
  Status Wait(const std::string& job_id);
  Status Collect(const std::string& job_id);
  Status Compare();
  int Print() const;

  Session* const session_;
  const AssessOptions& options_;
  std::vector<Assessed> pictures_;
  std::string scorer_id_;
  std::optional<Comparison> comparison_;
};

Result<Rgb8> ReadRgb(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<PictureReader> reader, PictureReader::Open(path));
  const Size size = reader->info().size;
  Rgb8 picture;
  picture.size = size;
  picture.samples.resize(static_cast<size_t>(size.area()) * 3);
  std::vector<float> row(static_cast<size_t>(size.width) * 3);
  uint8_t* out = picture.samples.data();
  for (int y = 0; y < size.height; ++y) {
    NSIC_RETURN_IF_ERROR(reader->Read({0, y, size.width, 1}, row.data()));
    for (int x = 0; x < size.width; ++x) {
      for (int channel = 0; channel < 3; ++channel) {
        *out++ = static_cast<uint8_t>(std::lrint(row[static_cast<size_t>(channel) * static_cast<size_t>(size.width) + x] * 255.0f));
      }
    }
  }
  return picture;
}

Status WriteRgb(const Rgb8& picture, const std::string& path) {
  WorkingPicture working({0, 0, picture.size.width, picture.size.height});
  std::transform(picture.samples.begin(), picture.samples.end(), working.samples().begin(),
                 [](uint8_t sample) { return static_cast<uint16_t>(257 * sample); });
  return working.SavePng(8, path);
}

std::string Number(double value, const char* format = "%.1f") {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// Finds out what the files are. INVALID_ARGUMENT, DATA_LOSS and so on name the file.
Status Assess::LookAt() {
  for (const std::string& path : options_.paths) {
    Assessed& picture = pictures_.emplace_back();
    picture.path = path;
    PlannedFile& file = picture.file;
    std::error_code error;
    file.input = std::filesystem::weakly_canonical(std::filesystem::absolute(path, error), error).string();
    if (error) return ErrnoError(error.value(), "cannot find " + path);
    const Result<FileKind> kind = SniffFile(file.input);
    if (kind.ok() && *kind == FileKind::kVideo) {
      return InvalidArgumentError(path + " is a video: assess judges pictures; submit --preview takes frames out of videos");
    }
    NSIC_ASSIGN_OR_RETURN(file.info, ProbePicture(file.input));
    file.size = file.info.size;
    NSIC_ASSIGN_OR_RETURN(file.sha256, Sha256OfFile(file.input));
    file.bytes = static_cast<int64_t>(std::filesystem::file_size(file.input, error));
    if (error) return ErrnoError(error.value(), "cannot examine " + path);
    file.path = std::to_string(pictures_.size()) + "/" + std::filesystem::path(file.input).filename().string();
  }
  if (pictures_.size() < 2) return OkStatus();
  const Size a = pictures_[0].file.size, b = pictures_[1].file.size;
  if (a != b) {
    return InvalidArgumentError("only pictures of one size can be compared: " + pictures_[0].path + " has " + std::to_string(a.width) +
                                "x" + std::to_string(a.height) + " pixels and " + pictures_[1].path + " " + std::to_string(b.width) + "x" +
                                std::to_string(b.height) + "; resize one, or assess each by itself");
  }
  if (a.area() > kMostComparedPixels) {
    return InvalidArgumentError("pictures of up to 100 megapixels can be compared: assess each by itself");
  }
  return OkStatus();
}

Status Assess::ReadModels() {
  const Result<v1::Model> scorer = session_->farm().GetModel(kScorer, session_->cancel());
  if (scorer.status().code() == StatusCode::kNotFound) {
    return FailedPreconditionError(std::string("this farm has no scorer (a model named ") + kScorer +
                                   "): import one with nsic-client models import FILE --name " + kScorer);
  }
  NSIC_RETURN_IF_ERROR(scorer.status());
  scorer_id_ = scorer->id();
  return OkStatus();
}

Status Assess::Send(const std::vector<PlannedFile>& files) {
  if (session_->is_local()) return OkStatus();  // read where they are
  Status lost;
  UploadHooks hooks;
  hooks.wanted = [](size_t) { return true; };
  hooks.wait_for_room = [](const Status&) { return false; };
  std::mutex mutex;
  hooks.lost = [&](size_t, const Status& why) {
    const std::lock_guard<std::mutex> lock(mutex);
    lost = why;
  };
  hooks.progress = [](int64_t) {};
  NSIC_RETURN_IF_ERROR(UploadSources(&session_->farm(), files, hooks, session_->cancel()));
  return lost;
}

Result<std::string> Assess::Submit() {
  v1::JobManifest manifest;
  std::vector<PlannedFile> files;
  for (const Assessed& picture : pictures_) {
    const PlannedFile& file = picture.file;
    files.push_back(file);
    v1::SourceFile* const source = manifest.add_files();
    source->set_path(file.path);
    source->mutable_content()->set_sha256(file.sha256);
    source->mutable_content()->set_size(file.bytes);
    if (const LocalFarm* const local = session_->local_farm()) {
      source->mutable_in_place()->set_root_id(local->root_id());
      source->mutable_in_place()->set_path(file.input.substr(1));
    }
    v1::PictureInfo* const info = source->mutable_picture();
    info->set_width(file.size.width);
    info->set_height(file.size.height);
    info->set_format(std::string(PictureFormatName(file.info.format)));
    info->set_depth(file.info.depth);
    info->set_alpha(file.info.alpha);
    info->set_grey(file.info.grey);
  }
  const std::string bytes = manifest.SerializeAsString();
  v1::SubmitRequest request;
  request.set_job_id(RandomHex(16));
  v1::JobSpec& spec = *request.mutable_spec();
  spec.set_name(ForTerminal("assess " + pictures_.front().path));
  spec.mutable_manifest()->set_sha256(Sha256Hex(bytes));
  spec.mutable_manifest()->set_size(static_cast<int64_t>(bytes.size()));
  v1::RestoreOptions& options = *spec.mutable_options();
  options.set_assess(true);
  options.set_model_id(scorer_id_);
  options.set_model_name(kScorer);
  options.set_strength(1);
  options.set_format("keep");
  options.set_jpeg_quality(95);
  options.set_split_pixels(kNeverSplit);
  NSIC_RETURN_IF_ERROR(session_->farm().blobs().UploadBytes(bytes, spec.manifest().sha256(), session_->cancel()));
  NSIC_RETURN_IF_ERROR(session_->farm().Submit(request, session_->cancel()).status());
  const Status sent = Send(files);
  if (sent.ok()) return request.job_id();
  const CancelToken anyway;
  static_cast<void>(session_->farm().ChangeJob(&v1::Jobs::Stub::Cancel, request.job_id(), anyway));
  return sent;
}

Status Assess::Wait(const std::string& job_id) {
  while (true) {
    NSIC_ASSIGN_OR_RETURN(const v1::Job job, session_->farm().GetJob(job_id, session_->cancel()));
    if (job.state() != v1::JOB_STATE_RUNNING) break;
    ProgressState shown;
    shown.activity = "assessing";
    shown.noun = "picture";
    shown.files = static_cast<int64_t>(pictures_.size());
    shown.files_done = job.tasks_done();
    shown.remark = job.waiting_reason();
    session_->progress().Update(shown);
    if (session_->local_farm() != nullptr) NSIC_RETURN_IF_ERROR(session_->local_farm()->health());
    if (session_->cancel().WaitFor(kAskEvery)) return session_->cancel().Check();
  }
  session_->progress().Clear();
  return OkStatus();
}

Status Assess::Collect(const std::string& job_id) {
  NSIC_ASSIGN_OR_RETURN(const std::vector<v1::TaskOutcome> outcomes, session_->farm().ListOutputs(job_id, 0, session_->cancel()));
  size_t judged = 0;
  for (const v1::TaskOutcome& outcome : outcomes) {
    if (outcome.file_index() < 0 || static_cast<size_t>(outcome.file_index()) >= pictures_.size()) continue;
    Assessed& picture = pictures_[static_cast<size_t>(outcome.file_index())];
    if (outcome.end() == v1::TASK_END_FAILED) return DataLossError(picture.path + " cannot be assessed: " + outcome.error());
    if (outcome.end() != v1::TASK_END_DONE) return AbortedError("the assessment was cancelled");
    const v1::TaskResult& result = outcome.result();
    picture.score = result.scores().before();
    picture.label = result.recommendation().label();
    picture.probability = result.recommendation().probability();
    picture.recommendation = picture.label.empty()                     ? ""
                             : result.recommendation().model().empty() ? "none"
                                                                       : result.recommendation().model();
    ++judged;
  }
  if (judged == pictures_.size()) return OkStatus();
  return DataLossError("the coordinator judged " + std::to_string(judged) + " of " +
                       Count(static_cast<int64_t>(pictures_.size()), "picture"));
}

Status Assess::Compare() {
  NSIC_ASSIGN_OR_RETURN(const Rgb8 a, ReadRgb(pictures_[0].file.input));
  NSIC_ASSIGN_OR_RETURN(const Rgb8 b, ReadRgb(pictures_[1].file.input));
  Comparison comparison;
  NSIC_ASSIGN_OR_RETURN(comparison.quality, CompareQuality(a, b));
  comparison.mean_squared_error = MeanSquaredError(a, b);
  comparison_ = comparison;
  if (options_.out.empty()) return OkStatus();
  NSIC_ASSIGN_OR_RETURN(const Rgb8 heatmap, DifferenceHeatmap(a, b));
  return WriteRgb(heatmap, options_.out);
}

int Assess::Print() const {
  // Which is better, or null.
  nlohmann::json better;
  if (comparison_ && std::abs(pictures_[0].score - pictures_[1].score) >= kEqualScores) {
    better = pictures_[pictures_[1].score > pictures_[0].score ? 1 : 0].path;
  }
  if (session_->options.json) {
    nlohmann::json object = {{"files", nlohmann::json::array()}, {"better", better}};
    for (const Assessed& picture : pictures_) {
      nlohmann::json file = {{"path", picture.path}, {"score", picture.score}, {"recommendation", nullptr}, {"probability", nullptr}};
      if (!picture.label.empty()) {
        file["recommendation"] = picture.recommendation;
        file["label"] = picture.label;
        file["probability"] = picture.probability;
      }
      object["files"].push_back(std::move(file));
    }
    if (comparison_) {
      const double psnr = comparison_->quality.psnr_rgb;
      object["mse"] = comparison_->mean_squared_error;
      object["psnr"] = std::isfinite(psnr) ? nlohmann::json(psnr) : nlohmann::json();  // null: no difference
      object["ssim"] = comparison_->quality.ssim_y;
      if (!options_.out.empty()) object["heatmap"] = options_.out;
    }
    session_->PrintJson(object.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return kExitDone;
  }
  std::string text;
  for (const Assessed& picture : pictures_) {
    text += ForTerminal(picture.path) + "\n  NS-IQA   " + Number(picture.score) + " of 100\n";
    if (picture.label.empty()) continue;
    text += picture.recommendation == "none" ? "  repair   none is needed" : "  repair   " + ForTerminal(picture.recommendation);
    text += " (" + ForTerminal(picture.label) + ", " + Number(picture.probability * 100) + " %)\n";
  }
  if (comparison_) {
    const double psnr = comparison_->quality.psnr_rgb;
    text += "better   " + (better.is_null() ? std::string("neither") : ForTerminal(better.get<std::string>())) + "\n";
    text += "MSE      " + Number(comparison_->mean_squared_error, "%.2f") + "\n";
    text += "PSNR     " + (std::isfinite(psnr) ? Number(psnr, "%.2f dB") : std::string("infinite: no sample differs")) + "\n";
    text += "SSIM     " + Number(comparison_->quality.ssim_y, "%.4f") + "\n";
    if (!options_.out.empty()) text += "heatmap  " + ForTerminal(options_.out) + "\n";
  }
  session_->Print(text);
  return kExitDone;
}

int Assess::Run() {
  if (options_.paths.size() > 2) return session_->FailUsage(InvalidArgumentError("assess takes one picture, or two to compare"));
  if (!options_.out.empty() && options_.paths.size() != 2) {
    return session_->FailUsage(InvalidArgumentError("--out is where the differences of two pictures are drawn: give two"));
  }
  const MediaLibrary media;
  Status status = LookAt();
  if (!status.ok()) return session_->FailUsage(status);
  status = session_->Connect(Session::Need::kRestore);
  if (status.ok()) status = ReadModels();
  if (!status.ok()) return session_->Fail(status);
  if (session_->local_farm() != nullptr) session_->local_farm()->StartWorker();
  const Result<std::string> job_id = Submit();
  if (!job_id.ok()) return session_->Fail(job_id.status());
  status = Wait(*job_id);
  if (status.ok()) status = Collect(*job_id);
  if (status.ok() && pictures_.size() == 2) status = Compare();
  // Nothing of it is left at the coordinator, however it went.
  const CancelToken anyway;
  static_cast<void>(session_->farm().ChangeJob(&v1::Jobs::Stub::Cancel, *job_id, anyway));
  static_cast<void>(session_->farm().DeleteJob(*job_id, anyway));
  if (status.ok()) return Print();
  const int exit = session_->Fail(status);
  return exit == kExitRefused && status.code() == StatusCode::kDataLoss ? kExitSomeFailed : exit;
}

}  // namespace

void AddAssessCommand(CLI::App* app, Session* session) {
  auto options = std::make_shared<AssessOptions>();
  CLI::App* const command = app->add_subcommand("assess", "Say how good a picture is, or which of two is better and where they differ");
  command->add_option("pictures", options->paths, "One picture, or two of the same size")->required()->type_name("A [B]");
  command->add_option("--out", options->out, "Draw where the two differ, as a PNG heatmap")->type_name("FILE.png");
  command->callback([session, options] { session->command = [session, options] { return Assess(session, *options).Run(); }; });
}

}  // namespace nsic
