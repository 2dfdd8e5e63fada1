-- Tasks that need other tasks: chunk tasks restore the frames of a segment, an encode task makes the segment of them.
ALTER TABLE task ADD COLUMN step TEXT  -- of a segment; NULL: all of it
  CHECK(step IS NULL OR (step IN ('chunk', 'encode') AND segment IS NOT NULL));

CREATE TABLE task_need(
  task_id  INTEGER NOT NULL REFERENCES task(id) ON DELETE CASCADE,
  needs_id INTEGER NOT NULL REFERENCES task(id) ON DELETE CASCADE,
  PRIMARY KEY(task_id, needs_id),
  CHECK(task_id > needs_id)  -- what is needed was there before: no circles
) STRICT, WITHOUT ROWID;
CREATE INDEX task_need_back ON task_need(needs_id);
CREATE INDEX task_encode ON task(job_id, suspect, idx) WHERE state = 'queued' AND step = 'encode';

INSERT INTO task_transition VALUES ('waiting', 'failed', 'need');
