#include "coordinator/watch_job.h"

#include <optional>
#include <utility>
#include <vector>

#include "coordinator/db/database.h"
#include "coordinator/report_job.h"

namespace nsic {
namespace {

constexpr int kOutcomesPerEvent = 200;

}  // namespace

// At most one of these runs at a time: reading what is new, writing it. `busy_` says so; a nudge meanwhile makes it read again.
class JobWatchers::Watcher : public grpc::ServerWriteReactor<v1::JobEvent>, public std::enable_shared_from_this<Watcher> {
 public:
  Watcher(JobWatchers* watchers, const CallGate& gate, const v1::WatchRequest& request)
      : watchers_(watchers), gate_(gate), record_(gate, "Jobs.Watch"), job_id_(request.job_id()), after_(request.after()) {}

  const std::string& job_id() const { return job_id_; }

  void Nudge() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (busy_) {
      again_ = true;
      return;
    }
    Schedule();
  }

  void Stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopped_ = UnavailableError("the coordinator is stopping");
    }
    Nudge();
  }

  void Refuse(const Status& status) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopped_ = status;
    }
    Nudge();
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!ok && stopped_.ok()) stopped_ = CancelledError("the client has gone");
    Schedule();
  }

  void OnCancel() override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopped_ = CancelledError("the client has gone");
    }
    Nudge();
  }

  void OnDone() override {
    const std::shared_ptr<Watcher> self = shared_from_this();
    std::lock_guard<std::mutex> lock(watchers_->mutex_);
    watchers_->watchers_.erase(self);
  }

 private:
  // mutex_ must be held.
  void Schedule() {
    busy_ = true;
    again_ = false;
    gate_.calls()->Run([self = shared_from_this()] { self->Step(); });
  }

  void Step() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (finished_) return;
      if (!stopped_.ok()) {
        finished_ = true;
        Finish(record_.End(stopped_));
        return;
      }
    }
    Result<bool> news = ReadNews();
    std::lock_guard<std::mutex> lock(mutex_);
    if (!news.ok() || (!*news && last_.state() != v1::JOB_STATE_RUNNING)) {
      finished_ = true;
      Finish(record_.End(news.status()));
    } else if (*news) {
      StartWrite(&event_);
    } else {
      busy_ = false;
      if (again_ || !stopped_.ok()) Schedule();
    }
  }

  // Fills event_; false if the client has seen it all.
  Result<bool> ReadNews() {
    event_.Clear();
    NSIC_RETURN_IF_ERROR(watchers_->farm_->database->Read([&](Transaction& transaction) -> Status {
      NSIC_ASSIGN_OR_RETURN(*event_.mutable_job(), DescribeJob(*watchers_->farm_, transaction, job_id_));
      NSIC_ASSIGN_OR_RETURN(std::vector<v1::TaskOutcome> outcomes, DescribeOutcomes(transaction, job_id_, after_, kOutcomesPerEvent));
      for (v1::TaskOutcome& outcome : outcomes) *event_.add_outcomes() = std::move(outcome);
      return OkStatus();
    }));
    const bool news = event_.outcomes_size() > 0 || event_.job().SerializeAsString() != last_.SerializeAsString();
    last_ = event_.job();
    if (event_.outcomes_size() > 0) after_ = event_.outcomes(event_.outcomes_size() - 1).sequence();
    return news;
  }

  JobWatchers* const watchers_;
  const CallGate& gate_;
  const CallRecord record_;
  const std::string job_id_;
  // Used by the running step only.
  int64_t after_;
  v1::Job last_;
  v1::JobEvent event_;

  std::mutex mutex_;
  bool busy_ = false;      // guarded by mutex_, as all below: a step is queued or running, or a write is in flight
  bool again_ = false;     // something changed meanwhile
  bool finished_ = false;  // Finish was called
  Status stopped_;         // not OK: end the stream with this
};

grpc::ServerWriteReactor<v1::JobEvent>* JobWatchers::Watch(const CallGate& gate, const grpc::CallbackServerContext& context,
                                                           const v1::WatchRequest& request) {
  auto watcher = std::make_shared<Watcher>(this, gate, request);
  Status refused = gate.Admit(context);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (refused.ok() && stopping_) refused = UnavailableError("the coordinator is stopping");
    watchers_.insert(watcher);
  }
  if (refused.ok()) {
    watcher->Nudge();
  } else {
    watcher->Refuse(refused);
  }
  return watcher.get();
}

void JobWatchers::Notify(const std::set<std::string>& job_ids) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const std::shared_ptr<Watcher>& watcher : watchers_) {
    if (job_ids.count(watcher->job_id()) != 0) watcher->Nudge();
  }
}

void JobWatchers::NotifyAll() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const std::shared_ptr<Watcher>& watcher : watchers_) watcher->Nudge();
}

void JobWatchers::Stop() {
  std::lock_guard<std::mutex> lock(mutex_);
  stopping_ = true;
  for (const std::shared_ptr<Watcher>& watcher : watchers_) watcher->Stop();
}

}  // namespace nsic
