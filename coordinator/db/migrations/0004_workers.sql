-- Workers, what they can do, and their attempts at tasks.
CREATE TABLE worker(
  id           INTEGER PRIMARY KEY,
  name         TEXT    NOT NULL UNIQUE,
  session      TEXT    NOT NULL UNIQUE,
  version      TEXT    NOT NULL,
  device       TEXT    NOT NULL,
  device_name  TEXT    NOT NULL,
  cores        INTEGER NOT NULL,
  memory_bytes INTEGER NOT NULL,
  draining     INTEGER NOT NULL DEFAULT 0 CHECK(draining IN (0, 1)),
  last_seen_ms INTEGER NOT NULL,
  tasks_done   INTEGER NOT NULL DEFAULT 0,
  tasks_failed INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE worker_root(
  worker_id INTEGER NOT NULL REFERENCES worker(id) ON DELETE CASCADE,
  root_id   TEXT    NOT NULL,
  PRIMARY KEY(worker_id, root_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE worker_model(
  worker_id        INTEGER NOT NULL REFERENCES worker(id) ON DELETE CASCADE,
  model_id         TEXT    NOT NULL,
  megapixels_per_s REAL    NOT NULL DEFAULT 0,  -- 0: not measured
  precision        TEXT    NOT NULL DEFAULT '',
  failures_in_row  INTEGER NOT NULL DEFAULT 0,
  blocked_until_ms INTEGER NOT NULL DEFAULT 0,  -- by its failures; ignored while no other worker could do the work
  banned_until_ms  INTEGER NOT NULL DEFAULT 0,  -- by the user; holds always
  PRIMARY KEY(worker_id, model_id)
) STRICT, WITHOUT ROWID;

-- The same rows as kAttemptTransitions in core/farm/task_state.h; a test compares them.
CREATE TABLE attempt_transition(
  from_state TEXT NOT NULL,
  to_state   TEXT NOT NULL,
  actor      TEXT NOT NULL,
  PRIMARY KEY(from_state, to_state)
) STRICT, WITHOUT ROWID;
INSERT INTO attempt_transition VALUES
  ('active', 'succeeded', 'worker'), ('active', 'failed', 'worker'), ('active', 'expired', 'sweeper'), ('active', 'released', 'worker'),
  ('active', 'superseded', 'task end'), ('expired', 'succeeded', 'worker');

CREATE TABLE attempt(
  task_id    INTEGER NOT NULL REFERENCES task(id) ON DELETE CASCADE,
  lease_no   INTEGER NOT NULL,
  worker_id  INTEGER NOT NULL REFERENCES worker(id),
  token      TEXT    NOT NULL UNIQUE,
  request_id TEXT    NOT NULL,  -- of the Lease call: its retry gets the same leases
  state      TEXT    NOT NULL CHECK(state IN ('active', 'succeeded', 'failed', 'expired', 'released', 'superseded')),
  leased_ms  INTEGER NOT NULL,
  -- On the coordinator's steady clock, so that a jump of the wall clock expires nothing; set anew for all at every start.
  expires_steady_ms INTEGER NOT NULL,
  ended_ms   INTEGER,
  counted    INTEGER NOT NULL DEFAULT 0 CHECK(counted IN (0, 1)),  -- ended as a failure of that worker on that task
  message    TEXT    NOT NULL DEFAULT '',
  PRIMARY KEY(task_id, lease_no),
  CHECK((state = 'active') = (ended_ms IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_active ON attempt(task_id) WHERE state = 'active';
CREATE INDEX attempt_expiry ON attempt(expires_steady_ms) WHERE state = 'active';
CREATE INDEX attempt_worker ON attempt(worker_id) WHERE state = 'active';
CREATE INDEX attempt_request ON attempt(request_id);

CREATE TRIGGER attempt_state_guard BEFORE UPDATE OF state ON attempt
WHEN OLD.state <> NEW.state AND NOT EXISTS(SELECT 1 FROM attempt_transition WHERE from_state = OLD.state AND to_state = NEW.state)
BEGIN SELECT RAISE(ABORT, 'illegal attempt transition'); END;

CREATE TRIGGER attempt_limit BEFORE INSERT ON attempt
WHEN (SELECT count(*) FROM attempt WHERE task_id = NEW.task_id AND state = 'active') >= 2
BEGIN SELECT RAISE(ABORT, 'a task has at most two active attempts'); END;
