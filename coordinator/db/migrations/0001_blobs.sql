-- Which blobs there are. A row outlives its file (stored = 0) while a task names it: the result stays known after its bytes went.
CREATE TABLE blob(
  sha256     TEXT    NOT NULL PRIMARY KEY CHECK(length(sha256) = 64 AND sha256 NOT GLOB '*[^0-9a-f]*'),
  size       INTEGER NOT NULL CHECK(size >= 0),
  chunks     BLOB    NOT NULL CHECK(length(chunks) % 32 = 0),  -- SHA-256 of every 4 MiB
  stored     INTEGER NOT NULL CHECK(stored IN (0, 1)),
  touched_ms INTEGER NOT NULL  -- when someone was last told that it is there; 0: just given up, look whether it can go
) STRICT;
CREATE INDEX blob_touched ON blob(touched_ms) WHERE stored = 1;
