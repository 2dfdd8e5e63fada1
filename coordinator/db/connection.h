// One connection to the database, and queries on it. Only coordinator/db includes this file: SQLite is not seen outside.
//
// SQLiteCpp reports errors by exceptions. They pass through the functions of coordinator/db, which take a Transaction, and end it:
// Database translates them into a Status. Code that runs inside a transaction must therefore be exception-safe.
#ifndef NSIC_COORDINATOR_DB_CONNECTION_H_
#define NSIC_COORDINATOR_DB_CONNECTION_H_

#include <SQLiteCpp/SQLiteCpp.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "coordinator/db/database.h"
#include "core/base/status.h"

namespace nsic {

// A connection with this project's pragmas and a cache of prepared statements. Used by one thread at a time.
class Connection {
 public:
  enum class Mode { kReadWrite, kReadOnly };
  // Throws SQLite::Exception.
  Connection(const std::string& path, Mode mode);

  void Execute(const char* sql) { database_.exec(sql); }
  // False after an error that made SQLite roll the whole transaction back.
  bool InTransaction() const;
  int64_t LastInsertId() const { return database_.getLastInsertRowid(); }

 private:
  friend class Query;
  std::unique_ptr<SQLite::Statement> Take(const char* sql);
  void GiveBack(const char* sql, std::unique_ptr<SQLite::Statement> statement);

  SQLite::Database database_;
  std::unordered_map<const char*, std::vector<std::unique_ptr<SQLite::Statement>>> idle_;
};

// Text that is bytes: goes into a BLOB column.
struct AsBlob {
  std::string_view bytes;
};

// A statement with its values bound, in order, to ?1, ?2, ... `sql` must be a literal: statements are kept by its address.
class Query {
 public:
  template <typename... Args>
  Query(Transaction& transaction, const char* sql, const Args&... args)
      : connection_(transaction.connection()), sql_(sql), statement_(connection_.Take(sql)) {
    int index = 0;
    (Bind(++index, args), ...);
  }
  ~Query() { connection_.GiveBack(sql_, std::move(statement_)); }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  // Goes to the next row; false after the last.
  bool Step() { return statement_->executeStep(); }
  // Runs a statement without rows; returns how many it changed.
  int64_t Run() {
    while (statement_->executeStep()) {
    }
    return statement_->getChanges();
  }

  bool IsNull(int column) { return statement_->getColumn(column).isNull(); }
  int64_t Int(int column) { return statement_->getColumn(column).getInt64(); }
  double Real(int column) { return statement_->getColumn(column).getDouble(); }
  bool Bool(int column) { return Int(column) != 0; }
  std::string Text(int column) { return statement_->getColumn(column).getString(); }  // also of blobs

 private:
  void Bind(int index, int value) { statement_->bind(index, value); }
  void Bind(int index, int64_t value) { statement_->bind(index, value); }
  void Bind(int index, bool value) { statement_->bind(index, value ? 1 : 0); }
  void Bind(int index, double value) { statement_->bind(index, value); }
  void Bind(int index, const std::string& value) { statement_->bind(index, value); }
  void Bind(int index, std::string_view value) { statement_->bind(index, std::string(value)); }
  void Bind(int index, const char* value) { statement_->bind(index, value); }
  void Bind(int index, const AsBlob& value) { statement_->bind(index, value.bytes.data(), static_cast<int>(value.bytes.size())); }
  template <typename T>
  void Bind(int index, const std::optional<T>& value) {
    if (value) {
      Bind(index, *value);
    } else {
      statement_->bind(index);
    }
  }

  Connection& connection_;
  const char* const sql_;
  std::unique_ptr<SQLite::Statement> statement_;
};

}  // namespace nsic

#endif  // NSIC_COORDINATOR_DB_CONNECTION_H_
