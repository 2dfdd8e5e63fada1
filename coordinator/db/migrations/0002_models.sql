-- Model packs. A pack without a name was replaced under its name and stays while running jobs need it.
CREATE TABLE model(
  id            TEXT    NOT NULL PRIMARY KEY CHECK(length(id) = 64),
  name          TEXT    UNIQUE,
  task          TEXT    NOT NULL CHECK(task IN ('enhance', 'score', 'classify')),
  card          TEXT    NOT NULL,  -- model.json
  bundle_sha256 TEXT    NOT NULL REFERENCES blob(sha256),
  shipped       INTEGER NOT NULL CHECK(shipped IN (0, 1))  -- from the coordinator's own folder, not put by a user
) STRICT;
CREATE INDEX model_bundle ON model(bundle_sha256);
