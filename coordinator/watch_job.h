// Clients that watch jobs: streams that are woken when a job changes. Between events a watch holds no thread.
#ifndef NSIC_COORDINATOR_WATCH_JOB_H_
#define NSIC_COORDINATOR_WATCH_JOB_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "coordinator/farm.h"
#include "coordinator/serve_call.h"
#include "nsic/v1/jobs.pb.h"

namespace nsic {

// Thread-safe.
class JobWatchers {
 public:
  explicit JobWatchers(const Farm* farm) : farm_(farm) {}

  // The stream of one Watch call; it ends and frees itself.
  grpc::ServerWriteReactor<v1::JobEvent>* Watch(const CallGate& gate, const grpc::CallbackServerContext& context,
                                                const v1::WatchRequest& request);

  void Notify(const std::set<std::string>& job_ids);
  void NotifyAll();  // what a person is told changes with time, too
  // Ends all streams with UNAVAILABLE, and those that come later.
  void Stop();

 private:
  class Watcher;

  const Farm* const farm_;
  std::mutex mutex_;
  std::set<std::shared_ptr<Watcher>> watchers_;  // guarded by mutex_
  bool stopping_ = false;                        // guarded by mutex_
};

}  // namespace nsic

#endif  // NSIC_COORDINATOR_WATCH_JOB_H_
