#include "worker/run_picture_task.h"

#include <spdlog/spdlog.h>

#include <fstream>
#include <optional>
#include <string_view>
#include <utility>

#include "core/farm/tile_grid.h"

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
  if (MaybeFailure failure = LoadModel()) return failure;
  return Decode();
}

MaybeFailure PictureTask::FetchSource() {
  const Stopwatch watch(tools_->clock);
  Result<std::unique_ptr<SourceHandle>> source = tools_->sources->Fetch(lease_.source(), *cancel_);
  if (!source.ok()) {
    const bool in_place = lease_.source().has_in_place();
    return Failure(in_place ? ClassOfInPlaceError(source.status()) : ClassOfDownloadError(source.status()), source.status());
  }
  source_ = *std::move(source);
  prepare_seconds_ += watch.seconds();
  return std::nullopt;
}

MaybeFailure PictureTask::Decode() {
  const v1::PictureInfo& picture = lease_.source().picture();
  const Size size{picture.width(), picture.height()};
  const Rect all{0, 0, size.width, size.height};
  if (all.empty() || region_.empty() || !all.Contains(region_)) {
    return Failure(v1::FAILURE_CLASS_BAD_INPUT, InvalidArgumentError("the job's list of files gives " + what() + " a size of " +
                                                                     SizeText(size) + " pixels; submit it again"));
  }
  const Rect window = whole_ ? all : TileGrid(size, enhancer_->card().tiling).InputFor(region_);
  const int64_t bytes = TaskMemoryBytes(picture, DecodesByRows(source_->path()), window, region_, enhancer_->card().scale);
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
  prepare_seconds_ += watch.seconds();
  return std::nullopt;
}

MaybeFailure PictureTask::DoCompute() {
  if (MaybeFailure failure = MeasureSpeed()) return failure;
  const Stopwatch watch(tools_->clock);
  const int scale = enhancer_->card().scale;
  working_ = std::make_unique<WorkingPicture>(Scaled(region_, scale));
  const auto read = [&](const Rect& rect, float* planar) { return reader_->Read(rect, planar); };
  const auto write = [&](const Rect& rect, const float* planar) {
    working_->Write(rect, planar);
    return OkStatus();
  };
  const Result<EnhanceStats> stats = enhancer_->Enhance(reader_->info().size, region_, read, write, *cancel_);
  if (!stats.ok()) return Failure(v1::FAILURE_CLASS_WORKER_FAULT, stats.status().WithContext(what()));
  reader_.reset();
  if (stats->tiles_redone > 0) spdlog::warn("{}: {} of {} tiles were computed again in fp32", what(), stats->tiles_redone, stats->tiles);
  DescribeResult();
  result_.set_compute_seconds(watch.seconds());
  result_.set_tiles_redone(stats->tiles_redone);
  tools_->metrics->AddStageSeconds("compute", result_.compute_seconds());
  tools_->metrics->AddDeviceSeconds(result_.compute_seconds(), 0);
  return std::nullopt;
}

MaybeFailure PictureTask::DoFinish() {
  const Stopwatch watch(tools_->clock);
  NameOutput();
  Status status;
  if (whole_) {
    const FinishOptions options = ToFinishOptions(lease_.options());
    status = FinishPicture(source_->path(), *working_, options, output_path_);
    const Size size = OutputSize({region_.width, region_.height}, enhancer_->card().scale, options);
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
  tools_->metrics->AddStageSeconds("finish", watch.seconds());
  RecordDone(static_cast<double>(region_.area()) * 1e-6, prepare_seconds_, result_.compute_seconds(), watch.seconds());
  return std::nullopt;
}

}  // namespace nsic
