#include "coordinator/wait_for_work.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "coordinator/admit_worker.h"
#include "coordinator/bench_workers.h"
#include "coordinator/check_manifest.h"
#include "coordinator/db/database.h"
#include "coordinator/db/tasks.h"
#include "coordinator/db/workers.h"
#include "coordinator/lease_task.h"

namespace nsic {
namespace {

// Waiting for a caller is real time, unlike the times that are stored: no injected clock.
using Time = std::chrono::steady_clock;
// Delays run out and stragglers turn up without an event.
constexpr std::chrono::milliseconds kTick{500};
constexpr int kMaxSpeeds = 1000;

Status CheckRequest(const v1::LeaseRequest& request) {
  if (!IsId(request.request_id())) return InvalidArgumentError("a request_id is 32 lower-case hexadecimal digits");
  if (request.max_tasks() < 1) return InvalidArgumentError("max_tasks must be at least 1");
  if (request.wait_ms() < 0) return InvalidArgumentError("wait_ms must not be negative");
  if (request.speeds_size() > kMaxSpeeds) return InvalidArgumentError("too many speeds");
  for (const v1::ModelSpeed& speed : request.speeds()) {
    if (!(speed.megapixels_per_second() >= 0 && speed.megapixels_per_second() < 1e9) || speed.model_id().size() != 64 ||
        speed.precision().size() > 64) {
      return InvalidArgumentError("a measured speed must name a model and be a number of megapixels a second");
    }
  }
  return OkStatus();
}

}  // namespace

struct WorkQueue::Poll {
  uint64_t ticket = 0;
  v1::LeaseRequest request;
  Done done;
  Time::time_point until;
  bool fresh = true;  // not looked at yet
  // The answer, once there is one.
  bool answered = false;
  Status status;
  v1::LeaseResponse response;
};

WorkQueue::WorkQueue(const Farm* farm) : farm_(farm), thread_([this] { Loop(); }) {}

WorkQueue::~WorkQueue() {
  Stop();
  thread_.join();
}

uint64_t WorkQueue::Add(const v1::LeaseRequest& request, Done done) {
  auto poll = std::make_unique<Poll>();
  poll->request = request;
  poll->done = std::move(done);
  poll->until = Time::now() + std::chrono::milliseconds(std::clamp<int64_t>(request.wait_ms(), 0, MaxPollMs(farm_->options)));
  if (Status status = CheckRequest(request); !status.ok()) {
    poll->answered = true;
    poll->status = std::move(status);
  }
  std::unique_lock<std::mutex> lock(mutex_);
  if (stopping_) {
    lock.unlock();
    poll->done(UnavailableError("the coordinator is stopping"), {});
    return 0;
  }
  for (const std::unique_ptr<Poll>& other : waiting_) {
    if (!other->answered && other->request.request_id() == request.request_id() && other->request.session() == request.session()) {
      other->answered = true;
      other->status = AbortedError("the same request came again; this call is no longer the one that is answered");
    }
  }
  const uint64_t ticket = poll->ticket = next_ticket_++;
  waiting_.push_back(std::move(poll));
  awake_ = true;
  changed_.notify_one();
  return ticket;
}

bool WorkQueue::Drop(uint64_t ticket) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto it = std::find_if(waiting_.begin(), waiting_.end(), [&](const auto& poll) { return poll->ticket == ticket; });
  if (it == waiting_.end()) return false;
  waiting_.erase(it);
  return true;
}

void WorkQueue::Wake() {
  std::lock_guard<std::mutex> lock(mutex_);
  awake_ = true;
  changed_.notify_one();
}

void WorkQueue::Stop() {
  std::lock_guard<std::mutex> lock(mutex_);
  stopping_ = true;
  changed_.notify_one();
}

void WorkQueue::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    if (waiting_.empty()) {
      changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    } else {
      changed_.wait_for(lock, kTick, [this] { return stopping_ || awake_; });
    }
    awake_ = false;
    std::list<std::unique_ptr<Poll>> polls = std::move(waiting_);
    waiting_.clear();
    const bool stopping = stopping_;
    if (polls.empty() && stopping) return;
    lock.unlock();

    if (stopping) {
      for (const std::unique_ptr<Poll>& poll : polls) {
        if (!poll->answered) poll->status = UnavailableError("the coordinator is stopping");
        poll->answered = true;
      }
    } else {
      Serve(&polls);
    }
    for (auto it = polls.begin(); it != polls.end();) {
      if ((*it)->answered) {
        (*it)->done((*it)->status, std::move((*it)->response));
        it = polls.erase(it);
      } else {
        ++it;
      }
    }
    lock.lock();
    waiting_.splice(waiting_.begin(), polls);
  }
}

// One transaction for all of them, in the order in which they came.
void WorkQueue::Serve(std::list<std::unique_ptr<Poll>>* polls) {
  const Time::time_point now = Time::now();
  bool work = false;
  const Status looked = farm_->database->Read([&](Transaction& transaction) {
    work = AnyTaskToLease(transaction, farm_->now_ms()) || farm_->bench->waiting(*farm_);
    return OkStatus();
  });
  // The quiet case: nobody new, nobody's time is up, nothing to lease.
  const bool news = std::any_of(polls->begin(), polls->end(), [&](const auto& poll) { return poll->fresh || poll->until <= now; });
  if (looked.ok() && !work && !news) return;

  Status status = looked;
  if (status.ok()) {
    status = farm_->database->Write([&](Transaction& transaction) -> Status {
      for (const std::unique_ptr<Poll>& poll : *polls) {
        if (poll->answered) continue;
        if (!work && !poll->fresh && poll->until > now) continue;
        poll->response.Clear();
        Result<WorkerRow> worker = CheckSession(*farm_, transaction, poll->request.session());
        if (!worker.ok()) {
          poll->status = worker.status();
          poll->answered = true;
          continue;
        }
        if (poll->fresh) {
          for (const v1::ModelSpeed& speed : poll->request.speeds()) {
            PutSpeed(transaction, worker->id, speed.model_id(), speed.megapixels_per_second(), speed.precision());
          }
        }
        NSIC_RETURN_IF_ERROR(LeaseTasks(*farm_, transaction, *worker, poll->request, &poll->response));
        poll->answered = poll->response.tasks_size() > 0 || poll->response.drain() || poll->response.has_measure() || poll->until <= now;
      }
      return OkStatus();
    });
  }
  for (const std::unique_ptr<Poll>& poll : *polls) {
    poll->fresh = false;
    if (status.ok()) continue;
    poll->response.Clear();  // what was in it has been rolled back
    poll->status = status;
    poll->answered = true;
  }
}

}  // namespace nsic
