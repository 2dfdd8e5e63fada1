// The database itself: its tables against core/farm/task_state.h, group commit, migrations, the audit.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>
#include <tuple>

#include "coordinator/db/attempts.h"
#include "coordinator/db/connection.h"
#include "coordinator/db/migrate.h"
#include "coordinator/db/tasks.h"
#include "tests/unit/coordinator_fixture.h"

namespace nsic {
namespace {

class CoordinatorDbTest : public FarmTest {
 protected:
  // Runs one statement; OK or the error.
  template <typename... Args>
  Status Run(const char* sql, const Args&... args) {
    return database_->Write([&](Transaction& t) {
      Query(t, sql, args...).Run();
      return OkStatus();
    });
  }
  using Row = std::tuple<std::string, std::string, std::string>;
  std::set<Row> Rows(const char* sql) {
    std::set<Row> rows;
    EXPECT_TRUE(database_
                    ->Read([&](Transaction& t) {
                      Query query(t, sql);
                      while (query.Step()) rows.emplace(query.Text(0), query.Text(1), query.Text(2));
                      return OkStatus();
                    })
                    .ok());
    return rows;
  }
};

TEST_F(CoordinatorDbTest, TheTransitionTablesAreThoseOfTheCode) {
  std::set<Row> tasks, attempts;
  for (const TaskTransition& t : kTaskTransitions) tasks.emplace(Name(t.from), Name(t.to), Name(t.actor));
  for (const AttemptTransition& t : kAttemptTransitions) attempts.emplace(Name(t.from), Name(t.to), Name(t.actor));
  EXPECT_EQ(Rows("SELECT from_state, to_state, actor FROM task_transition"), tasks);
  EXPECT_EQ(Rows("SELECT from_state, to_state, actor FROM attempt_transition"), attempts);
}

// Brings a task by raw SQL to `from`, then tries `to`. Only the triggers and checks of the schema are at work.
TEST_F(CoordinatorDbTest, SqlRefusesEveryOtherPairOfTaskStates) {
  const std::string blob = *blobs_->Put("output");
  int n = 0;
  for (const TaskState from : kAllTaskStates) {
    for (const TaskState to : kAllTaskStates) {
      if (from == to) continue;
      const std::string what = std::string(Name(from)) + " -> " + std::string(Name(to));
      ++n;
      Submit(n, 1000 + n, 1);
      const auto ended = [](TaskState state) { return HasEnded(state); };
      // The trigger guards updates; a row may be made in any state that the checks allow.
      ASSERT_TRUE(Run("DELETE FROM task WHERE job_id = ?1", Id(n)).ok());
      ASSERT_TRUE(Run("UPDATE job SET n_queued = 0, pixels_total = 0 WHERE id = ?1", Id(n)).ok());
      const auto output = [&](TaskState state) { return state == TaskState::kDone ? std::make_optional(blob) : std::nullopt; };
      const auto sequence = [&](TaskState state) { return ended(state) ? std::make_optional<int64_t>(9000 + n) : std::nullopt; };
      ASSERT_TRUE(Run("INSERT INTO task(job_id, idx, file_idx, pixels, model_id, source_sha256, result_key, state, output_sha256,"
                      " result, end_seq, ended_ms) VALUES (?1, 0, 0, 1, 'm', 's', 'k', ?2, ?3, CAST(?3 AS BLOB), ?4, ?4)",
                      Id(n), Name(from), output(from), sequence(from))
                      .ok())
          << what;
      const Status moved =
          Run("UPDATE task SET state = ?2, output_sha256 = ?3, result = CAST(?3 AS BLOB), end_seq = ?4, ended_ms = ?4"
              " WHERE job_id = ?1",
              Id(n), Name(to), output(to), sequence(to));
      EXPECT_EQ(moved.ok(), IsAllowed(from, to)) << what << ": " << moved;
      if (!moved.ok()) {
        EXPECT_NE(moved.message().find("illegal task transition"), std::string::npos) << what << ": " << moved;
      }
      ASSERT_TRUE(Run("DELETE FROM job WHERE id = ?1", Id(n)).ok());
    }
  }
}

TEST_F(CoordinatorDbTest, SqlRefusesEveryOtherPairOfAttemptStates) {
  Submit(1, 0, 1);
  Register("w");
  const auto ended = [](AttemptState state) { return state == AttemptState::kActive ? std::nullopt : std::make_optional<int64_t>(1); };
  int lease = 0;
  for (const AttemptState from : kAllAttemptStates) {
    for (const AttemptState to : kAllAttemptStates) {
      if (from == to) continue;
      const std::string what = std::string(Name(from)) + " -> " + std::string(Name(to));
      ASSERT_TRUE(Run("INSERT INTO attempt(task_id, lease_no, worker_id, token, request_id, state, leased_ms, expires_steady_ms, ended_ms)"
                      " VALUES ((SELECT min(id) FROM task), ?1, (SELECT min(id) FROM worker), 'token' || ?1, 'r', ?2, 0, 0, ?3)",
                      ++lease, Name(from), ended(from))
                      .ok())
          << what;
      const Status moved = Run("UPDATE attempt SET state = ?2, ended_ms = ?3 WHERE lease_no = ?1", lease, Name(to), ended(to));
      EXPECT_EQ(moved.ok(), IsAllowed(from, to)) << what << ": " << moved;
      ASSERT_TRUE(Run("DELETE FROM attempt").ok());
    }
  }
}

TEST_F(CoordinatorDbTest, ATaskHasAtMostTwoActiveAttempts) {
  Submit(1, 0, 1);
  Register("w");
  for (int lease = 1; lease <= 3; ++lease) {
    EXPECT_EQ(Run("INSERT INTO attempt(task_id, lease_no, worker_id, token, request_id, state, leased_ms, expires_steady_ms)"
                  " VALUES ((SELECT min(id) FROM task), ?1, (SELECT min(id) FROM worker), 'token' || ?1, 'r', 'active', 0, 0)",
                  lease)
                  .ok(),
              lease <= 2)
        << lease;
  }
  ASSERT_TRUE(Run("DELETE FROM attempt").ok());
}

TEST_F(CoordinatorDbTest, ConstraintsHold) {
  Submit(1, 0, 1);
  const struct {
    const char* what;
    const char* sql;
  } rows[] = {
      {"strict types", "UPDATE job SET priority = 'high'"},
      {"done needs an output", "UPDATE task SET state = 'done'"},
      {"an output needs its blob", "UPDATE task SET state = 'done', output_sha256 = 'x', result = x'00', end_seq = 1, ended_ms = 1"},
      {"fetched needs an output", "UPDATE task SET fetched = 1"},
      {"ended needs a sequence", "UPDATE task SET state = 'cancelled'"},
      {"a job with open tasks runs", "UPDATE job SET state = 'succeeded', ended_ms = 1"},
      {"a running job has not ended", "UPDATE job SET ended_ms = 1"},
      {"a manifest is a blob", "UPDATE job SET manifest_sha256 = 'x'"},
      {"a blob is named by a hash", "INSERT INTO blob VALUES ('../../etc/passwd', 1, x'', 1, 0)"},
      {"a region is whole", "UPDATE task SET x = 1"},
      {"frames are first and count", "UPDATE task SET first_frame = 1"},
      {"frames have a segment", "UPDATE task SET first_frame = 1, frame_count = 1"},
      {"a segment has frames", "UPDATE task SET segment = x'00'"},
      {"some frames", "UPDATE task SET first_frame = 1, frame_count = 0, segment = x'00'"},
      {"a segment is no region", "UPDATE task SET first_frame = 1, frame_count = 1, segment = x'00', x = 1, y = 1, width = 1, height = 1"},
      {"a chunk is of a segment", "UPDATE task SET step = 'chunk'"},
      {"unknown steps", "UPDATE task SET first_frame = 1, frame_count = 1, segment = x'00', step = 'join'"},
      {"no circles of needs", "INSERT INTO task_need SELECT id, id FROM task"},
      {"an index is a blob", "UPDATE job_file SET index_sha256 = 'x'"},
      {"unknown states", "UPDATE task SET state = 'sleeping'"},
  };
  for (const auto& row : rows) {
    const Status status = database_->Write([&](Transaction& t) {
      t.connection().Execute(row.sql);
      return OkStatus();
    });
    EXPECT_FALSE(status.ok()) << row.what;
  }
}

TEST_F(CoordinatorDbTest, TheAuditFindsWhatNoConstraintForbids) {
  Submit(1, 0, 2);
  const std::string worker = Register("w");
  ASSERT_EQ(Lease(worker).size(), 1u);
  const struct {
    const char* what;
    const char* break_it;
    const char* mend_it;
  } rows[] = {
      {"leased if and only if", "UPDATE attempt SET state = 'released', ended_ms = 1", "DELETE FROM attempt_transition WHERE 0"},
      {"counts", "UPDATE job SET n_queued = 7", "UPDATE job SET n_queued = 1"},
  };
  EXPECT_TRUE(database_->Read([](Transaction& t) { return Audit(t); }).ok());
  ASSERT_TRUE(Run(rows[1].break_it).ok());
  Status found = database_->Read([](Transaction& t) { return Audit(t); });
  EXPECT_NE(found.message().find(rows[1].what), std::string::npos) << found;
  ASSERT_TRUE(Run(rows[1].mend_it).ok());
  ASSERT_TRUE(Run(rows[0].break_it).ok());
  found = database_->Read([](Transaction& t) { return Audit(t); });
  EXPECT_NE(found.message().find(rows[0].what), std::string::npos) << found;
  ASSERT_TRUE(Run("UPDATE task SET state = 'queued' WHERE state = 'leased'").ok());
}

TEST_F(CoordinatorDbTest, ManyWritersShareACommitAndFailAlone) {
  constexpr int kThreads = 16, kEach = 25;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const std::string name = std::to_string(t) + "-" + std::to_string(i);
        const int kind = i % 3;  // fine; an error of the caller's; an error of SQLite's
        const Status status = database_->Write([&](Transaction& transaction) -> Status {
          Query(transaction, "INSERT INTO worker_test(name) VALUES (?1)", name).Run();
          if (kind == 1) return InvalidArgumentError("no");
          if (kind == 2) Query(transaction, "INSERT INTO worker_test(name) VALUES (?1)", name).Run();
          return OkStatus();
        });
        if (status.ok() != (kind == 0)) ++wrong;
      }
    });
    if (t == 0) {
      threads[0].join();  // its writes fail: there is no table yet
      wrong = 0;
      threads.clear();
      ASSERT_TRUE(database_
                      ->Write([](Transaction& transaction) {
                        transaction.connection().Execute("CREATE TABLE worker_test(name TEXT NOT NULL PRIMARY KEY) STRICT");
                        return OkStatus();
                      })
                      .ok());
    }
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  int64_t count = 0;
  ASSERT_TRUE(database_
                  ->Read([&](Transaction& t) {
                    Query query(t, "SELECT count(*) FROM worker_test");
                    query.Step();
                    count = query.Int(0);
                    return OkStatus();
                  })
                  .ok());
  EXPECT_EQ(count, (kThreads - 1) * ((kEach + 2) / 3));
}

TEST_F(CoordinatorDbTest, TheListenerHearsOfWhatWasCommittedOnly) {
  std::atomic<int> heard{0};
  database_->SetListener([&](const Changes& changes) { heard += static_cast<int>(changes.jobs.size()); });
  EXPECT_FALSE(database_
                   ->Write([](Transaction& t) {
                     t.changes().jobs.insert("x");
                     return InvalidArgumentError("no");
                   })
                   .ok());
  EXPECT_EQ(heard, 0);
  EXPECT_TRUE(database_
                  ->Write([](Transaction& t) {
                    t.changes().jobs.insert("x");
                    return OkStatus();
                  })
                  .ok());
  EXPECT_EQ(heard, 1);
}

TEST_F(CoordinatorDbTest, ADatabaseOfANewerProgramIsRefused) {
  ASSERT_TRUE(database_
                  ->Write([](Transaction& t) {
                    t.connection().Execute("PRAGMA user_version = 9999");
                    return OkStatus();
                  })
                  .ok());
  const std::string path = folder_ + "/coordinator.db";
  const Result<std::unique_ptr<Database>> opened = Database::Open(path);
  EXPECT_EQ(opened.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(opened.status().message().find(path), std::string::npos);
  EXPECT_NE(opened.status().message().find("newer"), std::string::npos);
}

TEST_F(CoordinatorDbTest, AFileThatIsNoDatabaseIsNamed) {
  const std::string path = folder_ + "/junk.db";
  ASSERT_TRUE(WriteFileAtomically(path, std::string(8192, 'j')).ok());
  const Status status = Database::Open(path).status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_NE(status.message().find(path), std::string::npos) << status;
}

// The last migrations change tables that hold jobs already.
TEST_F(CoordinatorDbTest, AnOlderDatabaseIsBroughtUpToDateWithItsJobs) {
  const std::string path = folder_ + "/older.db";
  constexpr int kOlder = 4;  // before videos
  {
    Connection connection(path, Connection::Mode::kReadWrite);
    for (int i = 0; i < kOlder; ++i) connection.Execute(kMigrations[i].sql);
    connection.Execute("PRAGMA user_version = 4");
    connection.Execute(
        "INSERT INTO blob VALUES (printf('%064d', 1), 5, x'', 1, 0);"
        "INSERT INTO job(id, spec_hash, spec, model_id, manifest_sha256, priority, state, created_ms)"
        " VALUES (printf('%032d', 1), 'h', x'', 'm', printf('%064d', 1), 0, 'running', 1);"
        "INSERT INTO job_file VALUES (printf('%032d', 1), 0, x'', 2);"
        "INSERT INTO task(job_id, idx, file_idx, x, y, width, height, pixels, model_id, source_sha256, result_key, state)"
        " VALUES (printf('%032d', 1), 0, 0, 0, 0, 5, 5, 25, 'm', 's', 'k0', 'queued'),"
        " (printf('%032d', 1), 1, 0, 5, 0, 5, 5, 25, 'm', 's', 'k1', 'queued');"
        "UPDATE task SET state = 'done', output_sha256 = printf('%064d', 1), result = x'', end_seq = 1, ended_ms = 1 WHERE idx = 1");
  }
  const Result<std::unique_ptr<Database>> opened = Database::Open(path);
  ASSERT_TRUE(opened.ok()) << opened.status();
  ASSERT_TRUE((*opened)
                  ->Read([](Transaction& t) -> Status {
                    NSIC_RETURN_IF_ERROR(Audit(t));
                    const std::vector<OutcomeRow> outcomes = ListOutcomes(t, Id(1), 0, 10);
                    EXPECT_EQ(outcomes.size(), 1u);
                    EXPECT_EQ(outcomes.at(0).region, (Rect{5, 0, 5, 5}));
                    EXPECT_EQ(outcomes.at(0).frames, std::nullopt);
                    EXPECT_EQ(TasksInState(t, Id(1), TaskState::kQueued).size(), 1u);
                    return OkStatus();
                  })
                  .ok());
}

TEST_F(CoordinatorDbTest, StateSurvivesReopening) {
  Submit(1, 0, 3);
  OpenStore(0);
  EXPECT_EQ(Get(1).tasks_queued(), 3);
  EXPECT_TRUE(blobs_->ReadAll(Sha256Hex(SourceBytes(0)), 1000).ok());
}

}  // namespace
}  // namespace nsic
