#include "coordinator/db/database.h"

#include <sqlite3.h>

#include <utility>

#include "coordinator/db/connection.h"
#include "coordinator/db/migrate.h"

namespace nsic {
namespace {

constexpr int kMaxReaders = 4;
// A group is cut here, so that a crowd cannot keep the first caller waiting.
constexpr size_t kMaxGroup = 256;

Status Translate(const SQLite::Exception& error, const std::string& path) {
  const std::string message = "database " + path + ": " + error.what();
  switch (error.getErrorCode()) {
    case SQLITE_FULL: return ResourceExhaustedError(message + "; free some disk space");
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return UnavailableError(message);
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM: return PermissionDeniedError(message);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_IOERR: return DataLossError(message);
    default: return InternalError(message);
  }
}

}  // namespace

struct Database::Pending {
  const std::function<Status(Transaction&)>* work;
  Status status{};
  bool done = false;  // guarded by mutex_
};

Database::Database(std::string path) : path_(std::move(path)) {}

Result<std::unique_ptr<Database>> Database::Open(const std::string& path) {
  std::unique_ptr<Database> database(new Database(path));
  try {
    database->writer_ = std::make_unique<Connection>(path, Connection::Mode::kReadWrite);
    NSIC_RETURN_IF_ERROR(Migrate(*database->writer_).WithContext("database " + path));
  } catch (const SQLite::Exception& error) {
    return Translate(error, path);
  }
  database->thread_ = std::thread([raw = database.get()] { raw->WriteLoop(); });
  return database;
}

Database::~Database() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  handed_in_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Database::SetListener(std::function<void(const Changes&)> listener) { listener_ = std::move(listener); }

Status Database::Write(const std::function<Status(Transaction&)>& work) {
  Pending pending{&work};
  std::unique_lock<std::mutex> lock(mutex_);
  if (stopping_) return UnavailableError("the coordinator is stopping");
  pending_.push_back(&pending);
  handed_in_.notify_one();
  finished_.wait(lock, [&] { return pending.done; });
  return pending.status;
}

void Database::WriteLoop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    handed_in_.wait(lock, [this] { return stopping_ || !pending_.empty(); });
    if (pending_.empty()) return;
    std::deque<Pending*> group;
    while (!pending_.empty() && group.size() < kMaxGroup) {
      group.push_back(pending_.front());
      pending_.pop_front();
    }
    const std::deque<Pending*> all = group;
    lock.unlock();
    RunGroup(&group);
    lock.lock();
    for (Pending* pending : all) pending->done = true;
    finished_.notify_all();
  }
}

// Runs all of `group`, in as few transactions as errors allow.
void Database::RunGroup(std::deque<Pending*>* group) {
  Changes committed;
  while (!group->empty()) {
    std::vector<Pending*> ran;
    Changes changes;
    const size_t before = group->size();
    // One alone needs no savepoint: its journal would double the time of a large submission.
    const bool alone = before == 1;
    try {
      writer_->Execute("BEGIN IMMEDIATE");
      while (!group->empty()) {
        Pending* const pending = group->front();
        group->pop_front();
        Transaction transaction(*writer_);
        if (!alone) writer_->Execute("SAVEPOINT one");
        try {
          pending->status = (*pending->work)(transaction);
        } catch (const SQLite::Exception& error) {
          pending->status = Translate(error, path_);
          if (!writer_->InTransaction()) throw;  // takes those before it along
        }
        const bool ok = pending->status.ok();
        if (!ok) writer_->Execute(alone ? "ROLLBACK" : "ROLLBACK TO one");
        if (!alone) writer_->Execute("RELEASE one");
        if (!ok) continue;
        ran.push_back(pending);
        changes.Add(transaction.changes());
      }
      if (ran.empty() && alone) continue;
      writer_->Execute("COMMIT");
      committed.Add(changes);
    } catch (const SQLite::Exception& error) {
      const Status status = Translate(error, path_);
      for (Pending* pending : ran) pending->status = status;
      if (group->size() == before) {
        // Not even BEGIN worked: nobody in this group can be served.
        for (Pending* pending : *group) pending->status = status;
        group->clear();
      }
      if (writer_->InTransaction()) {
        try {
          writer_->Execute("ROLLBACK");
        } catch (const SQLite::Exception&) {
          // SQLite has rolled back by itself; what went wrong is in `status`.
        }
      }
    }
  }
  if (listener_ && (committed.work || committed.garbage || !committed.jobs.empty())) listener_(committed);
}

Status Database::Read(const std::function<Status(Transaction&)>& work) {
  std::unique_ptr<Connection> reader;
  {
    std::unique_lock<std::mutex> lock(readers_mutex_);
    reader_free_.wait(lock, [this] { return !readers_.empty() || readers_made_ < kMaxReaders; });
    if (!readers_.empty()) {
      reader = std::move(readers_.back());
      readers_.pop_back();
    } else {
      ++readers_made_;
    }
  }
  Status status;
  try {
    if (reader == nullptr) reader = std::make_unique<Connection>(path_, Connection::Mode::kReadOnly);
    reader->Execute("BEGIN");
    Transaction transaction(*reader);
    status = work(transaction);
    reader->Execute("ROLLBACK");
  } catch (const SQLite::Exception& error) {
    status = Translate(error, path_);
    reader.reset();  // a fresh one next time
  }
  {
    std::lock_guard<std::mutex> lock(readers_mutex_);
    if (reader == nullptr) {
      --readers_made_;
    } else {
      readers_.push_back(std::move(reader));
    }
  }
  reader_free_.notify_one();
  return status;
}

}  // namespace nsic
