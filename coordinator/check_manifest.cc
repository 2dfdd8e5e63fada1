#include "coordinator/check_manifest.h"

#include <cmath>
#include <unordered_set>

#include "core/base/digest.h"
#include "core/rpc/video_messages.h"

namespace nsic {
namespace {

constexpr std::string_view kOutputFormats[] = {"keep", "png", "jpg", "webp", "tiff"};
constexpr std::string_view kSourceFormats[] = {"jpeg", "png", "webp", "tiff", "bmp", "avif"};
constexpr double kMaxScale = 16;
constexpr int kMaxOutputSide = 65535;
constexpr int kMaxStaticThreshold = 255;  // of samples of 8 bits

template <typename List>
bool Contains(const List& list, std::string_view value) {
  for (const std::string_view known : list) {
    if (known == value) return true;
  }
  return false;
}

// A path as a person may read it: what is not printable ASCII or UTF-8's upper half is shown as '?'.
std::string Shown(std::string_view path) {
  std::string text;
  for (const char c : path.substr(0, 200)) text += static_cast<unsigned char>(c) < 32 || c == 127 ? '?' : c;
  return text;
}

// Empty if the path stays below the folder that it is relative to.
std::string PathFault(std::string_view path) {
  if (path.empty()) return "has no path";
  if (path.size() > kMaxPathBytes) return "has a path of more than " + std::to_string(kMaxPathBytes) + " bytes";
  if (path.find('\0') != std::string_view::npos) return "has a NUL in its path";
  if (path.front() == '/') return "has an absolute path";
  while (true) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return "has '" + std::string(part) + "' in its path";
    if (part.size() > kMaxNameBytes) return "has a name of more than " + std::to_string(kMaxNameBytes) + " bytes in its path";
    if (slash == std::string_view::npos) return "";
    path.remove_prefix(slash + 1);
  }
}

std::string PictureFault(const v1::PictureInfo& picture) {
  if (picture.width() < 1 || picture.height() < 1 || picture.width() > kMaxSide || picture.height() > kMaxSide ||
      int64_t{picture.width()} * picture.height() > kMaxPictureArea) {
    return "claims " + std::to_string(picture.width()) + "x" + std::to_string(picture.height()) + " pixels";
  }
  if (!Contains(kSourceFormats, picture.format())) return "has the unknown format '" + Shown(picture.format()) + "'";
  if (picture.depth() != 8 && picture.depth() != 16) return "has " + std::to_string(picture.depth()) + " bits a sample; 8 and 16 are known";
  return "";
}

std::string VideoFault(const v1::VideoInfo& video) {
  if (const Status status = FromMessage(video).status(); !status.ok()) return status.message();
  if (!IsSha256Hex(video.index().sha256())) return "names no index of its frames";
  if (video.index().size() < 1 || video.index().size() > kMaxIndexBytes) {
    return "has an index of " + std::to_string(video.index().size()) + " bytes; at most " + std::to_string(kMaxIndexBytes) + " are taken";
  }
  const v1::FrameRange& range = video.range();
  if (range.first() < 0 || range.count() < 1 || range.count() > kMaxVideoFrames || range.first() > kMaxVideoFrames - range.count()) {
    return "is to be restored from frame " + std::to_string(range.first()) + " on for " + std::to_string(range.count()) + " frames";
  }
  return "";
}

std::string FileFault(const v1::SourceFile& file) {
  if (std::string fault = PathFault(file.path()); !fault.empty()) return fault;
  if (!IsSha256Hex(file.content().sha256())) return "has no SHA-256";
  if (file.content().size() < 1) return "has no size";
  if (file.has_in_place()) {
    const std::string& root = file.in_place().root_id();
    if (root.empty() || root.size() > kMaxNameBytes) return "is in a media root without a proper id";
    if (std::string fault = PathFault(file.in_place().path()); !fault.empty()) return fault + " in its media root";
  }
  switch (file.kind_case()) {
    case v1::SourceFile::kPicture: return PictureFault(file.picture());
    case v1::SourceFile::kVideo: return VideoFault(file.video());
    case v1::SourceFile::KIND_NOT_SET: break;
  }
  return "is described neither as a picture nor as a video";
}

}  // namespace

bool IsId(std::string_view text) { return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos; }

Status CheckSpec(v1::JobSpec* spec) {
  const auto in_unit = [](double value) { return value >= 0 && value <= 1; };  // false for NaN
  v1::RestoreOptions& options = *spec->mutable_options();
  if (spec->name().size() > kMaxPathBytes) return InvalidArgumentError("the job's name is too long");
  if (!IsSha256Hex(spec->manifest().sha256())) return InvalidArgumentError("the job names no manifest blob");
  if (spec->manifest().size() < 0 || spec->manifest().size() > kMaxManifestBytes) {
    return InvalidArgumentError("the manifest may have at most " + std::to_string(kMaxManifestBytes) +
                                " bytes; submit fewer files at once");
  }
  if (!IsSha256Hex(options.model_id())) return InvalidArgumentError("the job names no model by its identity");
  if (options.model_name().size() > kMaxNameBytes) return InvalidArgumentError("the model's name is too long");
  if (!in_unit(options.strength())) return InvalidArgumentError("strength must be 0 to 1");
  if (!in_unit(options.sharpen())) return InvalidArgumentError("sharpen must be 0 to 1");
  const bool scaled = options.scale() != 0;
  const bool sized = options.width() != 0 || options.height() != 0;
  if (scaled && !(options.scale() >= 1 / kMaxScale && options.scale() <= kMaxScale)) {
    return InvalidArgumentError("scale must be 1/16 to 16");
  }
  if (sized && (options.width() < 1 || options.height() < 1 || options.width() > kMaxOutputSide || options.height() > kMaxOutputSide)) {
    return InvalidArgumentError("size must be 1x1 to " + std::to_string(kMaxOutputSide) + "x" + std::to_string(kMaxOutputSide));
  }
  if (scaled && sized) return InvalidArgumentError("scale and size exclude each other");
  if (!Contains(kOutputFormats, options.format())) return InvalidArgumentError("format must be keep, png, jpg, webp or tiff");
  if (options.jpeg_quality() < 1 || options.jpeg_quality() > 100) return InvalidArgumentError("jpeg_quality must be 1 to 100");
  if (options.split_pixels() < 0) return InvalidArgumentError("split_pixels must not be negative");
  if (options.static_threshold() < 0 || options.static_threshold() > kMaxStaticThreshold) {
    return InvalidArgumentError("static_threshold must be 0 to " + std::to_string(kMaxStaticThreshold));
  }
  if (options.has_score_every() && options.score_every() < 0) return InvalidArgumentError("score_every must not be negative");
  if (options.auto_model() && options.assess()) return InvalidArgumentError("auto_model and assess exclude each other");
  if (options.split_pixels() == 0) options.set_split_pixels(kDefaultSplitPixels);
  return OkStatus();
}

std::string NameOfFile(const v1::JobManifest& manifest, int index) {
  return "file " + std::to_string(index) + " of the manifest, '" + Shown(manifest.files(index).path()) + "', ";
}

Status CheckManifest(const v1::JobManifest& manifest) {
  if (manifest.files().empty()) return InvalidArgumentError("the manifest names no file");
  if (manifest.files_size() > kMaxFiles) {
    return InvalidArgumentError("the manifest names " + std::to_string(manifest.files_size()) + " files; at most " +
                                std::to_string(kMaxFiles) + " can be submitted at once");
  }
  std::unordered_set<std::string_view> paths;
  paths.reserve(static_cast<size_t>(manifest.files_size()));
  for (int i = 0; i < manifest.files_size(); ++i) {
    const v1::SourceFile& file = manifest.files(i);
    std::string fault = FileFault(file);
    if (fault.empty() && !paths.insert(file.path()).second) fault = "is named twice";
    if (!fault.empty()) {
      return InvalidArgumentError(NameOfFile(manifest, i) + fault);
    }
  }
  return OkStatus();
}

}  // namespace nsic
