#include "client/assemble_video.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "client/extract_frames.h"
#include "client/plan_video.h"
#include "client/store_output.h"
#include "core/base/digest.h"
#include "core/base/files.h"
#include "core/media/index_video.h"
#include "core/media/join_video.h"
#include "core/media/plan_encode.h"
#include "core/rpc/video_messages.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;

constexpr size_t kNamedConcealed = 20;  // more are counted

std::string SegmentPath(const std::string& temporary, const v1::TaskOutcome& task) {
  return temporary + "/" + task.result().output().sha256();
}

// Tells whether a file is still the same one, at no cost.
struct FileStamp {
  explicit FileStamp(const std::string& path) { good = ::stat(path.c_str(), &info) == 0; }
  bool SameAs(const FileStamp& other) const {
    return good && other.good && info.st_ino == other.info.st_ino && info.st_dev == other.info.st_dev &&
           info.st_size == other.info.st_size && info.st_mtim.tv_sec == other.info.st_mtim.tv_sec &&
           info.st_mtim.tv_nsec == other.info.st_mtim.tv_nsec;
  }
  struct stat info {};
  bool good = false;
};

Status Changed(const PlannedFile& file) {
  return DataLossError(file.input +
                       " has changed since it was submitted, and its sound would not fit the restored frames: submit it again");
}

// The coordinator keeps the index as long as the job; without it the source tells once more.
Result<VideoIndex> GetIndex(FarmConnection* farm, const PlannedFile& file, const VideoInfo& info, bool tolerate,
                            const CancelToken& cancel) {
  const v1::BlobRef& blob = file.video->message.index();
  const Result<std::string> bytes = farm->patient_blobs().DownloadBytes(blob.sha256(), blob.size(), cancel);
  if (bytes.status().code() == StatusCode::kNotFound) {
    NSIC_ASSIGN_OR_RETURN(VideoIndex index, IndexVideo(file.input, info, tolerate, cancel, [](double) {}));
    if (Sha256Hex(IndexBlob(index)) == blob.sha256()) return index;
    return DataLossError("the frames of " + file.input + " are counted otherwise by this version of nsic-client: submit it again");
  }
  NSIC_RETURN_IF_ERROR(bytes.status());
  v1::VideoIndex message;
  if (!message.ParseFromString(*bytes)) return DataLossError("the coordinator's index of " + file.input + " cannot be read");
  Result<VideoIndex> index = FromMessage(message);
  if (!index.ok()) return DataLossError("the coordinator's index of " + file.input + " " + index.status().message());
  return index;
}

// The job's segments in order; they must hold the range frame by frame.
Result<std::vector<const v1::TaskOutcome*>> InOrder(const FetchPlan& plan, const v1::FrameRange& range) {
  std::vector<const v1::TaskOutcome*> tasks;
  for (const v1::TaskOutcome& task : plan.tasks) tasks.push_back(&task);
  std::sort(tasks.begin(), tasks.end(),
            [](const v1::TaskOutcome* a, const v1::TaskOutcome* b) { return a->frames().first() < b->frames().first(); });
  int next = range.first();
  for (const v1::TaskOutcome* task : tasks) {
    if (!task->has_frames() || task->frames().first() != next || task->frames().count() < 1) break;
    next += task->frames().count();
  }
  if (next != range.first() + range.count()) {
    return DataLossError("the coordinator's segments of " + plan.file->input + " end at frame " + std::to_string(next) + " of " +
                         std::to_string(range.first() + range.count()));
  }
  return tasks;
}

std::string CodecOf(const std::string& encoder) {
  if (encoder == "libx264") return "h264";
  if (encoder == "libx265") return "hevc";
  if (encoder == "libsvtav1") return "av1";
  return encoder;
}

std::string Describe(const StreamFacts& stream) {
  std::string text = stream.kind + " " + std::to_string(stream.index) + " (" + stream.codec;
  for (const std::string* part : {&stream.language, &stream.title}) text += part->empty() ? "" : ", " + *part;
  return text + ")";
}

// What the report says of the video.
ReportVideo Facts(const FetchPlan& plan, const VideoMessage& video, const VideoIndex& index, const std::vector<int64_t>& pts,
                  const VideoProbe& source) {
  ReportVideo facts;
  facts.frames = static_cast<int64_t>(pts.size());
  facts.duration = static_cast<double>(pts.back() - pts.front()) * video.info.time_base.value() + 1 / video.info.frame_rate.value();
  facts.frames_per_second = pts.size() > 1 ? static_cast<double>(pts.size()) / facts.duration : video.info.frame_rate.value();
  facts.input_codec = video.info.codec;
  facts.output_codec = CodecOf(video.plan.encoder);
  const std::vector<int>& dropped = plan.file->video->dropped_streams;
  const auto is_dropped = [&dropped](int stream) { return std::find(dropped.begin(), dropped.end(), stream) != dropped.end(); };
  if (is_dropped(video.info.stream_index)) facts.left_out.push_back("that players turn it");
  for (const StreamFacts& stream : source.streams) {
    if (stream.index == video.info.stream_index || IsCarriedOtherwise(stream)) continue;
    (is_dropped(stream.index) ? facts.left_out : facts.carried).push_back(Describe(stream));
  }
  std::set<int> concealed;
  for (const v1::TaskOutcome& task : plan.tasks) {
    facts.frames_repeated += task.result().frames_repeated();
    concealed.insert(task.result().frames_concealed().begin(), task.result().frames_concealed().end());
  }
  facts.frames_concealed = static_cast<int64_t>(concealed.size());
  for (const int frame : concealed) {
    if (facts.concealed_at.size() == kNamedConcealed || frame < 0 || static_cast<size_t>(frame) >= index.pts.size()) break;
    facts.concealed_at.push_back(static_cast<double>(index.pts[static_cast<size_t>(frame)] - index.pts.front()) *
                                 video.info.time_base.value());
  }
  return facts;
}

// The frame that the report shows: near the middle, and where a segment begins if it is not the very first, since neither side has far to
// go from a key frame to that one.
int FrameToShow(const v1::FrameRange& range, const std::vector<const v1::TaskOutcome*>& tasks) {
  const int middle = range.first() + range.count() / 2;
  for (const v1::TaskOutcome* task : tasks) {
    const v1::FrameRange& frames = task->frames();
    if (frames.first() > range.first() && frames.first() <= middle && middle < frames.first() + frames.count()) return frames.first();
  }
  return middle;
}

// Pictures of one frame for the report, from the source and from its segment: large ones for the page's slider. A report
// without them is worse, a job that fails for them would be worse still; what cannot be made stays empty.
void MakeReportFrames(const JobRecord& record, const FetchPlan& plan, const VideoMessage& video, const VideoIndex& index,
                      const std::vector<const v1::TaskOutcome*>& tasks, const std::vector<std::string>& segments, const CancelToken& cancel,
                      ReportVideo* facts) {
  const int shown = FrameToShow(plan.file->video->message.range(), tasks);
  const std::string folder = record.report_folder() + "/frames";
  if (!MakeFolders(folder).ok()) return;
  const std::string base = folder + "/" + Sha256Hex(plan.file->output).substr(0, 16);
  const auto at = [&base](const char* end) { return [path = base + end](int) { return path; }; };
  if (ExtractFrames(plan.file->input, video.info, index, {shown}, plan.tolerate, at("-before.png"), cancel).ok()) {
    facts->before_frame = base + "-before.png";
  }
  for (size_t i = 0; i < tasks.size(); ++i) {
    const v1::FrameRange& frames = tasks[i]->frames();
    if (shown < frames.first() || shown >= frames.first() + frames.count()) continue;
    Result<VideoProbe> segment = ProbeVideo(segments[i]);
    if (!segment.ok()) return;
    segment->info.colour = video.info.colour;  // which a segment's file does not tell with every codec
    const Result<VideoIndex> of_segment = IndexVideo(segments[i], segment->info, false, cancel, [](double) {});
    if (!of_segment.ok()) return;
    const std::vector<int> wanted = {shown - frames.first()};
    if (ExtractFrames(segments[i], segment->info, *of_segment, wanted, false, at("-after.png"), cancel).ok()) {
      facts->after_frame = base + "-after.png";
    }
  }
}

}  // namespace

Status CheckSourceIsKnown(const PlannedFile& file) {
  if (!file.input.empty()) return OkStatus();
  return FailedPreconditionError("its sound and everything else that is not restored are in the original: fetch it where it was submitted");
}

Status FetchSegment(FarmConnection* farm, const JobRecord& record, const PlannedFile& file, const v1::TaskOutcome& task,
                    const CancelToken& cancel) {
  NSIC_ASSIGN_OR_RETURN(const std::string temporary, TemporaryPath(record, file.output));
  NSIC_RETURN_IF_ERROR(MakeFolders(temporary));
  const v1::BlobRef& blob = task.result().output();
  if (!IsSha256Hex(blob.sha256())) return DataLossError("the coordinator names a segment '" + blob.sha256() + "'");
  const std::string path = SegmentPath(temporary, task);
  if (HasContent(path, blob.sha256(), blob.size())) return OkStatus();
  return Download(farm, blob, path, cancel);
}

Result<WrittenOutput> AssembleVideo(FarmConnection* farm, JobRecord* record, const FetchPlan& plan, const CancelToken& cancel) {
  const PlannedFile& file = *plan.file;
  NSIC_RETURN_IF_ERROR(CheckSourceIsKnown(file));
  const FileStamp before(file.input);
  NSIC_ASSIGN_OR_RETURN(const std::string source_hash, Sha256OfFile(file.input));
  if (source_hash != file.sha256) return Changed(file);
  const Result<VideoMessage> video = FromMessage(file.video->message);
  if (!video.ok()) return DataLossError(file.input + " " + video.status().message());
  NSIC_ASSIGN_OR_RETURN(const VideoProbe source, ProbeVideo(file.input));
  NSIC_ASSIGN_OR_RETURN(const VideoIndex index, GetIndex(farm, file, video->info, plan.tolerate, cancel));
  const v1::FrameRange& range = file.video->message.range();
  if (range.first() < 0 || range.count() < 1 ||
      static_cast<size_t>(range.first()) + static_cast<size_t>(range.count()) > index.pts.size()) {
    return DataLossError("the index of " + file.input + " has not the frames that the job restores");
  }
  NSIC_ASSIGN_OR_RETURN(const std::vector<const v1::TaskOutcome*> tasks, InOrder(plan, range));
  NSIC_ASSIGN_OR_RETURN(const std::string temporary, TemporaryPath(*record, file.output));

  JoinPlan join;
  join.source_path = file.input;
  join.info = video->info;
  join.encode = video->plan;
  join.pts.assign(index.pts.begin() + range.first(), index.pts.begin() + range.first() + range.count());
  join.excerpt = join.pts.size() != index.pts.size();
  join.dropped_streams = file.video->dropped_streams;
  for (const v1::TaskOutcome* task : tasks) {
    join.segments.push_back(SegmentPath(temporary, *task));
    join.segment_frames.push_back(task->frames().count());
  }
  const std::string joined = temporary + "/joined";
  NSIC_ASSIGN_OR_RETURN(const JoinedVideo result, JoinVideo(join, joined, cancel, plan.progress));
  WrittenOutput written = plan.written;
  written.bytes = result.bytes;
  written.size = result.size;
  written.video = Facts(plan, *video, index, join.pts, source);
  written.video->notes = result.notes;
  MakeReportFrames(*record, plan, *video, index, tasks, join.segments, cancel, &*written.video);
  NSIC_ASSIGN_OR_RETURN(written.sha256, Sha256OfFile(joined));
  NSIC_RETURN_IF_ERROR(cancel.Check());
  if (!before.SameAs(FileStamp(file.input))) return Changed(file);
  NSIC_RETURN_IF_ERROR(Publish(record, written, joined));
  const RemoveAtEnd segments(temporary);
  return written;
}

}  // namespace nsic
