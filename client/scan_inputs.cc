#include "client/scan_inputs.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <deque>
#include <filesystem>
#include <set>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "client/job_record.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;

using FolderKey = std::pair<dev_t, ino_t>;

std::string Join(const std::string& folder, const std::string& name) {
  if (folder.empty()) return name;
  return folder.back() == '/' ? folder + name : folder + "/" + name;
}

// One walk over all roots.
class Walk {
 public:
  explicit Walk(Scan* scan) : scan_(scan) {}

  void AddFile(size_t root, const std::string& relative, const std::string& path) {
    if (seen_.insert(path).second) scan_->files.push_back({root, relative, path});
  }

  void WalkRoot(size_t root) {
    const std::string& path = scan_->roots[root].path;
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) {  // it was there when the roots were examined
      LeaveOut(path, ErrnoError(errno, "cannot examine the folder " + path).message(), true);
      return;
    }
    if (!visited_.insert({info.st_dev, info.st_ino}).second) return;  // inside an earlier root
    WalkFolder(root, path, "");
    while (!linked_.empty()) {
      const auto [folder, relative] = std::move(linked_.front());
      linked_.pop_front();
      if (::stat(folder.c_str(), &info) != 0) {
        LeaveOut(folder, ErrnoError(errno, "cannot examine the folder " + folder).message(), true);
      } else if (visited_.insert({info.st_dev, info.st_ino}).second) {
        WalkFolder(root, folder, relative);
      }
    }
  }

  void FinishRoot(size_t first_file) {
    auto& files = scan_->files;
    std::sort(files.begin() + static_cast<std::ptrdiff_t>(first_file), files.end(),
              [](const FoundFile& a, const FoundFile& b) { return a.relative < b.relative; });
  }

  // Takes out what earlier submits made.
  void DropOutputs() {
    auto& files = scan_->files;
    const auto made =
        std::stable_partition(files.begin(), files.end(), [this](const FoundFile& file) { return outputs_.count(file.path) == 0; });
    for (auto file = made; file != files.end(); ++file) LeaveOut(file->path, "is an output of an earlier submit", false);
    files.erase(made, files.end());
  }

 private:
  void LeaveOut(const std::string& path, std::string reason, bool failed) { scan_->left_out.push_back({path, std::move(reason), failed}); }

  void WalkFolder(size_t root, const std::string& folder, const std::string& relative) {
    std::error_code error;
    std::vector<std::string> names;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
      names.push_back(entry->path().filename().string());
    }
    if (error) LeaveOut(folder, ErrnoError(error.value(), "cannot list the folder " + folder).message(), true);
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) Visit(root, Join(folder, name), Join(relative, name), name);
  }

  void Visit(size_t root, const std::string& path, const std::string& relative, const std::string& name) {
    if (name.front() == '.') {
      LeaveOut(path, "hidden", false);
      return;
    }
    struct stat link {};
    struct stat info {};
    if (::lstat(path.c_str(), &link) != 0) {
      LeaveOut(path, ErrnoError(errno, "cannot examine " + path).message(), true);
      return;
    }
    const bool is_link = S_ISLNK(link.st_mode);
    if (::stat(path.c_str(), &info) != 0) {
      // A dangling link, or a ring of links. It is a loss only where a picture or a video was promised.
      LeaveOut(path,
               is_link ? ErrnoError(errno, "cannot follow the symbolic link " + path).message()
                       : ErrnoError(errno, "cannot examine " + path).message(),
               !is_link || IsPictureName(name) || IsVideoName(name));
      return;
    }
    if (S_ISDIR(info.st_mode)) {
      if (name == kReportFolderName) {
        for (std::string& output : RecordedOutputs(path)) outputs_.insert(std::move(output));
      } else if (name == kPreviewFolderName) {
        return;
      } else if (is_link) {
        linked_.emplace_back(path, relative);  // after all real folders, so that what is included does not depend on names
      } else if (visited_.insert({info.st_dev, info.st_ino}).second) {
        WalkFolder(root, path, relative);
      }
    } else if (S_ISREG(info.st_mode)) {
      AddFile(root, relative, path);
    } else {
      LeaveOut(path, "not a regular file", false);
    }
  }

  Scan* scan_;
  std::set<FolderKey> visited_;
  std::deque<std::pair<std::string, std::string>> linked_;  // path and relative path
  std::unordered_set<std::string> seen_;
  std::unordered_set<std::string> outputs_;
};

template <size_t kCount>
bool HasExtensionOf(std::string_view name, const std::array<std::string_view, kCount>& extensions) {
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return false;
  std::string extension(name.substr(dot + 1));
  std::transform(extension.begin(), extension.end(), extension.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::find(extensions.begin(), extensions.end(), extension) != extensions.end();
}

Result<InputRoot> ExamineRoot(const std::string& argument) {
  if (argument.empty()) return InvalidArgumentError("an empty PATH was given");
  struct stat info {};
  if (::stat(argument.c_str(), &info) != 0) return InvalidArgumentError(ErrnoError(errno, "cannot read " + argument).message());
  fs::path path(argument);
  while (!path.has_filename() && path.has_relative_path()) path = path.parent_path();  // slashes at the end
  std::error_code error;
  const fs::path name = path.filename();
  if (name.empty() || name == "." || name == "..") {
    path = fs::canonical(path, error);
  } else {
    fs::path parent = path.parent_path();
    path = fs::canonical(parent.empty() ? "." : parent, error) / name;
  }
  if (error) return InvalidArgumentError(ErrnoError(error.value(), "cannot find the folder of " + argument).message());
  if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode)) return InvalidArgumentError(argument + " is neither a file nor a folder");
  return InputRoot{path.string(), S_ISDIR(info.st_mode)};
}

}  // namespace

std::string InputRoot::name() const { return fs::path(path).filename().string(); }
std::string InputRoot::parent() const { return fs::path(path).parent_path().string(); }

bool IsPictureName(std::string_view name) {
  static constexpr std::array<std::string_view, 11> kExtensions = {"jpg", "jpeg", "jpe", "jfif", "png", "webp",
                                                                   "tif", "tiff", "bmp", "dib",  "avif"};
  return HasExtensionOf(name, kExtensions);
}

bool IsVideoName(std::string_view name) {
  static constexpr std::array<std::string_view, 15> kExtensions = {"mp4",  "m4v", "mov", "mkv", "webm", "avi", "m2ts", "mpg",
                                                                   "mpeg", "vob", "wmv", "flv", "ogv",  "3gp", "y4m"};
  return HasExtensionOf(name, kExtensions);
}

bool IsAudioName(std::string_view name) {
  static constexpr std::array<std::string_view, 5> kExtensions = {"mka", "weba", "m4a", "wma", "oga"};
  return HasExtensionOf(name, kExtensions);
}

Result<Scan> ScanInputs(const std::vector<std::string>& paths) {
  Scan scan;
  std::set<std::string> seen;
  for (const std::string& path : paths) {
    NSIC_ASSIGN_OR_RETURN(InputRoot root, ExamineRoot(path));
    if (seen.insert(root.path).second) scan.roots.push_back(std::move(root));
  }
  Walk walk(&scan);
  for (size_t root = 0; root < scan.roots.size(); ++root) {
    const size_t first_file = scan.files.size();
    if (scan.roots[root].folder) {
      walk.WalkRoot(root);
    } else {
      walk.AddFile(root, scan.roots[root].name(), scan.roots[root].path);
    }
    walk.FinishRoot(first_file);
  }
  walk.DropOutputs();
  return scan;
}

}  // namespace nsic
