#include "client/map_outputs.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "client/text.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;

// Absolute, symbolic links resolved as far as the path exists.
Result<std::string> Resolve(const std::string& path) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  if (error) return ErrnoError(error.value(), "cannot find " + path);
  fs::path resolved = fs::weakly_canonical(absolute, error);
  if (error) return ErrnoError(error.value(), "cannot find " + path);
  while (!resolved.has_filename() && resolved.has_relative_path()) resolved = resolved.parent_path();
  return resolved.string();
}

bool IsInside(const std::string& path, const std::string& folder) {
  if (folder == "/" || path == folder) return true;
  return path.size() > folder.size() && path.compare(0, folder.size(), folder) == 0 && path[folder.size()] == '/';
}

std::string Join(const std::string& folder, const std::string& name) { return folder == "/" ? "/" + name : folder + "/" + name; }

bool IsTakenByAFile(const std::string& folder) {
  struct stat info {};
  return ::stat(folder.c_str(), &info) == 0 && !S_ISDIR(info.st_mode);
}

struct SplitName {
  std::string stem;
  std::string extension;  // without the dot; empty if there is none
};

SplitName Split(const std::string& name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos || dot == 0) return {name, ""};
  return {name.substr(0, dot), name.substr(dot + 1)};
}

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// `extension` in lower case.
bool StandsFor(const std::string& extension, PictureFormat format) {
  switch (format) {
    case PictureFormat::kJpeg: return extension == "jpg" || extension == "jpeg" || extension == "jpe" || extension == "jfif";
    case PictureFormat::kTiff: return extension == "tif" || extension == "tiff";
    case PictureFormat::kBmp: return extension == "bmp" || extension == "dib";
    case PictureFormat::kPng:
    case PictureFormat::kWebp:
    case PictureFormat::kAvif: return extension == PictureFormatExtension(format);
  }
  return false;
}

bool StandsFor(const std::string& extension, const std::string& container) {
  if (container == "mp4") return extension == "mp4" || extension == "m4v" || extension == "mov";
  return extension == container;
}

// The output's path; an extension that does not fit gives way to `extension`.
std::string Place(const OutputPlaces& places, const InputRoot& root, const FoundFile& file,
                  const std::function<bool(const std::string& extension)>& fits, std::string_view extension) {
  const size_t slash = file.relative.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : file.relative.substr(0, slash + 1);
  SplitName name = Split(slash == std::string::npos ? file.relative : file.relative.substr(slash + 1));
  if (!fits(name.extension)) name.extension = std::string(extension);
  if (places.beside && !root.folder) name.stem += "-enhanced";
  return Join(places.folders[file.root], folder + name.stem + (name.extension.empty() ? "" : "." + name.extension));
}

// Resolves folders once each: a library has far fewer folders than files.
class FolderResolver {
 public:
  // The path with its folder resolved, its own name left as it is.
  std::string operator()(const std::string& path) {
    const fs::path as_path(path);
    const std::string folder = as_path.parent_path().string();
    const auto known = resolved_.find(folder);
    if (known != resolved_.end()) return Join(known->second, as_path.filename().string());
    const Result<std::string> resolved = Resolve(folder);
    const std::string& value = resolved_.emplace(folder, resolved.ok() ? *resolved : folder).first->second;
    return Join(value, as_path.filename().string());
  }

 private:
  std::unordered_map<std::string, std::string> resolved_;
};

}  // namespace

Result<OutputPlaces> PlaceOutputs(const std::vector<InputRoot>& roots, const std::string& out) {
  OutputPlaces places;
  places.beside = out.empty();
  std::string base;
  if (!out.empty()) {
    NSIC_ASSIGN_OR_RETURN(base, Resolve(out));
  }
  for (const InputRoot& root : roots) {
    if (!out.empty()) {
      places.folders.push_back(root.folder && roots.size() > 1 && !root.name().empty() ? Join(base, root.name()) : base);
    } else if (!root.folder) {
      places.folders.push_back(root.parent());
    } else if (root.name().empty()) {
      return InvalidArgumentError("/ has no folder beside it for the outputs: say where they go with --out DIR");
    } else {
      places.folders.push_back(root.path + "-enhanced");
    }
  }
  places.report_folder = Join(out.empty() ? places.folders.front() : base, std::string(kReportFolderName));

  for (size_t i = 0; i < roots.size(); ++i) {
    if (IsTakenByAFile(places.folders[i])) {
      return FailedPreconditionError(ForTerminal(places.folders[i]) +
                                     " is a file where the folder of the outputs should be: move it, or choose another with --out DIR");
    }
    // A file's output beside it is told apart by its name. Everything else must stay out of the folders that are read.
    if (places.beside && !roots[i].folder) continue;
    NSIC_ASSIGN_OR_RETURN(const std::string place, Resolve(places.folders[i]));
    for (const InputRoot& root : roots) {
      if (!root.folder) continue;
      NSIC_ASSIGN_OR_RETURN(const std::string input, Resolve(root.path));
      if (IsInside(place, input)) {
        return InvalidArgumentError("the output folder " + ForTerminal(places.folders[i]) + " lies inside the input folder " +
                                    ForTerminal(root.path) + ": choose another with --out DIR");
      }
    }
  }
  return places;
}

std::string OutputPath(const OutputPlaces& places, const InputRoot& root, const FoundFile& file, PictureFormat source,
                       PictureFormat output) {
  return Place(
      places, root, file, [&](const std::string& extension) { return source == output || StandsFor(Lower(extension), output); },
      PictureFormatExtension(output));
}

std::string VideoOutputPath(const OutputPlaces& places, const InputRoot& root, const FoundFile& file, const std::string& container) {
  return Place(
      places, root, file, [&](const std::string& extension) { return StandsFor(Lower(extension), container); }, container);
}

std::string PreviewFolder(const OutputPlaces& places, const FoundFile& file) {
  return Join(places.folders[file.root], std::string(kPreviewFolderName) + "/" + file.relative);
}

std::string ManifestPath(const std::vector<InputRoot>& roots, const FoundFile& file) {
  if (roots.size() == 1) return file.relative;
  // The number keeps two roots of the same name apart.
  const std::string prefix = std::to_string(file.root + 1);
  return roots[file.root].folder ? prefix + "/" + roots[file.root].name() + "/" + file.relative : prefix + "/" + file.relative;
}

Status CheckOutputs(const std::vector<MappedFile>& files, const std::function<bool(const std::string& output)>& is_ours) {
  FolderResolver resolve;
  std::unordered_map<std::string, const MappedFile*> inputs;
  for (const MappedFile& file : files) inputs.emplace(resolve(file.input), &file);
  std::unordered_map<std::string, const MappedFile*> outputs;
  for (const MappedFile& file : files) {
    const std::string output = resolve(file.output);
    const auto [other, first] = outputs.emplace(output, &file);
    if (!first) {
      return InvalidArgumentError(ForTerminal(other->second->input) + " and " + ForTerminal(file.input) + " would both be written to " +
                                  ForTerminal(file.output) + ": rename one of them, or submit them with different --out folders");
    }
    const auto original = inputs.find(output);
    if (original != inputs.end()) {
      return InvalidArgumentError("the output of " + ForTerminal(file.input) + " would overwrite the original " +
                                  ForTerminal(original->second->input) + ": choose another folder with --out DIR");
    }
  }
  for (const MappedFile& file : files) {
    struct stat info {};
    if (::lstat(file.output.c_str(), &info) == 0 && !is_ours(file.output)) {
      return FailedPreconditionError(ForTerminal(file.output) +
                                     " exists and was not made by nsic-client: move it away, or choose another folder with --out DIR");
    }
  }
  return OkStatus();
}

}  // namespace nsic
