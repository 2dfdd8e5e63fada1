-- Jobs, their files and their tasks.
CREATE TABLE job(
  id              TEXT    NOT NULL PRIMARY KEY CHECK(length(id) = 32),
  spec_hash       TEXT    NOT NULL,
  spec            BLOB    NOT NULL,  -- nsic.v1.JobSpec as it was submitted
  model_id        TEXT    NOT NULL,
  manifest_sha256 TEXT    NOT NULL REFERENCES blob(sha256),
  priority        INTEGER NOT NULL,
  state           TEXT    NOT NULL CHECK(state IN ('running', 'succeeded', 'failed', 'cancelled')),
  paused          INTEGER NOT NULL DEFAULT 0 CHECK(paused IN (0, 1)),
  created_ms      INTEGER NOT NULL,
  ended_ms        INTEGER NOT NULL DEFAULT 0,
  -- Kept by the triggers below.
  n_waiting       INTEGER NOT NULL DEFAULT 0,
  n_queued        INTEGER NOT NULL DEFAULT 0,
  n_leased        INTEGER NOT NULL DEFAULT 0,
  n_done          INTEGER NOT NULL DEFAULT 0,
  n_failed        INTEGER NOT NULL DEFAULT 0,
  n_cancelled     INTEGER NOT NULL DEFAULT 0,
  pixels_total    INTEGER NOT NULL DEFAULT 0,
  pixels_done     INTEGER NOT NULL DEFAULT 0,
  CHECK((state = 'running') = (ended_ms = 0)),
  CHECK(state <> 'succeeded' OR n_waiting + n_queued + n_leased + n_failed + n_cancelled = 0),
  CHECK(state = 'running' OR n_waiting + n_queued + n_leased = 0)
) STRICT;
CREATE INDEX job_running ON job(priority DESC, n_leased) WHERE state = 'running';
CREATE INDEX job_created ON job(created_ms);
CREATE INDEX job_manifest ON job(manifest_sha256);

CREATE TRIGGER job_state_guard BEFORE UPDATE OF state ON job
WHEN OLD.state <> NEW.state AND NOT (OLD.state = 'running' OR (OLD.state = 'failed' AND NEW.state = 'running'))
BEGIN SELECT RAISE(ABORT, 'illegal job transition'); END;

CREATE TABLE job_file(
  job_id TEXT    NOT NULL REFERENCES job(id) ON DELETE CASCADE,
  idx    INTEGER NOT NULL,  -- in the manifest
  source BLOB    NOT NULL,  -- nsic.v1.SourceFile
  parts  INTEGER NOT NULL CHECK(parts >= 1),
  PRIMARY KEY(job_id, idx)
) STRICT, WITHOUT ROWID;

-- The same rows as kTaskTransitions in core/farm/task_state.h; a test compares them.
CREATE TABLE task_transition(
  from_state TEXT NOT NULL,
  to_state   TEXT NOT NULL,
  actor      TEXT NOT NULL,
  PRIMARY KEY(from_state, to_state)
) STRICT, WITHOUT ROWID;
INSERT INTO task_transition VALUES
  ('waiting', 'queued', 'source'), ('waiting', 'done', 'result'), ('waiting', 'cancelled', 'user'),
  ('queued', 'leased', 'scheduler'), ('queued', 'done', 'result'), ('queued', 'failed', 'lease end'), ('queued', 'cancelled', 'user'),
  ('leased', 'queued', 'lease end'), ('leased', 'done', 'result'), ('leased', 'failed', 'lease end'), ('leased', 'cancelled', 'user'),
  ('failed', 'queued', 'user'), ('failed', 'waiting', 'user');

-- Ids are never used again (AUTOINCREMENT): a client may still name the task of a deleted job.
CREATE TABLE task(
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  job_id        TEXT    NOT NULL REFERENCES job(id) ON DELETE CASCADE,
  idx           INTEGER NOT NULL,  -- order within the job: neighbours are leased together
  file_idx      INTEGER NOT NULL,
  x             INTEGER,  -- the region of a tile task; NULL: the whole picture
  y             INTEGER,
  width         INTEGER,
  height        INTEGER,
  pixels        INTEGER NOT NULL CHECK(pixels > 0),
  model_id      TEXT    NOT NULL,
  source_sha256 TEXT    NOT NULL,
  root_id       TEXT,  -- of the media root where the source is read in place; NULL: the source is a blob
  result_key    TEXT    NOT NULL,  -- hash of everything that decides the output: the same key, the same work
  state         TEXT    NOT NULL CHECK(state IN ('waiting', 'queued', 'leased', 'done', 'failed', 'cancelled')),
  lease_no      INTEGER NOT NULL DEFAULT 0,  -- of the last attempt
  -- The record since the user's last retry.
  record_from   INTEGER NOT NULL DEFAULT 0,  -- attempts with a higher lease_no count
  failures      INTEGER NOT NULL DEFAULT 0,  -- worker faults and expiries
  suspect       INTEGER NOT NULL DEFAULT 0 CHECK(suspect IN (0, 1)),  -- a worker fell silent over it: it runs alone
  transients    INTEGER NOT NULL DEFAULT 0,
  not_before_ms INTEGER NOT NULL DEFAULT 0,
  -- The outcome.
  end_seq       INTEGER UNIQUE,
  ended_ms      INTEGER,
  output_sha256 TEXT REFERENCES blob(sha256),
  result        BLOB,  -- nsic.v1.TaskResult
  error         TEXT NOT NULL DEFAULT '',  -- of the last failure, while it is not done
  worker        TEXT NOT NULL DEFAULT '',  -- that did it or failed last
  fetched       INTEGER NOT NULL DEFAULT 0 CHECK(fetched IN (0, 1)),
  UNIQUE(job_id, idx),
  CHECK((x IS NULL) = (y IS NULL) AND (x IS NULL) = (width IS NULL) AND (x IS NULL) = (height IS NULL)),
  CHECK((state = 'done') = (output_sha256 IS NOT NULL) AND (state = 'done') = (result IS NOT NULL)),
  CHECK((state IN ('done', 'failed', 'cancelled')) = (end_seq IS NOT NULL) AND (end_seq IS NULL) = (ended_ms IS NULL)),
  CHECK(fetched = 0 OR state = 'done')
) STRICT;
CREATE INDEX task_queue ON task(job_id, suspect, idx) WHERE state = 'queued';
CREATE INDEX task_leased ON task(job_id, idx) WHERE state = 'leased';
CREATE INDEX task_ended ON task(job_id, end_seq) WHERE end_seq IS NOT NULL;
CREATE INDEX task_source ON task(source_sha256, state);
CREATE INDEX task_output ON task(output_sha256, fetched) WHERE output_sha256 IS NOT NULL;
CREATE INDEX task_result ON task(result_key, state);

CREATE TRIGGER task_state_guard BEFORE UPDATE OF state ON task
WHEN OLD.state <> NEW.state AND NOT EXISTS(SELECT 1 FROM task_transition WHERE from_state = OLD.state AND to_state = NEW.state)
BEGIN SELECT RAISE(ABORT, 'illegal task transition'); END;

CREATE TRIGGER task_count_insert AFTER INSERT ON task BEGIN
  UPDATE job SET
    n_waiting = n_waiting + (NEW.state = 'waiting'),
    n_queued = n_queued + (NEW.state = 'queued'),
    n_leased = n_leased + (NEW.state = 'leased'),
    n_done = n_done + (NEW.state = 'done'),
    n_failed = n_failed + (NEW.state = 'failed'),
    n_cancelled = n_cancelled + (NEW.state = 'cancelled'),
    pixels_total = pixels_total + NEW.pixels,
    pixels_done = pixels_done + NEW.pixels * (NEW.state = 'done')
  WHERE id = NEW.job_id;
END;

CREATE TRIGGER task_count_update AFTER UPDATE OF state ON task WHEN OLD.state <> NEW.state BEGIN
  UPDATE job SET
    n_waiting = n_waiting + (NEW.state = 'waiting') - (OLD.state = 'waiting'),
    n_queued = n_queued + (NEW.state = 'queued') - (OLD.state = 'queued'),
    n_leased = n_leased + (NEW.state = 'leased') - (OLD.state = 'leased'),
    n_done = n_done + (NEW.state = 'done') - (OLD.state = 'done'),
    n_failed = n_failed + (NEW.state = 'failed') - (OLD.state = 'failed'),
    n_cancelled = n_cancelled + (NEW.state = 'cancelled') - (OLD.state = 'cancelled'),
    pixels_done = pixels_done + NEW.pixels * ((NEW.state = 'done') - (OLD.state = 'done'))
  WHERE id = NEW.job_id;
END;

-- The order in which tasks ended, over the whole farm. Its own table, so that numbers of deleted jobs do not come back.
CREATE TABLE outcome_sequence(one INTEGER NOT NULL PRIMARY KEY CHECK(one = 1), last INTEGER NOT NULL) STRICT;
INSERT INTO outcome_sequence VALUES (1, 0);
