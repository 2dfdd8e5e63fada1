#include "coordinator/db/connection.h"

#include <sqlite3.h>

namespace nsic {
namespace {

constexpr int kBusyMs = 10'000;  // other processes (sqlite3 on the command line) may hold the file for a moment

}  // namespace

Connection::Connection(const std::string& path, Mode mode)
    : database_(path, mode == Mode::kReadOnly ? SQLite::OPEN_READONLY : SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, kBusyMs) {
  if (mode == Mode::kReadWrite) {
    const std::string journal = database_.execAndGet("PRAGMA journal_mode = WAL").getString();
    if (journal != "wal") throw SQLite::Exception("cannot use a write-ahead log on this file system (journal mode is " + journal + ")");
    database_.exec("PRAGMA synchronous = FULL");  // a commit that was acknowledged survives a power cut
    database_.exec("PRAGMA foreign_keys = ON");
    if (database_.execAndGet("PRAGMA foreign_keys").getInt() != 1) throw SQLite::Exception("this SQLite cannot enforce foreign keys");
  }
  database_.exec("PRAGMA cache_size = -65536");  // KiB
}

bool Connection::InTransaction() const { return sqlite3_get_autocommit(const_cast<SQLite::Database&>(database_).getHandle()) == 0; }

std::unique_ptr<SQLite::Statement> Connection::Take(const char* sql) {
  std::vector<std::unique_ptr<SQLite::Statement>>& idle = idle_[sql];
  if (idle.empty()) return std::make_unique<SQLite::Statement>(database_, sql);
  std::unique_ptr<SQLite::Statement> statement = std::move(idle.back());
  idle.pop_back();
  return statement;
}

void Connection::GiveBack(const char* sql, std::unique_ptr<SQLite::Statement> statement) {
  statement->tryReset();  // its error has been thrown already by the step that met it
  statement->clearBindings();
  idle_[sql].push_back(std::move(statement));
}

}  // namespace nsic
