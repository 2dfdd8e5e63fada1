-- How good files were before and after, and the packs that judge them.
ALTER TABLE task ADD COLUMN file_share REAL NOT NULL DEFAULT 1;  -- how much of its file the task is, 0 to 1; of a chunk 0
ALTER TABLE task ADD COLUMN score_before REAL CHECK(score_before BETWEEN 0 AND 100);  -- NULL: not scored
ALTER TABLE task ADD COLUMN score_after REAL CHECK((score_after IS NULL) = (score_before IS NULL) AND coalesce(score_after, 0) BETWEEN 0 AND 100);

-- Kept by the trigger below: sums over the tasks that are done and scored, each by its share of its file.
ALTER TABLE job ADD COLUMN scored REAL NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN score_before REAL NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN score_after REAL NOT NULL DEFAULT 0;

CREATE TRIGGER task_count_scores AFTER UPDATE OF state ON task
WHEN NEW.state = 'done' AND OLD.state <> 'done' AND NEW.score_before IS NOT NULL BEGIN
  UPDATE job SET
    scored = scored + NEW.file_share,
    score_before = score_before + NEW.file_share * NEW.score_before,
    score_after = score_after + NEW.file_share * NEW.score_after
  WHERE id = NEW.job_id;
END;

-- Packs that a job needs besides job.model_id.
CREATE TABLE job_model(
  job_id   TEXT NOT NULL REFERENCES job(id) ON DELETE CASCADE,
  model_id TEXT NOT NULL,
  PRIMARY KEY(job_id, model_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_model_model ON job_model(model_id);
