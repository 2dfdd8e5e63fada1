#include "worker/run_picture_task.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/files.h"
#include "core/farm/tile_grid.h"
#include "core/media/jpeg_tables.h"

namespace nsic {
namespace {

Rect ToRect(const v1::Region& region) { return {region.x(), region.y(), region.width(), region.height()}; }

Rect Scaled(const Rect& rect, int scale) { return {rect.x * scale, rect.y * scale, rect.width * scale, rect.height * scale}; }

std::string SizeText(Size size) { return std::to_string(size.width) + "x" + std::to_string(size.height); }

FinishOptions ToFinishOptions(const v1::RestoreOptions& options) {
  FinishOptions finish;
  finish.strength = options.strength();
  finish.sharpen = options.sharpen();
  finish.scale = options.scale();
  finish.size = {options.width(), options.height()};
  finish.format = options.format();
  finish.jpeg_quality = options.jpeg_quality();
  return finish;
}

// The decoders call a picture that claims too many pixels RESOURCE_EXHAUSTED: it does so everywhere.
v1::FailureClass ClassOfDecodeError(const Status& status) {
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kDataLoss:
    case StatusCode::kResourceExhausted: return v1::FAILURE_CLASS_BAD_INPUT;
    default: return v1::FAILURE_CLASS_WORKER_FAULT;
  }
}

// A picture that is read from the top down in parts, none of which is large: the bands that the parts lie in are decoded one by one.
class BandReader {
 public:
  BandReader(std::string path, Size picture) : path_(std::move(path)), picture_(picture) {}
  Status Read(const Rect& rect, float* planar) {
    if (reader_ == nullptr || !band_.Contains(rect)) {
      band_ = {0, rect.y, picture_.width, rect.height};
      NSIC_ASSIGN_OR_RETURN(reader_, PictureReader::Open(path_, band_));
    }
    return reader_->Read(rect, planar);
  }

 private:
  const std::string path_;
  const Size picture_;
  Rect band_;
  std::unique_ptr<PictureReader> reader_;
};

// Part of a working picture as networks see it; `rect` counts from its corner.
void ReadWorking(const WorkingPicture& picture, const Rect& rect, float* planar) {
  const auto plane = static_cast<size_t>(rect.area());
  for (int y = 0; y < rect.height; ++y) {
    const size_t row = static_cast<size_t>(rect.y + y) * static_cast<size_t>(picture.rect().width) + static_cast<size_t>(rect.x);
    const uint16_t* in = picture.samples().data() + row * 3;
    for (int x = 0; x < rect.width; ++x, ++planar) {
      for (size_t channel = 0; channel < 3; ++channel) planar[channel * plane] = static_cast<float>(*in++) / 65535.0f;
    }
  }
}

// Rows that are copied at once where nothing is to repair.
constexpr int kCopiedRows = 64;

}  // namespace

bool DecodesByRows(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const auto byte = [&file] { return file.get(); };
  char head[29] = {};
  if (!file.read(head, sizeof head)) return false;
  const std::string_view start(head, sizeof head);
  if (start.substr(1, 3) == "PNG") return head[28] == 0;  // IHDR's last byte: the interlace method
  if (start.substr(0, 4) == std::string_view("II*\0", 4) || start.substr(0, 4) == std::string_view("MM\0*", 4)) return true;  // TIFF
  if (start.substr(0, 2) != "\xff\xd8") return false;
  // From marker to marker to the first frame header (SOFn): its number says how the JPEG is coded.
  file.seekg(2);
  while (byte() == 0xff) {
    int marker = byte();
    while (marker == 0xff) marker = byte();
    if (marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc) return marker <= 0xc1;
    const int high = byte(), low = byte();
    if (!file || high * 256 + low < 2) return false;
    file.seekg(high * 256 + low - 2, std::ios::cur);
  }
  return false;
}

int64_t TaskMemoryBytes(const v1::PictureInfo& picture, bool by_rows, const Rect& window, const Rect& region, int network_scale) {
  const int64_t sample = picture.depth() > 8 ? 2 : 1;
  const int64_t colours = picture.grey() ? 1 : 3;
  // Whole-picture decoders keep up to four channels, JPEG's coefficients and ImageMagick's samples with 16 bits each.
  const int64_t whole = by_rows ? 0 : int64_t{picture.width()} * picture.height() * (picture.format() == "webp" ? 4 : 8);
  return window.area() * colours * sample + region.area() * network_scale * network_scale * 6 + whole;
}

PictureTask::PictureTask(v1::LeasedTask lease, const TaskTools* tools) : Task(std::move(lease), tools), whole_(!lease_.has_region()) {
  const v1::PictureInfo& picture = lease_.source().picture();
  region_ = whole_ ? Rect{0, 0, picture.width(), picture.height()} : ToRect(lease_.region());
}

std::string PictureTask::what() const {
  std::string text = lease_.source().path();
  if (!whole_) {
    text += " (" + SizeText({region_.width, region_.height}) + " at " + std::to_string(region_.x) + "," + std::to_string(region_.y) + ")";
  }
  return text;
}

TaskFailure PictureTask::Failure(v1::FailureClass failure_class, const Status& status) const {
  std::string message = status.message();
  // The user knows his file by its name, not by where this worker caches it.
  if (source_ != nullptr && source_->path() != source_->display()) {
    for (size_t at = message.find(source_->path()); at != std::string::npos; at = message.find(source_->path(), at)) {
      message.replace(at, source_->path().size(), source_->display());
      at += source_->display().size();
    }
  }
  return {failure_class, std::move(message)};
}

void PictureTask::Drop() {
  reader_.reset();
  working_.reset();
  source_.reset();
}

MaybeFailure PictureTask::DoPrepare() {
  const Stopwatch watch(tools_->clock);
  if (MaybeFailure failure = FetchSource()) return failure;
  tools_->metrics->AddStageSeconds("fetch", watch.seconds());
  if (MaybeFailure failure = CheckRegion()) return failure;
  if (assesses()) return Decode();
  if (!chooses_model()) {
    if (MaybeFailure failure = LoadModel()) return failure;
    return Decode();
  }
  // Of a whole picture the decoded pixels serve both; which pixels a tile needs, its model says.
  if (whole_) {
    if (MaybeFailure failure = Decode()) return failure;
  }
  if (MaybeFailure failure = ChooseModel()) return failure;
  if (MaybeFailure failure = LoadModel()) return failure;
  return whole_ ? std::nullopt : Decode();
}

MaybeFailure PictureTask::FetchSource() {
  const Stopwatch watch(tools_->clock);
  Result<std::unique_ptr<SourceHandle>> source = tools_->sources->Fetch(lease_.source(), *cancel_);
  if (!source.ok()) {
    const bool in_place = lease_.source().has_in_place();
    return Failure(in_place ? ClassOfInPlaceError(source.status()) : ClassOfDownloadError(source.status()), source.status());
  }
  source_ = *std::move(source);
  seconds_.prepare += watch.seconds();
  return std::nullopt;
}

MaybeFailure PictureTask::CheckRegion() const {
  const Size size = picture_size();
  const Rect all{0, 0, size.width, size.height};
  if (!all.empty() && !region_.empty() && all.Contains(region_)) return std::nullopt;
  return Failure(v1::FAILURE_CLASS_BAD_INPUT, InvalidArgumentError("the job's list of files gives " + what() + " a size of " +
                                                                   SizeText(size) + " pixels; submit it again"));
}

// The same for all tasks of the file: it depends on the file's bytes and size only.
Result<Classes> PictureTask::Look(Classifier* classifier) {
  std::optional<JpegTables> tables;
  if (lease_.source().picture().format() == PictureFormatName(PictureFormat::kJpeg)) {
    NSIC_ASSIGN_OR_RETURN(const std::optional<JpegQuantisation> read, ReadJpegQuantisation(source_->path()));
    if (read) tables = JpegTables{read->luma, read->chroma};
  }
  // For the choice of a model all that a recommender wants to see, for the report less.
  const std::vector<Rect> crops = chooses_model() || assesses() ? CropsToClassify(picture_size()) : SampleCrops(picture_size());
  if (whole_) {
    return ClassifyPicture(
        classifier, crops, [this](const Rect& rect, float* planar) { return reader_->Read(rect, planar); }, tables, *cancel_);
  }
  const Rect band{0, 0, picture_size().width, crops.front().height};
  const int64_t bytes = TaskMemoryBytes(lease_.source().picture(), DecodesByRows(source_->path()), band, Rect(), 1);
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<MemoryBudget::Reservation> memory, tools_->memory->Reserve(bytes, *cancel_));
  BandReader reader(source_->path(), picture_size());
  return ClassifyPicture(
      classifier, crops, [&](const Rect& rect, float* planar) { return reader.Read(rect, planar); }, tables, *cancel_);
}

MaybeFailure PictureTask::ChooseModel() {
  const Stopwatch watch(tools_->clock);
  Verdict verdict = Recommend([this](Classifier* classifier) { return Look(classifier); });
  if (verdict.failure.has_value()) return std::move(verdict.failure);
  if (!verdict.look_failed.ok()) return Failure(ClassOfDecodeError(verdict.look_failed), verdict.look_failed);
  tools_->metrics->AddStageSeconds("score", watch.seconds());
  seconds_.prepare += watch.seconds();
  return std::nullopt;
}

MaybeFailure PictureTask::Decode() {
  const v1::PictureInfo& picture = lease_.source().picture();
  const Size size = picture_size();
  const Rect all{0, 0, size.width, size.height};
  const Rect window = whole_ ? all : enhancer_ == nullptr ? region_ : TileGrid(size, enhancer_->card().tiling).InputFor(region_);
  const int scale = enhancer_ == nullptr ? 1 : enhancer_->card().scale;
  const int64_t bytes = TaskMemoryBytes(picture, DecodesByRows(source_->path()), window, assesses() ? Rect() : region_, scale);
  if (MaybeFailure failure = Reserve(bytes)) {
    failure->message += " or have the picture split into tile tasks";
    return failure;
  }

  const Stopwatch watch(tools_->clock);
  Result<std::unique_ptr<PictureReader>> reader = PictureReader::Open(source_->path(), window);
  if (!reader.ok()) return Failure(ClassOfDecodeError(reader.status()), reader.status());
  reader_ = *std::move(reader);
  if (reader_->info().size != size) {
    return Failure(v1::FAILURE_CLASS_BAD_INPUT,
                   DataLossError(source_->display() + " has " + SizeText(reader_->info().size) + " pixels, not the " + SizeText(size) +
                                 " of the job's list of files; submit it again"));
  }
  tools_->metrics->AddStageSeconds("decode", watch.seconds());
  seconds_.prepare += watch.seconds();
  return std::nullopt;
}

MaybeFailure PictureTask::DoCompute() {
  if (MaybeFailure failure = MeasureSpeed()) return failure;
  const Stopwatch watch(tools_->clock);
  MaybeFailure failure = assesses() ? Assess() : enhancer_ == nullptr ? Copy() : Enhance();
  if (failure.has_value()) return failure;
  DescribeResult();
  result_.set_compute_seconds(watch.seconds());
  seconds_.compute = watch.seconds();
  tools_->metrics->AddStageSeconds("compute", seconds_.compute);
  tools_->metrics->AddDeviceSeconds(seconds_.compute, 0);
  return std::nullopt;
}

MaybeFailure PictureTask::Enhance() {
  working_ = std::make_unique<WorkingPicture>(Scaled(region_, enhancer_->card().scale));
  const auto read = [&](const Rect& rect, float* planar) { return reader_->Read(rect, planar); };
  const auto write = [&](const Rect& rect, const float* planar) {
    working_->Write(rect, planar);
    return OkStatus();
  };
  const Result<EnhanceStats> stats = enhancer_->Enhance(reader_->info().size, region_, read, write, *cancel_);
  if (!stats.ok()) return Failure(v1::FAILURE_CLASS_WORKER_FAULT, stats.status().WithContext(what()));
  if (stats->tiles_redone > 0) spdlog::warn("{}: {} of {} tiles were computed again in fp32", what(), stats->tiles_redone, stats->tiles);
  if (stats->batches_halved > 0) spdlog::warn("{}: the device ran out of memory; it gets fewer tiles at once from now on", what());
  result_.set_tiles_redone(stats->tiles_redone);
  return std::nullopt;
}

// What needs no repair goes the same way without a network.
MaybeFailure PictureTask::Copy() {
  working_ = std::make_unique<WorkingPicture>(region_);
  std::vector<float> planar(static_cast<size_t>(region_.width) * kCopiedRows * 3);
  for (int top = region_.y; top < region_.bottom(); top += kCopiedRows) {
    const Rect rows{region_.x, top, region_.width, std::min(kCopiedRows, region_.bottom() - top)};
    const Status status = reader_->Read(rows, planar.data());
    if (!status.ok()) return Failure(ClassOfDecodeError(status), status);
    working_->Write(rows, planar.data());
  }
  return std::nullopt;
}

MaybeFailure PictureTask::Assess() {
  const Result<double> score = ScoreBefore();
  if (!score.ok()) return Failure(v1::FAILURE_CLASS_WORKER_FAULT, score.status().WithContext(what()));
  result_.mutable_scores()->set_before(*score);
  result_.mutable_scores()->set_after(*score);  // nothing is done to it
  if (!recommends()) return std::nullopt;
  Verdict verdict = Recommend([this](Classifier* classifier) { return Look(classifier); });
  if (verdict.failure.has_value()) return std::move(verdict.failure);
  if (!verdict.look_failed.ok()) return Failure(ClassOfDecodeError(verdict.look_failed), verdict.look_failed);
  classes_ = std::move(verdict.classes);
  return std::nullopt;
}

MaybeFailure PictureTask::DoFinish() {
  const Stopwatch watch(tools_->clock);
  NameOutput();
  Status status;
  if (assesses()) {
    v1::Assessment assessment;
    assessment.set_score(result_.scores().before());
    for (const auto& [label, probability] : classes_) {
      v1::Assessment::Class* const added = assessment.add_classes();
      added->set_label(label);
      added->set_probability(probability);
    }
    status = WriteFileAtomically(output_path_, assessment.SerializeAsString());
    result_.set_width(region_.width);
    result_.set_height(region_.height);
  } else if (whole_) {
    const FinishOptions options = ToFinishOptions(lease_.options());
    status = FinishPicture(source_->path(), *working_, options, output_path_);
    const int scale = enhancer_ == nullptr ? 1 : enhancer_->card().scale;
    const Size size = OutputSize({region_.width, region_.height}, scale, options);
    result_.set_width(size.width);
    result_.set_height(size.height);
  } else {
    status = working_->Save(output_path_);
    result_.set_width(working_->rect().width);
    result_.set_height(working_->rect().height);
  }
  // A file that changes under our hands must not give a result, and explains many an error.
  const Status unchanged = source_->CheckUnchanged();
  if (!unchanged.ok()) return Failure(v1::FAILURE_CLASS_BAD_INPUT, unchanged);
  if (!status.ok()) return Failure(ClassOfOutputError(status), status.WithContext(what()));
  seconds_.finish = watch.seconds();
  tools_->metrics->AddStageSeconds("finish", seconds_.finish);
  megapixels_ = static_cast<double>(region_.area()) * 1e-6;
  return std::nullopt;
}

Result<double> PictureTask::ScoreBefore() {
  return ScoreOf({region_.width, region_.height}, [this](const Rect& rect, float* planar) {
    return reader_->Read({region_.x + rect.x, region_.y + rect.y, rect.width, rect.height}, planar);
  });
}

Result<double> PictureTask::ScoreAfter() {
  if (whole_) {
    working_.reset();
    NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<PictureReader> delivered, PictureReader::Open(output_path_));
    return ScoreOf(delivered->info().size, [&](const Rect& rect, float* planar) { return delivered->Read(rect, planar); });
  }
  const Size size{working_->rect().width, working_->rect().height};
  return ScoreOf(size, [this](const Rect& rect, float* planar) {
    ReadWorking(*working_, rect, planar);
    return OkStatus();
  });
}

Status PictureTask::ScoreBoth() {
  NSIC_ASSIGN_OR_RETURN(const double before, ScoreBefore());
  NSIC_ASSIGN_OR_RETURN(const double after, ScoreAfter());
  result_.mutable_scores()->set_before(before);
  result_.mutable_scores()->set_after(after);
  return OkStatus();
}

void PictureTask::DoScore() {
  if (scores() && !assesses()) NoteJudgingError(ScoreBoth());
  // Where it chose no model it is for the report: one task of the file is enough.
  const bool tells = recommends() && !chooses_model() && !assesses() && region_.x == 0 && region_.y == 0;
  if (tells) {
    if (!whole_) {  // to look takes memory of its own, for which a task that holds some must not wait
      reader_.reset();
      working_.reset();
      memory_.reset();
    }
    const Verdict verdict = Recommend([this](Classifier* classifier) { return Look(classifier); });
    NoteJudgingError(verdict.failure.has_value() ? UnavailableError(verdict.failure->message) : verdict.look_failed);
  }
}

}  // namespace nsic
