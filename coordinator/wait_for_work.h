// Workers' long polls: they wait in a list, not in threads, and one thread serves them all when there may be work.
#ifndef NSIC_COORDINATOR_WAIT_FOR_WORK_H_
#define NSIC_COORDINATOR_WAIT_FOR_WORK_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "coordinator/farm.h"
#include "core/base/status.h"
#include "nsic/v1/work.pb.h"

namespace nsic {

// Thread-safe.
class WorkQueue {
 public:
  using Done = std::function<void(const Status&, v1::LeaseResponse)>;

  explicit WorkQueue(const Farm* farm);
  ~WorkQueue();

  // Answers as soon as there is work for this worker, something to say (an error, drain), or request.wait_ms have passed. `done` is called
  // once, on the queue's thread (or on the caller's, after Stop), unless the poll is dropped before. A second poll with the same request_id
  // replaces the first, which gets ABORTED. Returns a ticket for Drop.
  uint64_t Add(const v1::LeaseRequest& request, Done done);
  // The caller has gone; `done` is not called any more once this has returned true.
  bool Drop(uint64_t ticket);
  // There may be work: look again.
  void Wake();
  // Answers all with UNAVAILABLE, and whoever comes later.
  void Stop();

 private:
  struct Poll;
  void Loop();
  void Serve(std::list<std::unique_ptr<Poll>>* polls);

  const Farm* const farm_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<std::unique_ptr<Poll>> waiting_;  // guarded by mutex_, in the order of arrival
  uint64_t next_ticket_ = 1;                  // guarded by mutex_
  bool awake_ = false;                        // guarded by mutex_: look even though nobody's time is up
  bool stopping_ = false;                     // guarded by mutex_
  std::thread thread_;
};

}  // namespace nsic

#endif  // NSIC_COORDINATOR_WAIT_FOR_WORK_H_
