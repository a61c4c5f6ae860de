-- name: begin
BEGIN IMMEDIATE;

-- name: commit
COMMIT;

-- name: rollback
ROLLBACK;

-- name: savepoint
SAVEPOINT one_append;

-- name: release
RELEASE one_append;

-- name: undo
ROLLBACK TO one_append;

-- name: identify
INSERT INTO log (one, log_id, oldest, head) VALUES (1, :log_id, 0, 0);

-- name: bounds
SELECT log_id, oldest, head FROM log;

-- name: set_head
UPDATE log SET head = :head;

-- name: set_oldest
UPDATE log SET oldest = :oldest;

-- name: run
SELECT run_id, project, request_id, digest, created, head, term, final FROM runs WHERE run_id = :run_id;

-- name: requested
SELECT run_id, project, request_id, digest, created, head, term, final FROM runs
WHERE project = :project AND request_id = :request_id AND run_id <> 'fleet';

-- name: open_runs
SELECT run_id, project, request_id, digest, created, head, term, final FROM runs
WHERE NOT final AND created > :after AND run_id <> 'fleet'
ORDER BY created LIMIT :limit;

-- name: put_run
INSERT INTO runs (run_id, project, request_id, digest, created, head, term, final)
VALUES (:run_id, :project, :request_id, :digest, :created, :head, :term, :final)
ON CONFLICT (run_id) DO UPDATE SET head = excluded.head, term = excluded.term, final = excluded.final;

-- name: insert_record
INSERT INTO records (revision, run_id, kind, public, task_id, attempt_id, sequence, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: put_row
INSERT INTO standing (run_id, kind, id, ordinal, task_id, final, revision, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, kind, id) DO UPDATE SET
    final = excluded.final, revision = excluded.revision, body = excluded.body;

-- name: journaled_notice
SELECT 1 FROM records WHERE attempt_id = :attempt_id AND sequence = :sequence AND sequence > 0 AND revision <= :head;

-- Entries of all runs, or of several: at most so many revisions are looked at, after :after until :until.
-- name: entries
WITH matching AS (
    SELECT revision, length(body) AS size
    FROM records
    WHERE revision > :after AND revision <= :until
        AND (NOT :public_only OR public)
        AND (:kinds IS NULL OR kind IN (SELECT value FROM json_each(:kinds)))
        AND (:tasks IS NULL OR task_id IN (SELECT value FROM json_each(:tasks)))
        AND (:runs IS NULL OR run_id IN (SELECT value FROM json_each(:runs)))
        AND (:project = '' OR run_id = 'fleet' OR EXISTS (
            SELECT 1 FROM runs WHERE runs.run_id = records.run_id AND runs.project = :project))
    ORDER BY revision LIMIT :limit
), measured AS (
    SELECT revision, sum(size) OVER (ORDER BY revision) AS total, count(*) OVER () AS matches
    FROM matching
)
SELECT matches, revision, run_id, kind, public, task_id, attempt_id, sequence, body
FROM measured JOIN records USING (revision)
WHERE total <= :bytes OR revision = (SELECT min(revision) FROM matching)
ORDER BY revision;

-- Entries of one run, by its index.
-- name: run_entries
WITH matching AS (
    SELECT revision, length(body) AS size
    FROM records
    WHERE run_id = :run_id AND revision > :after
        AND (NOT :public_only OR public)
        AND (:kinds IS NULL OR kind IN (SELECT value FROM json_each(:kinds)))
        AND (:tasks IS NULL OR task_id IN (SELECT value FROM json_each(:tasks)))
        AND (:project = '' OR run_id = 'fleet' OR EXISTS (
            SELECT 1 FROM runs WHERE runs.run_id = records.run_id AND runs.project = :project))
    ORDER BY revision LIMIT :limit
), measured AS (
    SELECT revision, sum(size) OVER (ORDER BY revision) AS total, count(*) OVER () AS matches
    FROM matching
)
SELECT matches, revision, run_id, kind, public, task_id, attempt_id, sequence, body
FROM measured JOIN records USING (revision)
WHERE total <= :bytes OR revision = (SELECT min(revision) FROM matching)
ORDER BY revision;

-- name: run_rows
WITH matching AS (
    SELECT created, run_id
    FROM runs
    WHERE (:before IS NULL OR created < :before) AND (:project = '' OR project = :project) AND run_id <> 'fleet'
    ORDER BY created DESC LIMIT :limit + 1
), measured AS (
    SELECT created, standing.rowid AS place,
        sum(length(body)) OVER (ORDER BY created DESC) AS total,
        row_number() OVER (ORDER BY created DESC) AS number,
        count(*) OVER () AS matches
    FROM matching JOIN standing USING (run_id) WHERE kind = 'run'
)
SELECT matches, run_id, revision, kind, id, ordinal, body, final, task_id
FROM measured JOIN standing ON standing.rowid = place
WHERE number <= :limit AND (total <= :bytes OR number = 1)
ORDER BY created DESC;

-- name: rows
WITH measured AS (
    SELECT rowid AS place,
        sum(length(body)) OVER (ORDER BY ordinal) AS total,
        row_number() OVER (ORDER BY ordinal) AS number,
        count(*) OVER () AS matches
    FROM (
        SELECT rowid, ordinal, body
        FROM standing
        WHERE run_id = :run_id AND kind = :kind AND (:after IS NULL OR ordinal > :after)
            AND (:task_id = '' OR task_id = :task_id)
        ORDER BY ordinal LIMIT :limit + 1
    )
)
SELECT matches, run_id, revision, kind, id, ordinal, body, final, task_id
FROM measured JOIN standing ON standing.rowid = place
WHERE number <= :limit AND (total <= :bytes OR number = 1)
ORDER BY ordinal;

-- name: row
SELECT 1, run_id, revision, kind, id, ordinal, body, final, task_id
FROM standing WHERE run_id = :run_id AND kind = :kind AND id = :id;

-- name: attempt
SELECT 1, run_id, revision, kind, id, ordinal, body, final, task_id
FROM standing WHERE kind = 'attempt' AND id = :id;

-- name: final_tasks
SELECT count(*) FROM standing
WHERE run_id = :run_id AND kind = 'task' AND final AND id IN (SELECT value FROM json_each(:tasks));

-- name: ended_runs
SELECT run_id FROM runs WHERE final AND head <= :through ORDER BY created;

-- name: drop_standing
DELETE FROM standing WHERE run_id IN (SELECT run_id FROM runs WHERE final AND head <= :through);

-- name: drop_runs
DELETE FROM runs WHERE final AND head <= :through;

-- name: drop_records
DELETE FROM records WHERE revision <= :through;
