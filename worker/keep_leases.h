// Keeps the leases of everything that the worker holds alive, and stops the tasks that nobody wants any more.
#ifndef NSIC_WORKER_KEEP_LEASES_H_
#define NSIC_WORKER_KEEP_LEASES_H_

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "core/base/cancel.h"
#include "worker/hold_session.h"

namespace nsic {

// Thread-safe. Renews on a thread of its own, also with nothing held: that is the worker's heartbeat.
class LeaseKeeper {
 public:
  // `on_drain` is told by each answer whether the coordinator wants this worker to take no more tasks; called on the keeper's thread.
  LeaseKeeper(Session* session, std::function<void(bool drain)> on_drain);
  ~LeaseKeeper();
  LeaseKeeper(const LeaseKeeper&) = delete;
  LeaseKeeper& operator=(const LeaseKeeper&) = delete;

  // Renews `token` until Remove(token); cancels `cancel` if the coordinator says stop.
  void Add(const std::string& token, std::shared_ptr<CancelToken> cancel);
  void Remove(const std::string& token);

 private:
  void Run();
  void RenewOnce();

  Session* const session_;
  const std::function<void(bool)> on_drain_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<CancelToken>> held_;  // guarded by mutex_
  CancelToken stop_;
  std::thread thread_;
};

}  // namespace nsic

#endif  // NSIC_WORKER_KEEP_LEASES_H_
