#include "coordinator/db/migrate.h"

#include <string>

#include "coordinator/db/connection.h"

namespace nsic {

Status Migrate(Connection& connection) {
  Transaction transaction(connection);
  int64_t version = 0;
  {
    Query query(transaction, "PRAGMA user_version");
    query.Step();
    version = query.Int(0);
  }
  if (version > kMigrationCount) {
    return FailedPreconditionError("its schema is number " + std::to_string(version) +
                                   ", written by a newer nsic-coordinator; this one knows " + std::to_string(kMigrationCount) +
                                   ". Use the newer program");
  }
  for (int64_t next = version; next < kMigrationCount; ++next) {
    connection.Execute("BEGIN IMMEDIATE");
    try {
      connection.Execute(kMigrations[next].sql);
      connection.Execute(("PRAGMA user_version = " + std::to_string(kMigrations[next].number)).c_str());
      connection.Execute("COMMIT");
    } catch (const SQLite::Exception&) {
      if (connection.InTransaction()) connection.Execute("ROLLBACK");
      throw;
    }
  }
  return OkStatus();
}

}  // namespace nsic
