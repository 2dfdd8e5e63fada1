#include "worker/work_loop.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "core/base/digest.h"
#include "core/rpc/channel.h"
#include "worker/measure_frames.h"
#include "worker/run_picture_task.h"
#include "worker/run_segment_task.h"

namespace nsic {
namespace {

constexpr int kMostTasksALease = 64;
constexpr int64_t kMostCacheBytes = int64_t{4} << 30;
constexpr std::chrono::milliseconds kPauseAfterError{2000};

// A quarter of what is free, so that the cache does not fill a small disk.
int64_t CacheLimit(const std::string& folder) {
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(folder, error);
  if (error) return kMostCacheBytes;
  return std::min<int64_t>(kMostCacheBytes, static_cast<int64_t>(space.available / 4));
}

// What the coordinator answers to a result that came too late: the task was cancelled, or is gone.
bool IsNoLongerWanted(const Status& status) {
  return status.code() == StatusCode::kCancelled || status.code() == StatusCode::kAborted || status.code() == StatusCode::kNotFound;
}

v1::RegisterRequest Registration(const WorkerOptions& options) {
  v1::RegisterRequest request;
  request.set_name(options.name);
  request.set_protocol(kProtocolVersion);
  request.set_version(options.version);
  request.set_device(options.device);
  request.set_device_name(options.device_name);
  request.set_cores(options.cores);
  request.set_memory_bytes(options.memory_bytes);
  for (const auto& [id, folder] : options.media_roots) request.add_media_roots(id);
  return request;
}

std::unique_ptr<Task> MakeTask(v1::LeasedTask lease, const TaskTools* tools) {
  if (lease.has_segment()) return std::make_unique<SegmentTask>(std::move(lease), tools);
  return std::make_unique<PictureTask>(std::move(lease), tools);
}

}  // namespace

MemoryShares ShareMemory(int64_t max_memory) {
  constexpr int64_t kProgram = int64_t{320} << 20;  // libraries, buffers of transfers and encoders, what malloc keeps
  const int64_t rest = std::max(max_memory, kLeastMaxMemory) - kProgram;
  MemoryShares shares;
  shares.weights = std::min(rest / 8, int64_t{2} << 30);
  shares.engine = std::min(rest * 3 / 8, int64_t{4} << 30);
  shares.pictures = rest - shares.weights - shares.engine;
  return shares;
}

Result<std::unique_ptr<WorkLoop>> WorkLoop::Make(WorkerOptions options, ModelLoaders loaders, const Clock* clock, WorkerMetrics* metrics) {
  std::unique_ptr<WorkLoop> loop(new WorkLoop(std::move(options), std::move(loaders), clock, metrics));
  NSIC_RETURN_IF_ERROR(MakeFolders(loop->options_.cache));
  NSIC_ASSIGN_OR_RETURN(loop->cache_, BlobCache::Open(loop->options_.cache, CacheLimit(loop->options_.cache), loop->transfer_.get()));
  NSIC_ASSIGN_OR_RETURN(loop->sources_, SourceFetcher::Make(loop->options_.media_roots, loop->cache_.get()));
  const MemoryShares shares = ShareMemory(loop->options_.max_memory);
  loop->memory_ = std::make_unique<MemoryBudget>(shares.pictures);
  ModelShelf::Options shelf;
  shelf.weights_budget = shares.weights;
  loop->models_ = std::make_unique<ModelShelf>(shelf, loop->loaders_, loop->cache_.get(), clock);
  loop->tools_.sources = loop->sources_.get();
  loop->ranges_ = std::make_unique<RangeReader>(loop->cache_.get(), loop->transfer_.get());
  loop->tools_.ranges = loop->ranges_.get();
  loop->tools_.models = loop->models_.get();
  loop->tools_.memory = loop->memory_.get();
  loop->tools_.speeds = &loop->speeds_;
  loop->tools_.judge = &loop->judge_;
  loop->tools_.metrics = metrics;
  loop->tools_.clock = clock;
  loop->tools_.outbox = loop->cache_->outbox();
  loop->tools_.device = loop->options_.device;
  return loop;
}

WorkLoop::WorkLoop(WorkerOptions options, ModelLoaders loaders, const Clock* clock, WorkerMetrics* metrics)
    : options_(std::move(options)),
      clock_(clock),
      metrics_(metrics),
      loaders_(std::move(loaders)),
      channel_(OpenChannel(options_.coordinator, options_.token)),
      transfer_(std::make_unique<BlobTransfer>(channel_, Patiently())),
      session_(std::make_unique<Session>(channel_, Registration(options_), options_.coordinator, clock)),
      deliverer_(std::make_unique<Deliverer>(session_.get(), transfer_.get())) {}

WorkLoop::~WorkLoop() = default;

Status WorkLoop::Run() {
  keeper_ = std::make_unique<LeaseKeeper>(session_.get(), [this](bool drain) {
    if (coordinator_drains_.exchange(drain) != drain) {
      spdlog::info(drain ? "the coordinator wants this worker to take no more tasks for now"
                         : "the coordinator has tasks for this worker again");
    }
  });
  std::vector<std::thread> stages;
  stages.emplace_back([this] { TakeTasks(); });
  stages.emplace_back([this] { PrepareTasks(); });
  stages.emplace_back([this] { ComputeTasks(); });
  stages.emplace_back([this] { FinishTasks(); });
  stages.emplace_back([this] { ScoreTasks(); });
  stages.emplace_back([this] { DeliverTasks(); });
  {
    // Each stage ends when the one before it has; this thread only sees to it that a drain does not wait for ever.
    std::unique_lock<std::mutex> lock(mutex_);
    while (!changed_.wait_for(lock, std::chrono::milliseconds(200), [this] { return delivered_all_; })) {
      if (!draining() || abandoned_.cancelled() || session_->unreachable_for() < options_.drain_patience) continue;
      spdlog::warn("the coordinator is still away; leaving without delivering what is left");
      lock.unlock();
      Abandon();
      lock.lock();
    }
  }
  for (std::thread& stage : stages) stage.join();
  keeper_.reset();
  return session_->refused();
}

void WorkLoop::Drain() {
  draining_.Cancel();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const HeldPtr& held : held_) {
      if (held->begun) continue;
      held->given_back = true;
      held->task->cancel()->Cancel();
    }
  }
  // Nobody waits for the task that computes: what waits behind it is given back now.
  waiting_.Close();
  prepared_.Close();
}

void WorkLoop::Abandon() {
  abandoned_.Cancel();
  std::lock_guard<std::mutex> lock(mutex_);
  for (const HeldPtr& held : held_) held->task->cancel()->Cancel();
}

WorkLoop::HeldPtr WorkLoop::Hold(v1::LeasedTask lease) {
  auto held = std::make_shared<Held>();
  held->task = MakeTask(std::move(lease), &tools_);
  held->leased_us = clock_->MonotonicUs();
  keeper_->Add(held->task->lease().token(), held->task->cancel());
  std::lock_guard<std::mutex> lock(mutex_);
  held_.insert(held);
  if (draining()) {
    held->given_back = true;
    held->task->cancel()->Cancel();
  }
  return held;
}

bool WorkLoop::Begin(const HeldPtr& held) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (held->given_back) return false;
  held->begun = true;
  return true;
}

Result<v1::LeaseResponse> WorkLoop::Lease(const std::string& request_id, int wait_ms, const RetryPolicy& policy,
                                          const CancelToken& cancel) {
  v1::LeaseRequest request;
  request.set_request_id(request_id);
  request.set_max_tasks(kMostTasksALease);
  request.set_wait_ms(wait_ms);
  for (v1::ModelSpeed& speed : speeds_.Speeds()) *request.add_speeds() = std::move(speed);
  v1::LeaseResponse response;
  NSIC_RETURN_IF_ERROR(session_->Call(policy, cancel, [&](grpc::ClientContext* context, const std::string& session) {
    request.set_session(session);
    response.Clear();
    return session_->work()->Lease(context, request, &response);
  }));
  return response;
}

void WorkLoop::TakeTasks() {
  RetryPolicy patiently = Patiently();
  patiently.deadline = std::chrono::milliseconds(options_.lease_wait_ms) + std::chrono::seconds(15);
  std::string request_id = RandomHex(16);
  while (!draining()) {
    models_->DropIdle();
    Result<v1::LeaseResponse> response = Lease(request_id, options_.lease_wait_ms, patiently, draining_);
    if (!session_->refused().ok()) break;
    if (draining()) {
      // What the call may have been granted when it was broken off: the same request id brings it back to be released.
      if (!response.ok()) {
        RetryPolicy briefly = Patiently();
        briefly.max_attempts = 2;
        briefly.deadline = std::chrono::seconds(5);
        response = Lease(request_id, 0, briefly, abandoned_);
      }
      if (response.ok()) {
        for (v1::LeasedTask& task : *response->mutable_tasks()) ended_.Push(Hold(std::move(task)));
      }
      break;
    }
    if (!response.ok()) {
      spdlog::warn("cannot lease tasks: {}", response.status().ToString());
      draining_.WaitFor(kPauseAfterError);
      continue;
    }
    request_id = RandomHex(16);
    coordinator_drains_ = response->drain();
    if (response->has_measure()) {
      Measure(response->measure());
      continue;
    }
    std::vector<HeldPtr> batch;  // held from now on, though the last of it may have to wait for a while
    for (v1::LeasedTask& task : *response->mutable_tasks()) batch.push_back(Hold(std::move(task)));
    if (!batch.empty()) spdlog::info("leased {} tasks", batch.size());
    for (const HeldPtr& held : batch) {
      if (!waiting_.Push(held)) ended_.Push(held);
    }
    if (batch.empty() && response->drain()) draining_.WaitFor(session_->renew_every());
  }
  if (!session_->refused().ok()) {
    Drain();
    Abandon();
  }
  waiting_.Close();
  LeaveStage();
}

// On the thread that takes tasks: none are taken meanwhile.
void WorkLoop::Measure(const v1::Measure& measure) {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!held_.empty() && !draining()) changed_.wait_for(lock, std::chrono::milliseconds(200));
  }
  if (draining()) return;
  v1::ReportRequest report;
  report.set_bench_id(measure.bench_id());
  ModelError error;
  const std::shared_ptr<Enhancer> enhancer =
      models_->Get(measure.model_id(), measure.model_blob(), measure.model_blob_size(), draining_, &error);
  Status status = enhancer == nullptr ? error.status : OkStatus();
  if (status.ok()) {
    spdlog::info("measuring the model {}", enhancer->card().name);
    metrics_->SetBusy(true);
    status = [&]() -> Status {
      try {
        NSIC_ASSIGN_OR_RETURN(*report.mutable_measurement(),
                              MeasureFrames(enhancer.get(), options_.device == "cpu" ? options_.threads : 0, *clock_, draining_));
        return OkStatus();
      } catch (const std::bad_alloc&) {
        return ResourceExhaustedError("out of memory on this worker; start it with a smaller --max-memory");
      }
    }();
    metrics_->SetBusy(false);
  }
  if (draining()) return;
  if (!status.ok()) report.set_error(status.message());
  v1::ReportResponse response;
  status = session_->Call(Patiently(), draining_, [&](grpc::ClientContext* context, const std::string& session) {
    report.set_session(session);
    response.Clear();
    return session_->work()->Report(context, report, &response);
  });
  if (!status.ok() && !draining()) spdlog::warn("the measurement could not be delivered: {}", status.ToString());
}

void WorkLoop::PrepareTasks() {
  while (const std::optional<HeldPtr> next = waiting_.Pop()) {
    const HeldPtr& held = *next;
    held->failure = held->task->Prepare();
    if (held->failure.has_value()) {
      Begin(held);  // its end is known: a drain no longer gives it back
      ended_.Push(held);
    } else if (!prepared_.Push(held)) {
      ended_.Push(held);
    }
  }
  // `waiting_` ends with a drain: what is ready but has not begun need not wait for the task that computes.
  while (const std::optional<HeldPtr> next = prepared_.Pop()) ended_.Push(*next);
  LeaveStage();
}

void WorkLoop::ComputeTasks() {
  int64_t free_us = clock_->MonotonicUs();  // since when the device could have computed
  while (const std::optional<HeldPtr> next = prepared_.Pop()) {
    const HeldPtr& held = *next;
    if (!Begin(held)) {
      ended_.Push(held);
      continue;
    }
    const int64_t waited_us = clock_->MonotonicUs() - std::max(free_us, held->leased_us);
    metrics_->AddDeviceSeconds(0, static_cast<double>(waited_us) * 1e-6);
    metrics_->SetBusy(true);
    held->failure = held->task->Compute();
    metrics_->SetBusy(false);
    free_us = clock_->MonotonicUs();
    if (held->failure.has_value()) {
      ended_.Push(held);
    } else {
      computed_.Push(held);
    }
  }
  computed_.Close();
  LeaveStage();
}

void WorkLoop::FinishTasks() {
  while (const std::optional<HeldPtr> next = computed_.Pop()) {
    const HeldPtr& held = *next;
    held->failure = held->task->Finish();
    (held->failure.has_value() ? ended_ : finished_).Push(held);
  }
  finished_.Close();
  LeaveStage();
}

void WorkLoop::ScoreTasks() {
  while (const std::optional<HeldPtr> next = finished_.Pop()) {
    (*next)->task->Score();
    ended_.Push(*next);
  }
  LeaveStage();
}

void WorkLoop::LeaveStage() {
  if (--stages_before_delivery_ == 0) ended_.Close();
}

void WorkLoop::DeliverTasks() {
  while (const std::optional<HeldPtr> next = ended_.Pop()) {
    const HeldPtr& held = *next;
    Deliver(held);
    keeper_->Remove(held->task->lease().token());
    std::lock_guard<std::mutex> lock(mutex_);
    held_.erase(held);
    changed_.notify_all();
  }
  std::lock_guard<std::mutex> lock(mutex_);
  delivered_all_ = true;
  changed_.notify_all();
}

// A result is delivered even if the coordinator has said stop meanwhile: it accepts late work as long as the task is not done.
void WorkLoop::Deliver(const HeldPtr& held) {
  const Task& task = *held->task;
  const std::string& token = task.lease().token();
  bool given_back = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    given_back = held->given_back;
  }
  Status status;
  std::string result;
  if (given_back) {
    result = "released";
    status = deliverer_->Release({token}, abandoned_);
  } else if (held->failure.has_value() && task.cancel()->cancelled()) {
    result = "stopped";
    spdlog::info("{}: stopped, it is no longer wanted", task.what());
  } else if (held->failure.has_value()) {
    result = "failed";
    const std::string failure_class(FailureClassName(held->failure->failure_class));
    spdlog::warn("{}: failed ({}): {}", task.what(), failure_class, held->failure->message);
    metrics_->CountError(task.model_name(), failure_class);
    status = deliverer_->Fail(token, held->failure->failure_class, held->failure->message, abandoned_);
  } else {
    result = "done";
    const int64_t start_us = clock_->MonotonicUs();
    const auto wait_for_room = [&, drained_us = int64_t{-1}]() mutable {
      if (!draining()) return true;
      if (drained_us < 0) drained_us = clock_->MonotonicUs();
      return clock_->MonotonicUs() - drained_us < std::chrono::microseconds(options_.drain_patience).count();
    };
    status = deliverer_->Complete(token, task.result(), task.output_path(), wait_for_room, abandoned_);
    metrics_->AddStageSeconds("upload", static_cast<double>(clock_->MonotonicUs() - start_us) * 1e-6);
    if (status.ok()) {
      spdlog::info("{}: done in {:.2f} s", task.what(), task.result().seconds());
    } else if (!abandoned_.cancelled() && IsNoLongerWanted(status)) {
      spdlog::info("{}: the result is no longer wanted", task.what());
      result = "stopped";
      status = OkStatus();
    } else if (!abandoned_.cancelled()) {
      // Its lease is given up, so that another worker can have the task at once.
      spdlog::warn("{}: the result could not be delivered ({})", task.what(), status.ToString());
      result = "failed";
      metrics_->CountError(task.model_name(), "transient");
      status = deliverer_->Fail(token, v1::FAILURE_CLASS_TRANSIENT, "the result could not be delivered: " + status.message(), abandoned_);
    }
  }
  if (!status.ok()) spdlog::warn("{}: the coordinator was not told that it is {} ({})", task.what(), result, status.ToString());
  metrics_->CountTask(task.model_name(), result);
}

}  // namespace nsic
