#include "coordinator/db/audit.h"

#include <string>

#include "coordinator/db/connection.h"

namespace nsic {
namespace {

constexpr struct {
  const char* what;
  const char* sql;  // selects the names of what breaks it
} kInvariants[] = {
    {"a task is leased if and only if one or two attempts are active",
     "SELECT task.id FROM task LEFT JOIN (SELECT task_id, count(*) AS n FROM attempt WHERE state = 'active' GROUP BY task_id) AS a"
     " ON a.task_id = task.id WHERE (task.state = 'leased') <> (coalesce(a.n, 0) BETWEEN 1 AND 2)"},
    {"a job's counts are those of its tasks",
     "SELECT job.id FROM job LEFT JOIN (SELECT job_id, sum(state = 'waiting') AS w, sum(state = 'queued') AS q, sum(state = 'leased') AS l,"
     " sum(state = 'done') AS d, sum(state = 'failed') AS f, sum(state = 'cancelled') AS c, sum(pixels) AS p,"
     " sum(pixels * (state = 'done')) AS pd FROM task GROUP BY job_id) AS t ON t.job_id = job.id"
     " WHERE (n_waiting, n_queued, n_leased, n_done, n_failed, n_cancelled, pixels_total, pixels_done)"
     " <> (coalesce(w, 0), coalesce(q, 0), coalesce(l, 0), coalesce(d, 0), coalesce(f, 0), coalesce(c, 0), coalesce(p, 0), coalesce(pd, "
     "0))"},
    {"a job's scores are those of its tasks",
     "SELECT job.id FROM job LEFT JOIN (SELECT job_id, sum(file_share) AS n, sum(file_share * score_before) AS b,"
     " sum(file_share * score_after) AS a FROM task WHERE state = 'done' AND score_before IS NOT NULL GROUP BY job_id) AS t"
     " ON t.job_id = job.id WHERE abs(scored - coalesce(n, 0)) + abs(job.score_before - coalesce(b, 0)) + abs(job.score_after - "
     "coalesce(a, 0))"
     " > 1e-6 * (1 + 100 * scored)"},
    {"a job runs while a task has not ended", "SELECT id FROM job WHERE (state = 'running') <> (n_waiting + n_queued + n_leased > 0)"},
    {"a task that succeeded has one successful attempt at most",
     "SELECT task_id FROM attempt WHERE state = 'succeeded' GROUP BY task_id HAVING count(*) > 1"},
    {"a successful attempt's task is done",
     "SELECT task.id FROM attempt JOIN task ON task.id = task_id WHERE attempt.state = 'succeeded' AND task.state <> 'done'"},
    {"a task that needs others is open to workers if and only if these are done, and fails when one of them has",
     "SELECT task.id FROM task JOIN (SELECT task_id, sum(state = 'done') = count(*) AS all_done, sum(state IN ('failed', 'cancelled')) AS "
     "lost"
     " FROM task_need JOIN task ON task.id = needs_id GROUP BY task_id) AS need ON need.task_id = task.id"
     " WHERE (state IN ('queued', 'leased', 'done') AND NOT all_done) OR (state = 'waiting' AND (all_done OR lost > 0))"},
    {"foreign keys hold", "PRAGMA foreign_key_check"},
};

}  // namespace

Status Audit(Transaction& transaction) {
  for (const auto& invariant : kInvariants) {
    Query query(transaction, invariant.sql);
    if (query.Step()) return InternalError(std::string("the database breaks an invariant, ") + invariant.what + ": " + query.Text(0));
  }
  return OkStatus();
}

}  // namespace nsic
