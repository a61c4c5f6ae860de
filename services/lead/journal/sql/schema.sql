-- The journal in one SQLite file, schema version 1.

-- One row: the log's identity and ends. `oldest` is the last revision trimmed.
CREATE TABLE log (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    log_id TEXT NOT NULL,
    oldest INTEGER NOT NULL,
    head INTEGER NOT NULL
) STRICT;

-- `created` and `head` are the revisions of the run's first and last records.
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    request_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    created INTEGER NOT NULL,
    head INTEGER NOT NULL,
    term INTEGER NOT NULL,
    final INTEGER NOT NULL,
    UNIQUE (project, request_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_by_age ON runs (created);
CREATE INDEX runs_by_project ON runs (project, created);
CREATE INDEX runs_open ON runs (created) WHERE NOT final;

-- The log. Revisions have no gaps; the body comes last, so that a scan need not read it.
CREATE TABLE records (
    revision INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    public INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    attempt_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE INDEX records_by_run ON records (run_id, revision);
CREATE UNIQUE INDEX notices ON records (attempt_id, sequence) WHERE sequence > 0;

-- Where runs, tasks and attempts stand, and the last revision of the append that says so.
CREATE TABLE standing (
    run_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    final INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (run_id, kind, id)
) STRICT;

CREATE UNIQUE INDEX standing_in_order ON standing (run_id, kind, ordinal);
CREATE UNIQUE INDEX attempts ON standing (id) WHERE kind = 'attempt';

INSERT INTO runs (run_id, project, request_id, digest, created, head, term, final)
VALUES ('fleet', '', '', '', 0, 0, 0, 0);
