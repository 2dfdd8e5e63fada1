#include "client/plan_video.h"

#include <algorithm>
#include <filesystem>
#include <mutex>
#include <utility>

#include "client/probe_inputs.h"
#include "client/text.h"
#include "core/rpc/video_messages.h"

namespace nsic {
namespace {

std::string Sentence(const std::vector<ContainerFault>& faults) {
  std::string text;
  for (const ContainerFault& fault : faults) text += (text.empty() ? "" : "; ") + fault.what;
  return text;
}

// How players turn the restored video can be left out; the video itself cannot.
bool HoldsVideo(const VideoProbe& probe, const EncodePlan& plan) {
  VideoProbe straight = probe;
  straight.turned = false;
  const std::vector<ContainerFault> faults = ContainerFaults(straight, plan);
  return std::none_of(faults.begin(), faults.end(), [&](const ContainerFault& fault) { return fault.stream == probe.info.stream_index; });
}

// The cure for what a container cannot hold.
std::string Cure(const VideoProbe& probe, const EncodePlan& plan) {
  std::string cure;
  for (const char* container : {"mkv", "mp4"}) {
    EncodePlan other = plan;
    other.container = container;
    if (cure.empty() && ContainerFaults(probe, other).empty()) cure = std::string("store all of it with --container ") + container;
  }
  if (HoldsVideo(probe, plan)) {
    cure += std::string(cure.empty() ? "" : ", or ") + "leave out what does not fit with --drop-streams";
  }
  return cure.empty() ? "choose another --codec or --container" : cure;
}

}  // namespace

Result<VideoPlan> PlanVideo(const std::string& path, const VideoProbe& probe, const VideoOptions& options, int network_scale) {
  VideoPlan plan;
  plan.info = probe.info;
  plan.info.deinterlace = options.deinterlace && IsInterlaced(probe.info);
  Result<EncodePlan> encode = PlanEncode(probe, options.encode, network_scale);
  if (!encode.ok()) return encode.status().WithContext(path);
  plan.encode = *std::move(encode);
  const std::string name = std::filesystem::path(path).filename().string();
  const bool keep = options.encode.container == "keep";
  if (keep && plan.encode.container == "mkv" && probe.container != "mkv") {
    plan.notice = name + ": the output is MKV, because its container (" + probe.container + ") is not written";
  }
  std::vector<ContainerFault> faults = ContainerFaults(probe, plan.encode);
  const bool may_drop = options.drop_streams && HoldsVideo(probe, plan.encode);
  if (keep && !faults.empty() && !may_drop && plan.encode.container != "mkv") {
    EncodePlan mkv = plan.encode;
    mkv.container = "mkv";
    if (ContainerFaults(probe, mkv).empty()) {
      plan.notice = name + ": the output is MKV, because " + Sentence(faults);
      plan.encode = std::move(mkv);
      faults.clear();
    }
  }
  if (faults.empty()) return plan;
  if (!may_drop) {
    return FailedPreconditionError(path + ": " + Sentence(faults) + ": " + Cure(probe, plan.encode));
  }
  for (const ContainerFault& fault : faults) {
    if (fault.stream >= 0) plan.dropped_streams.push_back(fault.stream);
  }
  plan.notice += (plan.notice.empty() ? name + ": " : "; ") + std::string("left out: ") + Sentence(faults);
  return plan;
}

Result<std::vector<Result<VideoIndex>>> IndexVideos(const std::vector<IndexJob>& jobs, bool tolerate, const CancelToken& cancel,
                                                    const std::function<void(double share, size_t videos)>& progress) {
  std::mutex mutex;
  std::vector<double> done(jobs.size());
  size_t whole = 0;
  double total = 0;
  for (const IndexJob& job : jobs) total += static_cast<double>(job.bytes);
  std::vector<Result<VideoIndex>> indexes(jobs.size(), CancelledError("cancelled"));
  NSIC_RETURN_IF_ERROR(ForEachInParallel(jobs.size(), cancel, [&](size_t i) {
    const auto report = [&](double share) {
      std::lock_guard<std::mutex> lock(mutex);
      done[i] = share * static_cast<double>(jobs[i].bytes);
      double sum = 0;
      for (const double bytes : done) sum += bytes;
      progress(total > 0 ? sum / total : 1, whole);
    };
    indexes[i] = IndexVideo(jobs[i].path, jobs[i].info, tolerate, cancel, report);
    {
      std::lock_guard<std::mutex> lock(mutex);
      ++whole;
    }
    report(1);
  }));
  return indexes;
}

std::string IndexBlob(const VideoIndex& index) {
  v1::VideoIndex message;
  ToMessage(index, &message);
  return message.SerializeAsString();
}

Result<v1::FrameRange> ChooseRange(const std::string& path, const VideoIndex& index, const std::optional<FrameNumbers>& frames) {
  const int count = static_cast<int>(index.pts.size());
  v1::FrameRange range;
  range.set_count(count);
  if (!frames) return range;
  if (frames->last > count) {
    return InvalidArgumentError(path + " has " + Count(count, "frame") + ": --frames " + std::to_string(frames->first) + "-" +
                                std::to_string(frames->last) + " goes beyond the last");
  }
  range.set_first(frames->first - 1);
  range.set_count(frames->last - frames->first + 1);
  return range;
}

std::vector<int> SpreadFrames(const v1::FrameRange& range, int count) {
  std::vector<int> frames;
  const int64_t taken = std::min(count, range.count());
  for (int64_t i = 0; i < taken; ++i) frames.push_back(static_cast<int>(range.first() + (2 * i + 1) * range.count() / (2 * taken)));
  return frames;
}

}  // namespace nsic
