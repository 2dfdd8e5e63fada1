#include "client/run_job.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <sstream>
#include <thread>
#include <utility>

#include "client/assemble_video.h"
#include "client/fetch_output.h"
#include "client/judge_outcomes.h"
#include "client/store_output.h"
#include "client/text.h"
#include "client/upload_sources.h"
#include "client/watch_job.h"
#include "core/base/bounded_queue.h"

namespace nsic {
namespace {

constexpr size_t kFetchThreads = 3;
constexpr size_t kFetchQueue = 256;
constexpr auto kTick = std::chrono::milliseconds(100);
constexpr auto kUploadPassEvery = std::chrono::seconds(2);
constexpr auto kRoomRetryEvery = std::chrono::milliseconds(500);
constexpr int64_t kRoomRetryAnywayUs = 5'000'000;

FinishOptions ToFinishOptions(const v1::RestoreOptions& restore) {
  FinishOptions options;
  options.strength = restore.strength();
  options.sharpen = restore.sharpen();
  options.scale = restore.scale();
  options.size = {restore.width(), restore.height()};
  options.format = restore.format();
  options.jpeg_quality = restore.jpeg_quality();
  return options;
}

// What the files of a job are called.
std::string NounFor(const std::vector<PlannedFile>& files) {
  const auto videos = std::count_if(files.begin(), files.end(), [](const PlannedFile& file) { return file.video.has_value(); });
  return videos == 0 ? "picture" : static_cast<size_t>(videos) == files.size() ? "video" : "file";
}

// What the parts of a file were computed in; a part that was put together from others names several itself.
std::string PrecisionsOf(const std::vector<v1::TaskOutcome>& tasks) {
  std::set<std::string> precisions;
  for (const v1::TaskOutcome& task : tasks) {
    std::istringstream parts(task.result().precision());
    for (std::string part; std::getline(parts >> std::ws, part, ',');) precisions.insert(part);
  }
  std::string text;
  for (const std::string& precision : precisions) text += (text.empty() ? "" : ", ") + precision;
  return text;
}

class JobRun {
 public:
  JobRun(const RunContext& context, const RecordedJob& job, const JobOptions& options)
      : context_(context), job_(job), options_(options), files_(job.files.size()), queue_(kFetchQueue) {}

  Result<JobEnd> Run(const CancelToken& cancel);

 private:
  // All that is known of a file.
  struct FileRun {
    std::map<int64_t, v1::TaskOutcome> tasks;  // the latest outcome of each ended task
    int parts = 0;                             // 0 until a task has ended
    bool fetching = false;                     // queued or under way, or tried; of a video: being joined, or tried
    bool ended = false;                        // every task has ended: its source is not needed
    std::set<int64_t> taken;                   // of a video: the segments that are queued, under way, or tried
    int segments = 0;                          // those that are here
    std::optional<WrittenOutput> written;
    Status fetch_error;
    Status lost;  // why its source cannot be sent
  };
  struct FetchItem {
    size_t file = 0;
    int64_t segment = 0;  // its task; 0: the whole file
  };

  // Finds the videos that were finished in an earlier run: their segments have gone. And those that this client cannot finish.
  Status SortOutVideos(const std::vector<v1::TaskOutcome>& outcomes);
  void Apply(const v1::TaskOutcome& outcome, std::vector<FetchItem>* ready);
  void OnEvent(const v1::JobEvent& event);
  void Watch();
  void Upload();
  bool WaitForRoom(const Status& why);
  void Fetch();
  void FetchSegmentOf(const FetchItem& item);
  void FetchFile(size_t index);
  Result<WrittenOutput> FetchJudged(FetchPlan* plan);
  // Once nothing but files with lost sources is left, the job cannot end by itself.
  bool OnlyLostFilesRemain();
  void ShowProgress();
  void Stop(const Status& why);  // keeps the first reason
  JobEnd Finish();

  const RunContext& context_;
  const RecordedJob& job_;
  const JobOptions& options_;
  CancelToken stop_;  // ends all threads

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<FileRun> files_;
  v1::Job state_;
  bool have_state_ = false;
  bool watch_done_ = false;
  bool upload_pass_done_ = false;
  int64_t pending_fetches_ = 0;
  int64_t fetched_ = 0;   // whatever makes room at the coordinator
  int64_t finished_ = 0;  // files
  int64_t bytes_sent_ = 0;
  std::map<size_t, double> joining_;  // videos that are being put together, and how far that is
  Status connection_;
  Status no_room_;             // why an upload waits; OK while none does
  int64_t idle_since_us_ = 0;  // nothing of this job has moved since, as far as uploads that wait have seen
  Status failure_;

  BoundedQueue<FetchItem> queue_;
};

void JobRun::Stop(const Status& why) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (failure_.ok()) failure_ = why;
  }
  stop_.Cancel();
  queue_.Close();
  changed_.notify_all();
}

Status JobRun::SortOutVideos(const std::vector<v1::TaskOutcome>& outcomes) {
  for (size_t i = 0; i < files_.size(); ++i) {
    const PlannedFile& file = job_.files[i];
    if (!file.video) continue;
    files_[i].fetch_error = CheckSourceIsKnown(file);
    for (const WrittenOutput& written : context_.record->Find(file.output, file.sha256, job_.ParametersOf(file))) {
      if (!HasContent(file.output, written.sha256, written.bytes)) continue;
      std::vector<int64_t> ids;
      for (const v1::TaskOutcome& outcome : outcomes) {
        const bool unfetched = outcome.end() == v1::TASK_END_DONE && !outcome.fetched();
        if (unfetched && outcome.file_index() == static_cast<int>(i)) ids.push_back(outcome.task_id());
      }
      if (!ids.empty()) NSIC_RETURN_IF_ERROR(context_.farm->MarkFetched(job_.job_id, ids, stop_));
      files_[i].written = written;
      ++finished_;
      break;
    }
  }
  return OkStatus();
}

void JobRun::Apply(const v1::TaskOutcome& outcome, std::vector<FetchItem>* ready) {
  if (outcome.file_index() < 0 || static_cast<size_t>(outcome.file_index()) >= files_.size()) return;  // another version's manifest
  const size_t index = static_cast<size_t>(outcome.file_index());
  FileRun& file = files_[index];
  file.parts = std::max(1, outcome.parts());
  file.tasks[outcome.task_id()] = outcome;
  file.ended = static_cast<int>(file.tasks.size()) >= file.parts;
  if (job_.files[index].video) {
    if (outcome.end() == v1::TASK_END_DONE && !file.written && file.fetch_error.ok() && file.taken.insert(outcome.task_id()).second) {
      ++pending_fetches_;
      ready->push_back({index, outcome.task_id()});
    }
    return;
  }
  const bool all_done = file.ended && std::all_of(file.tasks.begin(), file.tasks.end(),
                                                  [](const auto& task) { return task.second.end() == v1::TASK_END_DONE; });
  if (all_done && !file.fetching) {
    file.fetching = true;
    ++pending_fetches_;
    ready->push_back({index});
  }
}

void JobRun::OnEvent(const v1::JobEvent& event) {
  std::vector<FetchItem> ready;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    state_ = event.job();
    have_state_ = true;
    for (const v1::TaskOutcome& outcome : event.outcomes()) Apply(outcome, &ready);
    changed_.notify_all();
  }
  // A full queue holds back the watch: outcomes wait at the coordinator, not here.
  for (const FetchItem& item : ready) queue_.Push(item);
}

void JobRun::Watch() {
  WatchHooks hooks;
  hooks.event = [this](const v1::JobEvent& event) { OnEvent(event); };
  hooks.connection = [this](const Status& why) {
    if (why.ok()) {
      context_.progress->Notice("the coordinator is back");
    } else {
      context_.progress->Notice("the coordinator at " + context_.farm->name() + " went away (" + ForTerminal(why.message()) +
                                "): trying until it is back; Ctrl-C stops the wait");
    }
    std::lock_guard<std::mutex> lock(mutex_);
    connection_ = why;
  };
  const Status status = WatchJob(context_.farm, job_.job_id, 0, hooks, stop_);
  if (!status.ok()) return Stop(status);
  std::lock_guard<std::mutex> lock(mutex_);
  watch_done_ = true;
  changed_.notify_all();
}

bool JobRun::WaitForRoom(const Status& why) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (no_room_.ok()) {
    idle_since_us_ = context_.clock->MonotonicUs();
    lock.unlock();
    context_.progress->Notice("the coordinator has no room (" + ForTerminal(why.message()) + "): waiting until outputs have been fetched");
    lock.lock();
  }
  no_room_ = why;
  const int64_t fetched = fetched_;
  const auto idle = [this] { return state_.tasks_queued() == 0 && state_.tasks_leased() == 0 && pending_fetches_ == 0; };
  const int64_t started = context_.clock->MonotonicUs();
  // Fetching makes room, so it pays to try again after a fetch. While nothing of this job is under way only others can make room: that
  // is waited for too, but not for ever.
  while (!stop_.cancelled()) {
    changed_.wait_for(lock, kRoomRetryEvery);
    const int64_t now = context_.clock->MonotonicUs();
    if (!idle() || fetched_ != fetched) idle_since_us_ = now;
    if (fetched_ != fetched) return true;
    if (now - idle_since_us_ > context_.room_patience_us) return false;
    if (now - started > kRoomRetryAnywayUs) return true;
  }
  return false;
}

void JobRun::Upload() {
  UploadHooks hooks;
  hooks.wanted = [this](size_t index) {
    std::lock_guard<std::mutex> lock(mutex_);
    const FileRun& file = files_[index];
    // A failed task that somebody retries waits for a source that may have been thrown away.
    const bool may_be_retried = upload_pass_done_ && file.ended && !file.fetching && !file.written;
    return (!file.ended || may_be_retried) && file.lost.ok() && !watch_done_;
  };
  hooks.wait_for_room = [this](const Status& why) { return WaitForRoom(why); };
  hooks.lost = [this](size_t index, const Status& why) {
    context_.progress->Notice("failed: " + ForTerminal(job_.files[index].input) + ": " + ForTerminal(why.message()));
    std::lock_guard<std::mutex> lock(mutex_);
    files_[index].lost = why;
  };
  hooks.progress = [this](int64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    bytes_sent_ += bytes;
    no_room_ = OkStatus();
  };
  while (!stop_.cancelled()) {
    const Status status = UploadSources(context_.farm, job_.files, hooks, stop_);
    if (!status.ok()) return Stop(status);
    std::unique_lock<std::mutex> lock(mutex_);
    upload_pass_done_ = true;
    no_room_ = OkStatus();
    changed_.wait_for(lock, kUploadPassEvery, [this] { return watch_done_ || stop_.cancelled(); });
    changed_.wait(lock, [this] { return watch_done_ || stop_.cancelled() || (have_state_ && state_.tasks_waiting() > 0); });
    if (watch_done_) return;
  }
}

bool JobRun::OnlyLostFilesRemain() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!upload_pass_done_ || !have_state_ || watch_done_) return false;
  if (state_.tasks_queued() > 0 || state_.tasks_leased() > 0 || state_.tasks_waiting() == 0 || pending_fetches_ > 0) return false;
  return std::all_of(files_.begin(), files_.end(), [](const FileRun& file) { return file.ended || !file.lost.ok(); });
}

void JobRun::Fetch() {
  while (const std::optional<FetchItem> item = queue_.Pop()) {
    if (stop_.cancelled()) return;
    if (item->segment != 0) {
      FetchSegmentOf(*item);
    } else {
      FetchFile(item->file);
    }
  }
}

void JobRun::FetchSegmentOf(const FetchItem& item) {
  const PlannedFile& file = job_.files[item.file];
  v1::TaskOutcome task;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    task = files_[item.file].tasks.at(item.segment);
  }
  const Status status = FetchSegment(context_.farm, *context_.record, file, task, stop_);
  if (!status.ok() && stop_.cancelled()) return;
  Status marked;
  if (status.ok() && !task.fetched()) marked = context_.farm->MarkFetched(job_.job_id, {item.segment}, stop_);
  bool whole = false;
  bool first_failure = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    FileRun& run = files_[item.file];
    if (status.ok()) {
      ++fetched_;
      whole = ++run.segments == run.parts;
      run.fetching = whole;
    } else {
      first_failure = run.fetch_error.ok();
      run.fetch_error = status;
    }
    if (!whole) --pending_fetches_;  // else what is pending now is to join them
    changed_.notify_all();
  }
  if (first_failure) {
    context_.progress->Notice("failed: " + ForTerminal(file.input.empty() ? file.path : file.input) + ": " + ForTerminal(status.message()));
  }
  if (!marked.ok() && !stop_.cancelled()) return Stop(marked);
  if (whole) FetchFile(item.file);
}

Result<WrittenOutput> JobRun::FetchJudged(FetchPlan* plan) {
  if (options_.restore.auto_model()) {
    NSIC_ASSIGN_OR_RETURN(plan->written.model, ChosenModel(plan->tasks));
  }
  return FetchOutput(context_.farm, context_.record, *plan, stop_);
}

void JobRun::FetchFile(size_t index) {
  const PlannedFile& file = job_.files[index];
  FetchPlan plan;
  plan.file = &file;
  plan.options = ToFinishOptions(options_.restore);
  plan.network_scale = job_.network_scale;
  plan.written.output = file.output;
  plan.written.input_sha256 = file.sha256;
  plan.written.parameters = job_.ParametersOf(file);
  plan.written.model = job_.model;
  std::set<std::string> workers;
  std::vector<int64_t> ids;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [id, task] : files_[index].tasks) {
      plan.tasks.push_back(task);
      plan.written.seconds += task.result().seconds();
      workers.insert(task.worker());
      if (!task.fetched() && !file.video) ids.push_back(id);
    }
  }
  plan.tolerate = options_.restore.tolerate();
  plan.progress = [this, index](double share) {
    std::lock_guard<std::mutex> lock(mutex_);
    joining_[index] = share;
  };
  for (const std::string& worker : workers) plan.written.worker += (plan.written.worker.empty() ? "" : ", ") + worker;
  plan.written.precision = PrecisionsOf(plan.tasks);
  plan.written.judgement = CombineJudgements(plan.tasks);

  Result<WrittenOutput> written = FetchJudged(&plan);
  if (!written.ok() && stop_.cancelled()) return;
  Status marked;
  if (written.ok() && !ids.empty()) marked = context_.farm->MarkFetched(job_.job_id, ids, stop_);
  if (!written.ok()) {
    context_.progress->Notice("failed: " + ForTerminal(file.input.empty() ? file.path : file.input) + ": " +
                              ForTerminal(written.status().message()));
  }
  if (written.ok() && written->video) {
    for (const std::string& note : written->video->notes) context_.progress->Notice(ForTerminal(file.input) + ": " + ForTerminal(note));
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (written.ok()) {
      files_[index].written = *std::move(written);
      ++fetched_;
      ++finished_;
    } else {
      files_[index].fetch_error = written.status();
    }
    joining_.erase(index);
    --pending_fetches_;
    changed_.notify_all();
  }
  // The output is safe; a coordinator that will not hear of it is another matter, and the end of the run.
  if (!marked.ok() && !stop_.cancelled()) Stop(marked);
}

void JobRun::ShowProgress() {
  ProgressState shown;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!have_state_ && connection_.ok()) return;  // what an earlier run did would look like speed
    shown.activity = "restoring";
    shown.noun = NounFor(job_.files);
    shown.files = static_cast<int64_t>(files_.size());
    shown.files_done = finished_;
    for (size_t i = 0; i < files_.size(); ++i) {
      const FileRun& file = files_[i];
      if (job_.files[i].video) {
        shown.frames_total += job_.files[i].video->message.range().count();
        for (const auto& [id, task] : file.tasks) shown.frames_done += task.end() == v1::TASK_END_DONE ? task.frames().count() : 0;
      }
      const bool failed =
          !file.lost.ok() || !file.fetch_error.ok() ||
          std::any_of(file.tasks.begin(), file.tasks.end(), [](const auto& task) { return task.second.end() == v1::TASK_END_FAILED; });
      if (failed) ++shown.files_failed;
    }
    shown.units_total = static_cast<double>(state_.pixels_total()) * 1e-6;
    shown.units_done = static_cast<double>(state_.pixels_done()) * 1e-6;
    shown.unit = "MP";
    if (!connection_.ok()) {
      shown.remark = "waiting for the coordinator";
    } else if (state_.tasks_leased() == 0 && !state_.waiting_reason().empty()) {
      shown.remark = state_.waiting_reason();
    } else if (!no_room_.ok()) {
      shown.remark = "waiting for room at the coordinator";
    } else if (!joining_.empty() && state_.tasks_queued() + state_.tasks_leased() + state_.tasks_waiting() == 0) {
      const auto& [index, share] = *joining_.begin();
      shown.remark = "putting " + std::filesystem::path(job_.files[index].output).filename().string() + " together (" +
                     std::to_string(static_cast<int>(share * 100)) + "%)";
    }
  }
  context_.progress->Update(shown);
}

JobEnd JobRun::Finish() {
  JobEnd end;
  end.state = state_.state();
  for (size_t i = 0; i < files_.size(); ++i) {
    const PlannedFile& planned = job_.files[i];
    const FileRun& file = files_[i];
    ReportFile report;
    report.input = planned.input.empty() ? planned.path : planned.input;
    if (!job_.auto_model) report.model = job_.model;
    report.input_size = planned.size;
    report.input_bytes = planned.bytes;
    std::set<std::string> workers;
    const v1::TaskOutcome* failed = nullptr;
    for (const auto& [id, task] : file.tasks) {
      report.seconds += task.result().seconds();
      if (!task.worker().empty()) workers.insert(task.worker());
      if (task.end() == v1::TASK_END_FAILED && failed == nullptr) failed = &task;
    }
    for (const std::string& worker : workers) report.worker += (report.worker.empty() ? "" : ", ") + worker;
    if (file.written) {
      report.state = FileState::kDone;
      report.output = file.written->output;
      report.output_size = file.written->size;
      report.output_bytes = file.written->bytes;
      report.video = file.written->video;
      report.model = file.written->model;
      report.judgement = file.written->judgement;
      report.precision = file.written->precision;
    } else if (failed != nullptr) {
      report.state = FileState::kFailed;
      report.error = failed->error();
    } else if (!file.lost.ok()) {
      report.state = FileState::kFailed;
      report.error = file.lost.message();
    } else if (!file.fetch_error.ok()) {
      report.state = FileState::kFailed;
      report.error = file.fetch_error.message();
      if (file.fetch_error.code() != StatusCode::kNotFound) ++end.unfetched;
    } else {
      report.state = FileState::kCancelled;
    }
    end.files.push_back(std::move(report));
  }
  return end;
}

Result<JobEnd> JobRun::Run(const CancelToken& cancel) {
  const CancelCallback on_cancel(cancel, [this] {
    stop_.Cancel();
    queue_.Close();
  });
  // What has ended already needs no source.
  NSIC_ASSIGN_OR_RETURN(const std::vector<v1::TaskOutcome> outcomes, context_.farm->ListOutputs(job_.job_id, 0, stop_));
  NSIC_RETURN_IF_ERROR(SortOutVideos(outcomes));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kFetchThreads; ++i) threads.emplace_back([this] { Fetch(); });
  std::vector<FetchItem> ready;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const v1::TaskOutcome& outcome : outcomes) Apply(outcome, &ready);
    watch_done_ = !options_.wait;
  }
  for (const FetchItem& item : ready) queue_.Push(item);
  if (options_.wait) threads.emplace_back([this] { Watch(); });
  if (options_.wait && options_.upload) threads.emplace_back([this] { Upload(); });

  bool given_up = false;
  while (!stop_.WaitFor(kTick)) {
    const Status health = context_.health ? context_.health() : OkStatus();
    if (!health.ok()) {
      Stop(health);
      break;
    }
    if (options_.wait) ShowProgress();
    if (!given_up && OnlyLostFilesRemain()) {
      given_up = true;
      const Result<v1::Job> cancelled = context_.farm->ChangeJob(&v1::Jobs::Stub::Cancel, job_.job_id, stop_);
      if (!cancelled.ok() && !stop_.cancelled()) Stop(cancelled.status());
    }
    std::lock_guard<std::mutex> lock(mutex_);
    if (watch_done_ && pending_fetches_ == 0) break;
  }
  queue_.Close();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    changed_.notify_all();
  }
  for (std::thread& thread : threads) thread.join();
  context_.progress->Clear();
  NSIC_RETURN_IF_ERROR(cancel.Check());
  NSIC_RETURN_IF_ERROR(failure_);
  return Finish();
}

}  // namespace

Result<JobEnd> RunJob(const RunContext& context, const RecordedJob& job, const JobOptions& options, const CancelToken& cancel) {
  const auto is_video = [](const PlannedFile& file) { return file.video.has_value(); };
  RemoveLeftovers(job.files, *context.record, is_video);
  Result<JobEnd> end = JobRun(context, job, options).Run(cancel);
  // Segments stay as long as this or another run can finish their videos with them.
  const bool goes_on = !end.ok() || !options.wait || end->unfetched > 0;
  RemoveLeftovers(job.files, *context.record, [&](const PlannedFile& file) { return goes_on && is_video(file); });
  return end;
}

Result<int64_t> SendSources(const RunContext& context, const RecordedJob& job, const CancelToken& cancel) {
  std::atomic<int64_t> without_room{0};
  std::atomic<bool> full{false};
  std::mutex mutex;
  ProgressState shown;
  shown.activity = "uploading";
  shown.noun = NounFor(job.files);
  shown.files = static_cast<int64_t>(job.files.size());
  shown.unit = "MiB";
  for (const PlannedFile& file : job.files) shown.units_total += static_cast<double>(file.bytes) / (1 << 20);
  UploadHooks hooks;
  hooks.wanted = [&](size_t) {
    // Once the store is full the rest is not even tried: nobody fetches, so nothing makes room.
    if (full) ++without_room;
    return !full;
  };
  hooks.wait_for_room = [](const Status&) { return false; };
  hooks.lost = [&](size_t index, const Status& why) {
    if (why.code() == StatusCode::kResourceExhausted) {
      full = true;
      ++without_room;
    } else {
      context.progress->Notice("failed: " + ForTerminal(job.files[index].input) + ": " + ForTerminal(why.message()));
    }
  };
  hooks.progress = [&](int64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    shown.units_done += static_cast<double>(bytes) / (1 << 20);
    context.progress->Update(shown);
  };
  const Status status = UploadSources(context.farm, job.files, hooks, cancel);
  context.progress->Clear();
  NSIC_RETURN_IF_ERROR(status);
  return without_room.load();
}

}  // namespace nsic
