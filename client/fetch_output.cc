#include "client/fetch_output.h"

#include <sys/stat.h>
#include <unistd.h>

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

// A temporary file must lie on the output's own disk for the rename: in the report folder if that is there, else hidden beside the output.
Result<std::string> TemporaryPath(const JobRecord& record, const std::string& output) {
  // Not the output's own name, which may leave no room for a suffix.
  const std::string name = Sha256Hex(output).substr(0, 16);
  struct stat report {
  }, folder{};
  if (::stat(record.report_folder().c_str(), &report) == 0 && ::stat(FolderOf(output).c_str(), &folder) == 0 &&
      report.st_dev == folder.st_dev) {
    const std::string temporary = record.report_folder() + "/" + TemporaryName(record);
    NSIC_RETURN_IF_ERROR(MakeFolders(temporary));
    return temporary + "/" + name;
  }
  return FolderOf(output) + "/.nsic-" + TemporaryName(record) + "-" + name;
}

// Removes a path and everything below it at the end of a scope.
class RemoveAtEnd {
 public:
  explicit RemoveAtEnd(std::string path) : path_(std::move(path)) {}
  ~RemoveAtEnd() {
    std::error_code ignored;  // what stays behind is removed by the next run
    fs::remove_all(path_, ignored);
    fs::remove(path_ + ".part", ignored);
  }
  RemoveAtEnd(const RemoveAtEnd&) = delete;
  RemoveAtEnd& operator=(const RemoveAtEnd&) = delete;

 private:
  const std::string path_;
};

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

Status Download(FarmConnection* farm, const v1::BlobRef& blob, const std::string& path, const CancelToken& cancel) {
  Status status = farm->patient_blobs().DownloadFile(blob.sha256(), blob.size(), path, cancel);
  std::error_code ignored;
  if (status.code() == StatusCode::kNotFound && !fs::exists(FolderOf(path), ignored)) return status;  // the folder, not the blob
  if (status.code() == StatusCode::kNotFound) {
    return NotFoundError("the coordinator no longer has this output: submit the same again to make it anew");
  }
  return status;
}

Result<WrittenOutput> FetchWhole(FarmConnection* farm, JobRecord* record, const FetchPlan& plan, const std::string& temporary,
                                 const CancelToken& cancel) {
  const v1::TaskResult& result = plan.tasks.front().result();
  WrittenOutput written = plan.written;
  written.sha256 = result.output().sha256();
  written.bytes = result.output().size();
  written.size = {result.width(), result.height()};
  if (HasContent(written.output, written.sha256, written.bytes)) {
    const std::vector<WrittenOutput> known = record->Find(written.output, written.input_sha256, written.parameters);
    const bool noted = std::any_of(known.begin(), known.end(), [&](const WrittenOutput& other) { return other.sha256 == written.sha256; });
    if (!noted) NSIC_RETURN_IF_ERROR(record->Append(written));
    return written;
  }
  NSIC_RETURN_IF_ERROR(Download(farm, result.output(), temporary, cancel));
  NSIC_RETURN_IF_ERROR(Publish(record, written, temporary));
  return written;
}

Result<WrittenOutput> Assemble(FarmConnection* farm, JobRecord* record, const FetchPlan& plan, const std::string& temporary,
                               const CancelToken& cancel) {
  const PlannedFile& file = *plan.file;
  for (const WrittenOutput& earlier : record->Find(file.output, file.sha256, plan.written.parameters)) {
    if (HasContent(file.output, earlier.sha256, earlier.bytes)) return earlier;
  }
  // Alpha, profile, metadata and the blend of --strength come from the source.
  if (file.input.empty()) {
    return FailedPreconditionError(
        "it was split into tile tasks, and putting it together needs the original: fetch it where it was submitted");
  }
  NSIC_ASSIGN_OR_RETURN(const std::string source_hash, Sha256OfFile(file.input));
  if (source_hash != file.sha256) return DataLossError("the source has changed since it was submitted: submit it again");

  // In a folder of their own, which goes in one piece.
  NSIC_RETURN_IF_ERROR(MakeFolders(temporary));
  std::vector<SavedPiece> pieces;
  for (const v1::TaskOutcome& task : plan.tasks) {
    const v1::Region& region = task.region();
    const int scale = plan.network_scale;
    SavedPiece piece{{region.x() * scale, region.y() * scale, region.width() * scale, region.height() * scale},
                     temporary + "/" + std::to_string(task.task_id())};
    NSIC_RETURN_IF_ERROR(Download(farm, task.result().output(), piece.path, cancel));
    pieces.push_back(std::move(piece));
  }
  const std::string assembled = temporary + "/assembled";
  NSIC_RETURN_IF_ERROR(FinishPictureFromPieces(file.input, pieces, plan.network_scale, plan.options, assembled));
  WrittenOutput written = plan.written;
  written.size = OutputSize(file.size, plan.network_scale, plan.options);
  NSIC_ASSIGN_OR_RETURN(written.sha256, Sha256OfFile(assembled));
  std::error_code error;
  written.bytes = static_cast<int64_t>(fs::file_size(assembled, error));
  if (error) return ErrnoError(error.value(), "cannot examine " + assembled);
  {
    NSIC_ASSIGN_OR_RETURN(const UniqueFd fd, OpenForReading(assembled));
    if (::fsync(fd.get()) != 0) return ErrnoError(errno, "cannot sync " + assembled);
  }
  NSIC_RETURN_IF_ERROR(Publish(record, written, assembled));
  return written;
}

}  // namespace

Result<WrittenOutput> FetchOutput(FarmConnection* farm, JobRecord* record, const FetchPlan& plan, const CancelToken& cancel) {
  const PlannedFile& file = *plan.file;
  NSIC_RETURN_IF_ERROR(MakeFolders(FolderOf(file.output)));
  NSIC_ASSIGN_OR_RETURN(const std::string temporary, TemporaryPath(*record, file.output));
  const RemoveAtEnd remove(temporary);
  const bool whole = plan.tasks.size() == 1 && !plan.tasks.front().has_region();
  return whole ? FetchWhole(farm, record, plan, temporary, cancel) : Assemble(farm, record, plan, temporary, cancel);
}

void RemoveLeftovers(const std::vector<PlannedFile>& files, const JobRecord& record) {
  std::error_code error;  // what cannot be removed now stays for the next run
  fs::remove_all(record.report_folder() + "/" + TemporaryName(record), error);
  std::set<std::string> folders;
  for (const PlannedFile& file : files) folders.insert(FolderOf(file.output));
  const std::string prefix = ".nsic-" + TemporaryName(record) + "-";
  for (const std::string& folder : folders) {
    std::vector<fs::path> leftovers;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
      if (entry->path().filename().string().compare(0, prefix.size(), prefix) == 0) leftovers.push_back(entry->path());
    }
    for (const fs::path& leftover : leftovers) fs::remove_all(leftover, error);
  }
}

}  // namespace nsic
