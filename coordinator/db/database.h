// The coordinator's database: one writer thread that commits many callers' transactions together, and readers on connections of their own.
#ifndef NSIC_COORDINATOR_DB_DATABASE_H_
#define NSIC_COORDINATOR_DB_DATABASE_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/base/status.h"

namespace nsic {

class Connection;

// What a committed transaction changed, for those who wait for it.
struct Changes {
  std::set<std::string> jobs;  // whose clients have something new to see
  bool work = false;           // there may be something to lease
  bool garbage = false;        // blobs were given up

  void Add(const Changes& other) {
    jobs.insert(other.jobs.begin(), other.jobs.end());
    work = work || other.work;
    garbage = garbage || other.garbage;
  }
};

// Handed to the functions of coordinator/db. Used by one thread.
class Transaction {
 public:
  explicit Transaction(Connection& connection) : connection_(connection) {}
  Connection& connection() { return connection_; }
  Changes& changes() { return changes_; }

 private:
  Connection& connection_;
  Changes changes_;
};

// Thread-safe.
class Database {
 public:
  // Opens or makes the file and brings its schema up to date. FAILED_PRECONDITION if a newer version of the program has written it.
  static Result<std::unique_ptr<Database>> Open(const std::string& path);
  // Finishes what was handed in.
  ~Database();

  // Runs `work` on the writer thread in a transaction of its own and waits until it is on the disk. An error of `work` undoes what it did,
  // and is returned. Whatever is handed in while the disk is busy shares the next commit, one sync for all. Not to be called from inside
  // `work`.
  Status Write(const std::function<Status(Transaction&)>& work);

  // Runs `work` on the calling thread against a consistent snapshot of what is committed. Waits when all readers are in use.
  Status Read(const std::function<Status(Transaction&)>& work);

  // Called on the writer thread after each commit that changed something, before the callers of Write go on. Set before the first Write.
  void SetListener(std::function<void(const Changes&)> listener);

 private:
  struct Pending;

  explicit Database(std::string path);
  void WriteLoop();
  void RunGroup(std::deque<Pending*>* group);

  const std::string path_;
  std::unique_ptr<Connection> writer_;  // used by the writer thread only, once it runs
  std::function<void(const Changes&)> listener_;

  std::mutex mutex_;
  std::condition_variable handed_in_;
  std::condition_variable finished_;
  std::deque<Pending*> pending_;  // guarded by mutex_
  bool stopping_ = false;         // guarded by mutex_

  std::mutex readers_mutex_;
  std::condition_variable reader_free_;
  std::vector<std::unique_ptr<Connection>> readers_;  // guarded by readers_mutex_: those not in use
  int readers_made_ = 0;                              // guarded by readers_mutex_

  std::thread thread_;
};

}  // namespace nsic

#endif  // NSIC_COORDINATOR_DB_DATABASE_H_
