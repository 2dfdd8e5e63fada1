-- Segments of videos: tasks that restore some frames of a file.
ALTER TABLE job_file ADD COLUMN index_sha256 TEXT REFERENCES blob(sha256);  -- of a video: its nsic.v1.VideoIndex
CREATE INDEX job_file_index ON job_file(index_sha256) WHERE index_sha256 IS NOT NULL;

ALTER TABLE task ADD COLUMN first_frame INTEGER CHECK(first_frame >= 0);  -- NULL: a picture or a part of one
ALTER TABLE task ADD COLUMN frame_count INTEGER CHECK((frame_count IS NULL) = (first_frame IS NULL) AND coalesce(frame_count, 1) >= 1);
ALTER TABLE task ADD COLUMN segment BLOB  -- nsic.v1.Segment
  CHECK((segment IS NULL) = (first_frame IS NULL) AND (segment IS NULL OR x IS NULL));
