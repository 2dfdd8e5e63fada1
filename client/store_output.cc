#include "client/store_output.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "core/base/digest.h"
#include "core/base/files.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;

std::string FolderOf(const std::string& path) { return fs::path(path).parent_path().string(); }

// Where a submit's temporary files are: one name for both places below, which its next run may remove and no other does.
std::string TemporaryName(const JobRecord& record) { return "tmp-" + record.key(); }
std::string HiddenPrefix(const JobRecord& record) { return ".nsic-" + TemporaryName(record) + "-"; }

// Not the output's own name, which may leave no room for a suffix.
std::string NameOf(const std::string& output) { return Sha256Hex(output).substr(0, 16); }

// Removes the entries of a folder whose names begin with `prefix` and are not to be kept.
void RemoveEntries(const std::string& folder, const std::string& prefix, const std::set<std::string>& kept) {
  std::error_code error;  // what cannot be removed now stays for the next run
  std::vector<fs::path> leftovers;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.compare(0, prefix.size(), prefix) == 0 && kept.count(name.substr(prefix.size())) == 0) leftovers.push_back(entry->path());
  }
  for (const fs::path& leftover : leftovers) fs::remove_all(leftover, error);
}

}  // namespace

Result<std::string> TemporaryPath(const JobRecord& record, const std::string& output) {
  NSIC_RETURN_IF_ERROR(MakeFolders(FolderOf(output)));
  struct stat report {
  }, folder{};
  if (::stat(record.report_folder().c_str(), &report) == 0 && ::stat(FolderOf(output).c_str(), &folder) == 0 &&
      report.st_dev == folder.st_dev) {
    const std::string temporary = record.report_folder() + "/" + TemporaryName(record);
    NSIC_RETURN_IF_ERROR(MakeFolders(temporary));
    return temporary + "/" + NameOf(output);
  }
  return FolderOf(output) + "/" + HiddenPrefix(record) + NameOf(output);
}

void RemoveLeftovers(const std::vector<PlannedFile>& files, const JobRecord& record,
                     const std::function<bool(const PlannedFile& file)>& keep) {
  std::set<std::string> folders;
  std::set<std::string> kept;
  for (const PlannedFile& file : files) {
    folders.insert(FolderOf(file.output));
    if (keep(file)) kept.insert(NameOf(file.output));
  }
  const std::string temporary = record.report_folder() + "/" + TemporaryName(record);
  RemoveEntries(temporary, "", kept);
  std::error_code not_empty;
  fs::remove(temporary, not_empty);
  for (const std::string& folder : folders) RemoveEntries(folder, HiddenPrefix(record), kept);
}

RemoveAtEnd::~RemoveAtEnd() {
  std::error_code ignored;  // what stays behind is removed by the next run
  fs::remove_all(path_, ignored);
  fs::remove(path_ + ".part", ignored);
}

Status Download(FarmConnection* farm, const v1::BlobRef& blob, const std::string& path, const CancelToken& cancel) {
  Status status = farm->patient_blobs().DownloadFile(blob.sha256(), blob.size(), path, cancel);
  std::error_code ignored;
  if (status.code() == StatusCode::kNotFound && !fs::exists(FolderOf(path), ignored)) return status;  // the folder, not the blob
  if (status.code() == StatusCode::kNotFound) {
    return NotFoundError("the coordinator no longer has this output: submit the same again to make it anew");
  }
  return status;
}

Status Publish(JobRecord* record, const WrittenOutput& written, const std::string& temporary) {
  NSIC_RETURN_IF_ERROR(record->Append(written));
  if (::rename(temporary.c_str(), written.output.c_str()) != 0) return ErrnoError(errno, "cannot rename to " + written.output);
  return SyncFolder(FolderOf(written.output));
}

bool HasContent(const std::string& path, const std::string& sha256, int64_t bytes) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size != bytes) return false;
  const Result<std::string> hash = Sha256OfFile(path);
  return hash.ok() && *hash == sha256;
}

}  // namespace nsic
