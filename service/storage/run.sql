-- name: run_start
-- Returns the id of the run under way when there is one. Setting the id to itself keeps that one until we have looked.
INSERT INTO run (tenant_id, run_id, integration_id, kind, key_id, options) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, integration_id, kind) WHERE state IN (1, 2, 3) DO UPDATE SET run_id = run.run_id
RETURNING run_id

-- name: run_get
SELECT
    run_id, integration_id, kind, state, progress || steps || options AS report, reason, description, key_id,
    create_time, start_time, end_time, update_time
FROM run
WHERE tenant_id = $1 AND run_id = $2

-- name: run_page
SELECT
    run_id, integration_id, kind, state, progress || options AS report, reason, description, key_id,
    create_time, start_time, end_time, update_time
FROM run
WHERE tenant_id = $1 AND run_id < $2
    AND ($3::text = '' OR integration_id = $3)
    AND ($4::smallint = 0 OR kind = $4)
    AND ($5::smallint = 0 OR state = $5)
ORDER BY run_id DESC
LIMIT $6

-- name: run_cancel
-- Nothing is returned for a run that has ended.
UPDATE run
SET state = CASE WHEN state = 1 THEN 6 ELSE 3 END,
    end_time = CASE WHEN state = 1 THEN now() END,
    update_time = now()
WHERE tenant_id = $1 AND run_id = $2 AND state IN (1, 2, 3)
RETURNING run_id

-- name: run_claim
-- tenant: any, because one worker serves them all. The attempt is counted before it is made, so that one that kills its
-- process is counted too. Imports (3) that have not begun, or rest, wait for the end of a pause. What rests comes after what
-- waits.
-- Materialized: a subquery may be asked again for each row of a nested loop, and would lock, and lose, one more each time.
WITH next AS MATERIALIZED (
    SELECT w.tenant_id, w.run_id, i.type
    FROM run AS w
    JOIN integration AS i USING (tenant_id, integration_id)
    JOIN unnest($1::smallint[], $2::smallint[]) AS executor (kind, type) ON (w.kind, i.type) = (executor.kind, executor.type)
    WHERE w.state IN (1, 2, 3) AND w.lease_until <= now()
        AND (i.pause_time IS NULL OR w.kind <> 3 OR w.state <> 1)
    ORDER BY w.lease_until, w.run_id
    LIMIT 1
    FOR UPDATE OF w SKIP LOCKED
)
UPDATE run AS r
SET state = CASE WHEN r.state = 1 THEN 2 ELSE r.state END, lease_token = r.lease_token + 1,
    lease_until = now() + $3::interval, attempts = r.attempts + 1,
    start_time = coalesce(r.start_time, now()), update_time = now()
FROM next
WHERE r.tenant_id = next.tenant_id AND r.run_id = next.run_id
RETURNING
    r.tenant_id, r.run_id, r.integration_id, r.kind, next.type, r.state, r.lease_token, r.attempts, r.key_id, r.options,
    r.start_time

-- name: run_report
-- Fenced by the lease token.
UPDATE run
SET progress = $4, steps = $5, lease_until = now() + $6::interval,
    update_time = CASE WHEN progress = $4 AND steps = $5 THEN update_time ELSE now() END
WHERE tenant_id = $1 AND run_id = $2 AND lease_token = $3 AND state IN (2, 3)
RETURNING state

-- name: run_findings_add
-- Fenced by the lease token. What was added before stays.
INSERT INTO run_finding (tenant_id, run_id, lease_token, number, outcome, payload)
SELECT r.tenant_id, r.run_id, r.lease_token, new.number, new.outcome, new.payload
FROM run AS r
CROSS JOIN unnest($4::integer[], $5::smallint[], $6::bytea[]) AS new (number, outcome, payload)
WHERE r.tenant_id = $1 AND r.run_id = $2 AND r.lease_token = $3
ON CONFLICT DO NOTHING

-- name: run_findings_keep
-- Fenced by the lease token. Those of the attempt before, which has kept those of the ones before it.
WITH held AS MATERIALIZED (
    SELECT FROM run WHERE tenant_id = $1 AND run_id = $2 AND lease_token = $3 FOR KEY SHARE
)
UPDATE run_finding SET lease_token = $3
WHERE tenant_id = $1 AND run_id = $2 AND lease_token < $3 AND EXISTS (SELECT FROM held)
RETURNING number, payload

-- name: run_findings_page
-- Those of the last attempt.
SELECT f.number, f.payload
FROM run_finding AS f
JOIN run AS r USING (tenant_id, run_id, lease_token)
WHERE f.tenant_id = $1 AND f.run_id = $2 AND f.number > $3 AND ($4::smallint = 0 OR f.outcome = $4)
ORDER BY f.number
LIMIT $5

-- name: run_came_on
-- Fenced by the lease token. Its attempts count from this one again, for it came somewhere.
UPDATE run SET attempts = 1 WHERE tenant_id = $1 AND run_id = $2 AND lease_token = $3 AND attempts > 1

-- name: run_hold
-- Fenced by the lease token; nobody claims the run until the transaction ends.
WITH connected AS MATERIALIZED (
    SELECT FROM integration WHERE tenant_id = $1 AND integration_id = $4 FOR KEY SHARE
)
SELECT true FROM run
WHERE tenant_id = $1 AND run_id = $2 AND lease_token = $3 AND state IN (2, 3) AND EXISTS (SELECT FROM connected)
FOR KEY SHARE

-- name: run_end
-- Fenced by the lease token.
UPDATE run
SET progress = $4, steps = $5, state = $6, reason = $7, description = $8, end_time = now(), update_time = now()
WHERE tenant_id = $1 AND run_id = $2 AND lease_token = $3 AND state IN (2, 3)
RETURNING state

-- name: run_hand_back
-- Fenced by the lease token.
UPDATE run
SET state = CASE WHEN state = 2 THEN 1 ELSE state END, lease_until = '-infinity', attempts = attempts - 1,
    update_time = now()
WHERE tenant_id = $1 AND run_id = $2 AND lease_token = $3 AND state IN (2, 3)

-- name: run_rest
-- Fenced by the lease token. Its attempts count from 0 again, for this one came somewhere.
UPDATE run
SET state = CASE WHEN state = 2 THEN 1 ELSE state END, lease_until = now(), attempts = 0, progress = $4, steps = $5,
    update_time = now()
WHERE tenant_id = $1 AND run_id = $2 AND lease_token = $3 AND state IN (2, 3)
RETURNING state
