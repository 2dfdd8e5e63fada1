#include "client/probe_inputs.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <thread>

#include "core/base/digest.h"

namespace nsic {
namespace {

void SetAside(ProbedFile* probed, ProbeState state, std::string reason) {
  probed->state = state;
  probed->reason = std::move(reason);
}

void ProbeAsVideo(ProbedFile* probed) {
  Result<VideoProbe> video = ProbeVideo(probed->file.path);
  if (!video.ok()) return SetAside(probed, ProbeState::kFailed, video.status().message());
  struct stat info {};
  if (::stat(probed->file.path.c_str(), &info) == 0) probed->bytes = info.st_size;
  probed->state = ProbeState::kVideo;
  probed->video = *std::move(video);
}

void Probe(ProbedFile* probed) {
  const std::string& path = probed->file.path;
  // A name that promises a picture or a video is held to it; any other file is one only if its content says so.
  if (!IsPictureName(path)) {
    const Result<FileKind> kind = SniffFile(path);
    if (!kind.ok()) return SetAside(probed, ProbeState::kFailed, kind.status().message());
    const bool named_video = IsVideoName(path);
    if (named_video && *kind == FileKind::kPicture) {
      return SetAside(probed, ProbeState::kFailed, path + " is a picture, though it is named like a video: rename it");
    }
    if (*kind == FileKind::kVideo && IsAudioName(path)) return SetAside(probed, ProbeState::kSkipped, "sound without pictures");
    if (*kind == FileKind::kVideo || named_video) return ProbeAsVideo(probed);
    if (*kind == FileKind::kOther) return SetAside(probed, ProbeState::kSkipped, "neither a picture nor a video");
  }
  Result<PictureInfo> info = ProbePicture(path);
  if (!info.ok()) return SetAside(probed, ProbeState::kFailed, info.status().message());
  probed->info = *info;
}

}  // namespace

Status ForEachInParallel(size_t count, const CancelToken& cancel, const std::function<void(size_t)>& work) {
  std::atomic<size_t> next{0};
  const auto run = [&] {
    for (size_t i = next.fetch_add(1); i < count && !cancel.cancelled(); i = next.fetch_add(1)) work(i);
  };
  const size_t threads = std::min<size_t>(count, std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::thread> others;
  for (size_t i = 1; i < threads; ++i) others.emplace_back(run);
  run();
  for (std::thread& thread : others) thread.join();
  return cancel.Check();
}

Result<std::vector<ProbedFile>> ProbeFiles(const std::vector<FoundFile>& files, const CancelToken& cancel,
                                           const std::function<void(size_t done)>& progress) {
  std::vector<ProbedFile> probed(files.size());
  for (size_t i = 0; i < files.size(); ++i) probed[i].file = files[i];
  std::atomic<size_t> done{0};
  NSIC_RETURN_IF_ERROR(ForEachInParallel(files.size(), cancel, [&](size_t i) {
    Probe(&probed[i]);
    progress(done.fetch_add(1) + 1);
  }));
  return probed;
}

Status HashFiles(std::vector<ProbedFile>* files, const CancelToken& cancel, const std::function<void(int64_t bytes)>& progress) {
  return ForEachInParallel(files->size(), cancel, [&](size_t i) {
    ProbedFile& file = (*files)[i];
    if (file.state != ProbeState::kPicture && file.state != ProbeState::kVideo) return;
    struct stat info {};
    if (::stat(file.file.path.c_str(), &info) != 0) {
      return SetAside(&file, ProbeState::kFailed, ErrnoError(errno, "cannot read " + file.file.path).message());
    }
    Result<std::string> sha256 = Sha256OfFile(file.file.path);
    if (!sha256.ok()) return SetAside(&file, ProbeState::kFailed, sha256.status().message());
    file.sha256 = *std::move(sha256);
    file.bytes = info.st_size;
    progress(info.st_size);
  });
}

}  // namespace nsic
