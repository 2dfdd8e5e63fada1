#include "client/run_job.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "client/fetch_output.h"
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
    bool fetching = false;                     // queued or under way, or tried
    bool ended = false;                        // every task has ended: its source is not needed
    std::optional<WrittenOutput> written;
    Status fetch_error;
    Status lost;  // why its source cannot be sent
  };

  void Apply(const v1::TaskOutcome& outcome, std::vector<size_t>* ready);
  void OnEvent(const v1::JobEvent& event);
  void Watch();
  void Upload();
  bool WaitForRoom(const Status& why);
  void Fetch();
  void FetchFile(size_t index);
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
  int64_t fetched_ = 0;
  int64_t bytes_sent_ = 0;
  Status connection_;
  Status no_room_;             // why an upload waits; OK while none does
  int64_t idle_since_us_ = 0;  // nothing of this job has moved since, as far as uploads that wait have seen
  Status failure_;

  BoundedQueue<size_t> queue_;  // indexes of files to fetch
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

void JobRun::Apply(const v1::TaskOutcome& outcome, std::vector<size_t>* ready) {
  if (outcome.file_index() < 0 || static_cast<size_t>(outcome.file_index()) >= files_.size()) return;  // another version's manifest
  const size_t index = static_cast<size_t>(outcome.file_index());
  FileRun& file = files_[index];
  file.parts = std::max(1, outcome.parts());
  file.tasks[outcome.task_id()] = outcome;
  file.ended = static_cast<int>(file.tasks.size()) >= file.parts;
  const bool all_done = file.ended && std::all_of(file.tasks.begin(), file.tasks.end(),
                                                  [](const auto& task) { return task.second.end() == v1::TASK_END_DONE; });
  if (all_done && !file.fetching) {
    file.fetching = true;
    ++pending_fetches_;
    ready->push_back(index);
  }
}

void JobRun::OnEvent(const v1::JobEvent& event) {
  std::vector<size_t> ready;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    state_ = event.job();
    have_state_ = true;
    for (const v1::TaskOutcome& outcome : event.outcomes()) Apply(outcome, &ready);
    changed_.notify_all();
  }
  // A full queue holds back the watch: outcomes wait at the coordinator, not here.
  for (const size_t index : ready) queue_.Push(index);
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
    const bool may_be_retried = upload_pass_done_ && file.ended && !file.fetching;
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
  while (const std::optional<size_t> index = queue_.Pop()) {
    if (stop_.cancelled()) return;
    FetchFile(*index);
  }
}

void JobRun::FetchFile(size_t index) {
  const PlannedFile& file = job_.files[index];
  FetchPlan plan;
  plan.file = &file;
  plan.options = ToFinishOptions(options_.restore);
  plan.network_scale = job_.network_scale;
  plan.written.output = file.output;
  plan.written.input_sha256 = file.sha256;
  plan.written.parameters = job_.parameters;
  plan.written.model = job_.model;
  std::set<std::string> workers;
  std::vector<int64_t> ids;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [id, task] : files_[index].tasks) {
      plan.tasks.push_back(task);
      plan.written.seconds += task.result().seconds();
      workers.insert(task.worker());
      if (!task.fetched()) ids.push_back(id);
    }
  }
  for (const std::string& worker : workers) plan.written.worker += (plan.written.worker.empty() ? "" : ", ") + worker;

  Result<WrittenOutput> written = FetchOutput(context_.farm, context_.record, plan, stop_);
  if (!written.ok() && stop_.cancelled()) return;
  Status marked;
  if (written.ok() && !ids.empty()) marked = context_.farm->MarkFetched(job_.job_id, ids, stop_);
  if (!written.ok()) {
    context_.progress->Notice("failed: " + ForTerminal(file.input.empty() ? file.path : file.input) + ": " +
                              ForTerminal(written.status().message()));
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (written.ok()) {
      files_[index].written = *std::move(written);
      ++fetched_;
    } else {
      files_[index].fetch_error = written.status();
    }
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
    shown.activity = "restoring";
    shown.files = static_cast<int64_t>(files_.size());
    shown.files_done = fetched_;
    for (const FileRun& file : files_) {
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
    report.model = job_.model;
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
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kFetchThreads; ++i) threads.emplace_back([this] { Fetch(); });
  std::vector<size_t> ready;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const v1::TaskOutcome& outcome : outcomes) Apply(outcome, &ready);
    watch_done_ = !options_.wait;
  }
  for (const size_t index : ready) queue_.Push(index);
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
  RemoveLeftovers(job.files, *context.record);
  Result<JobEnd> end = JobRun(context, job, options).Run(cancel);
  RemoveLeftovers(job.files, *context.record);
  return end;
}

Result<int64_t> SendSources(const RunContext& context, const RecordedJob& job, const CancelToken& cancel) {
  std::atomic<int64_t> without_room{0};
  std::atomic<bool> full{false};
  std::mutex mutex;
  ProgressState shown;
  shown.activity = "uploading";
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
