#include "client/fetch_output.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "client/assemble_video.h"
#include "client/store_output.h"
#include "core/base/digest.h"
#include "core/base/files.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;

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
  if (file.video) return AssembleVideo(farm, record, plan, cancel);
  NSIC_ASSIGN_OR_RETURN(const std::string temporary, TemporaryPath(*record, file.output));
  const RemoveAtEnd remove(temporary);
  const bool whole = plan.tasks.size() == 1 && !plan.tasks.front().has_region();
  return whole ? FetchWhole(farm, record, plan, temporary, cancel) : Assemble(farm, record, plan, temporary, cancel);
}

}  // namespace nsic
