-- name: delivery_find
SELECT
    w.delivery_id, w.integration_id, w.object_kind, w.object_id, w.state, w.reason, w.description, w.failed_attempts,
    w.next_attempt_time, w.create_time, w.update_time, w.peer_state, w.external_id, w.acknowledged_version,
    w.acknowledge_time
FROM delivery_whole AS w
JOIN integration AS i USING (tenant_id, integration_id)
WHERE w.tenant_id = $1 AND w.delivery_id = ANY($2::uuid[]) AND i.delete_time IS NULL

-- name: delivery_page
-- The first of each integration and state ($5), from the index of those: however many there are of others.
WITH page AS MATERIALIZED (
    SELECT first.delivery_id
    FROM integration AS i
    CROSS JOIN unnest($5::smallint[]) AS wanted (state)
    CROSS JOIN LATERAL (
        SELECT delivery_id
        FROM delivery
        WHERE tenant_id = $1 AND integration_id = i.integration_id AND state = wanted.state AND delivery_id > $2
            AND ($4::smallint = 0 OR object_kind = $4)
        ORDER BY delivery_id
        LIMIT $6
    ) AS first
    WHERE i.tenant_id = $1 AND ($3::text = '' OR i.integration_id = $3) AND i.delete_time IS NULL
    ORDER BY first.delivery_id
    LIMIT $6
)
SELECT
    w.delivery_id, w.integration_id, w.object_kind, w.object_id, w.state, w.reason, w.description, w.failed_attempts,
    w.next_attempt_time, w.create_time, w.update_time, w.peer_state, w.external_id, w.acknowledged_version,
    w.acknowledge_time
FROM page
JOIN delivery_whole AS w ON w.tenant_id = $1 AND w.delivery_id = page.delivery_id
ORDER BY w.delivery_id

-- name: delivery_page_of
-- Of objects ($6), of the kinds $4.
SELECT
    w.delivery_id, w.integration_id, w.object_kind, w.object_id, w.state, w.reason, w.description, w.failed_attempts,
    w.next_attempt_time, w.create_time, w.update_time, w.peer_state, w.external_id, w.acknowledged_version,
    w.acknowledge_time
FROM integration AS i
CROSS JOIN unnest($4::smallint[]) AS wanted (kind)
CROSS JOIN unnest($6::text[]) AS named (id)
JOIN delivery_whole AS w ON w.tenant_id = $1 AND w.integration_id = i.integration_id AND w.object_kind = wanted.kind
    AND w.object_id = named.id
WHERE i.tenant_id = $1 AND ($3::text = '' OR i.integration_id = $3) AND i.delete_time IS NULL
    AND w.state = ANY($5::smallint[]) AND w.delivery_id > $2
ORDER BY w.delivery_id
LIMIT $7

-- name: delivery_attempts
SELECT start_time, duration, reason, description, http_status, partner_code, sent_version
FROM delivery_attempt
WHERE tenant_id = $1 AND delivery_id = $2
ORDER BY attempt_id DESC
LIMIT 20

-- name: delivery_key
SELECT tenant_id, integration_id, object_kind, object_id FROM delivery WHERE tenant_id = $1 AND delivery_id = $2

-- name: delivery_integration
SELECT integration_id FROM delivery WHERE tenant_id = $1 AND delivery_id = $2

-- name: delivery_retry
-- Nothing is returned for a delivery under way whose worker is alive.
UPDATE delivery
SET state = 1, generation = generation + 1, verify = true, overwrite = $3, due_time = now(), failed_attempts = 0,
    fail_time = NULL, pending_time = CASE WHEN state IN (3, 5) THEN now() ELSE pending_time END, update_time = now()
WHERE tenant_id = $1 AND delivery_id = $2 AND (state <> 2 OR lease_until <= now())
RETURNING delivery_id

-- name: delivery_discard
-- Nothing is returned for a delivery under way whose worker is alive.
UPDATE delivery
SET state = CASE WHEN state = 3 THEN 3 ELSE 5 END, verify = false, overwrite = false, lease_until = '-infinity',
    fail_time = NULL, update_time = now()
WHERE tenant_id = $1 AND delivery_id = $2 AND (state <> 2 OR lease_until <= now())
RETURNING delivery_id

-- name: delivery_retry_parked
-- A slice of them, in the order in which changes mark them.
WITH retried AS (
    UPDATE delivery AS d
    SET state = 1, generation = d.generation + 1, verify = true, due_time = now(), failed_attempts = 0, fail_time = NULL,
        update_time = now()
    FROM (
        SELECT delivery_id
        FROM delivery
        WHERE tenant_id = $1 AND integration_id = $2 AND ($3::smallint = 0 OR object_kind = $3) AND state = 4
        ORDER BY object_kind, object_id
        LIMIT $4
        FOR UPDATE
    ) AS parked
    WHERE d.tenant_id = $1 AND d.delivery_id = parked.delivery_id
    RETURNING true
)
SELECT count(*) FROM retried

-- name: delivery_redeliver
-- One under way (2) is done again afterwards. In the order in which changes mark them.
UPDATE delivery AS d
SET state = CASE WHEN d.state = 2 THEN 2 ELSE 1 END, generation = d.generation + 1, verify = true, overwrite = true,
    due_time = now(), failed_attempts = CASE WHEN d.state = 2 THEN d.failed_attempts ELSE 0 END, fail_time = NULL,
    pending_time = CASE WHEN d.state IN (3, 5) THEN now() ELSE d.pending_time END, update_time = now()
FROM (
    SELECT delivery_id
    FROM delivery
    WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id = ANY($4::text[])
    ORDER BY object_id
    FOR UPDATE
) AS due
WHERE d.tenant_id = $1 AND d.delivery_id = due.delivery_id

-- name: peer_parts_doubt
-- Whether the partner holds the parts (3) is not certain any more (2), so each is sent again once.
UPDATE peer_part SET state = 2
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id = ANY($4::text[]) AND state = 3

-- name: delivery_count
SELECT count(*) FROM delivery WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = ANY($3::smallint[])

-- name: delivery_summary
-- Each number as far as $3, so that it takes the same time however many there are.
SELECT
    counted.numbers[1] AS pending_count, counted.numbers[2] AS in_progress_count, counted.numbers[3] AS delivered_count,
    counted.numbers[4] AS parked_count, counted.numbers[5] AS discarded_count,
    (
        SELECT pending_time FROM delivery
        WHERE tenant_id = $1 AND integration_id = $2 AND state IN (1, 2)
        ORDER BY pending_time
        LIMIT 1
    ) AS oldest_pending_time
FROM (
    SELECT array_agg(
        (
            SELECT count(*)
            FROM (
                SELECT FROM delivery WHERE tenant_id = $1 AND integration_id = $2 AND state = each.state LIMIT $3
            ) AS few
        )
        ORDER BY each.state
    ) AS numbers
    FROM generate_series(1, 5) AS each (state)
) AS counted

-- name: delivery_recent_attempts
-- The newest of the last hour, as far as $3.
SELECT count(*) AS recent_attempt_count, count(*) FILTER (WHERE reason = 0) AS recent_success_count
FROM (
    SELECT reason
    FROM delivery_attempt
    WHERE tenant_id = $1 AND integration_id = $2 AND start_time > now() - interval '1 hour'
    ORDER BY start_time DESC
    LIMIT $3
) AS recent

-- name: delivery_backlog
-- tenant: any, because operators watch them all. Counts as far as $1. What waits for another object to be there is not due.
SELECT
    i.tenant_id, i.integration_id, i.status, waiting.count AS waiting, parked.count AS parked,
    COALESCE(EXTRACT(epoch FROM now() - waiting.oldest), 0)::float8 AS waiting_s
FROM integration AS i
CROSS JOIN LATERAL (
    SELECT count(*), min(few.pending_time) AS oldest
    FROM (
        SELECT d.pending_time
        FROM delivery AS d
        WHERE d.tenant_id = i.tenant_id AND d.integration_id = i.integration_id AND d.state IN (1, 2)
            AND d.due_time < 'infinity'
        ORDER BY d.pending_time
        LIMIT $1
    ) AS few
) AS waiting
CROSS JOIN LATERAL (
    SELECT count(*)
    FROM (
        SELECT FROM delivery AS d
        WHERE d.tenant_id = i.tenant_id AND d.integration_id = i.integration_id AND d.state = 4
        LIMIT $1
    ) AS few
) AS parked
WHERE i.delete_time IS NULL

-- name: delivery_waiting
-- tenant: any, because one worker serves them all. LIMIT keeps the first due one from being looked for among all. Who waits
-- longest comes first, and after them where something has failed since the partner last took an object.
SELECT i.tenant_id, i.integration_id, i.type
FROM integration AS i
CROSS JOIN LATERAL (
    SELECT d.due_time
    FROM delivery AS d
    WHERE d.tenant_id = i.tenant_id AND d.integration_id = i.integration_id AND d.state IN (1, 2)
        AND d.due_time <= now() AND d.lease_until <= now()
    ORDER BY d.due_time
    LIMIT 1
) AS due
LEFT JOIN gate_pause AS failing
    ON failing.tenant_id = i.tenant_id AND failing.integration_id = i.integration_id AND failing.scope = 0
WHERE i.enabled AND i.pause_time IS NULL
    AND NOT EXISTS (
        SELECT FROM gate_pause AS held
        WHERE held.tenant_id = i.tenant_id AND held.integration_id = i.integration_id AND held.resume_time > now()
    )
ORDER BY failing.resume_time NULLS FIRST, due.due_time

-- name: delivery_claim
-- The attempt is counted before it is made, so that one that kills its process is counted too. `healthy`: the integration
-- is ACTIVE (2), and nothing has failed since the partner last took an object. Tariffs (4) go before locations (5).
-- Materialized: a subquery may be asked again for each row of a nested loop, and would lock, and lose, one more each time.
WITH next AS MATERIALIZED (
    SELECT
        w.delivery_id,
        i.status = 2 AND NOT EXISTS (
            SELECT FROM gate_pause AS failing
            WHERE failing.tenant_id = $1 AND failing.integration_id = $2 AND failing.scope = 0
        ) AS healthy
    FROM delivery AS w
    JOIN integration AS i USING (tenant_id, integration_id)
    WHERE w.tenant_id = $1 AND w.integration_id = $2 AND w.state IN (1, 2)
        AND w.due_time <= now() AND w.lease_until <= now()
        AND i.enabled AND i.pause_time IS NULL
        AND NOT EXISTS (
            SELECT FROM gate_pause AS held
            WHERE held.tenant_id = $1 AND held.integration_id = $2 AND held.resume_time > now()
        )
    ORDER BY w.due_time, w.object_kind, w.object_id
    LIMIT 1
    FOR UPDATE OF w SKIP LOCKED
)
UPDATE delivery AS d
SET state = 2, lease_token = d.lease_token + 1, lease_until = now() + $3::interval,
    failed_attempts = d.failed_attempts + 1, update_time = now()
FROM next
WHERE d.tenant_id = $1 AND d.delivery_id = next.delivery_id
RETURNING
    d.delivery_id, d.object_kind, d.object_id, d.generation, d.lease_token, d.failed_attempts, d.verify, d.overwrite,
    next.healthy

-- name: delivery_renew
-- Fenced by the lease token.
UPDATE delivery SET lease_until = now() + $4::interval
WHERE tenant_id = $1 AND delivery_id = $2 AND lease_token = $3 AND state = 2
RETURNING true

-- name: delivery_hold
-- Fenced by the lease token; nobody claims the delivery until the transaction ends.
WITH connected AS MATERIALIZED (
    SELECT FROM integration WHERE tenant_id = $1 AND integration_id = $4 FOR KEY SHARE
)
SELECT true
FROM delivery
WHERE tenant_id = $1 AND delivery_id = $2 AND lease_token = $3 AND state = 2 AND EXISTS (SELECT FROM connected)
FOR NO KEY UPDATE

-- name: delivery_failed
-- A parked delivery that changed meanwhile is due again; without a delay ($6) it is due once it changes or is resumed.
-- Fenced by the lease token.
UPDATE delivery
SET state = CASE WHEN $5::boolean AND generation = $4 THEN 4 ELSE 1 END,
    overwrite = overwrite AND NOT $5,
    lease_until = '-infinity',
    due_time = CASE WHEN generation = $4 THEN coalesce(now() + $6::interval, 'infinity') ELSE now() END,
    failed_attempts = failed_attempts - CASE WHEN $7::boolean THEN 0 ELSE 1 END,
    fail_time = CASE WHEN $8::boolean THEN now() END,
    reason = $9, description = $10, update_time = now()
WHERE tenant_id = $1 AND delivery_id = $2 AND lease_token = $3 AND state = 2
RETURNING state

-- name: delivery_streak
-- Of the failures in a row that began at $4: how many objects beside this one failed for the reason $5, up to $6, whether
-- this one had failed before they began, and how long the outage lasts that began at $7.
SELECT
    coalesce(now() - $7::timestamptz, interval '0') AS lasts,
    coalesce((SELECT fail_time < $4 FROM delivery WHERE tenant_id = $1 AND delivery_id = $3), false) AS proven,
    (
        SELECT count(*)
        FROM (
            SELECT FROM delivery
            WHERE tenant_id = $1 AND integration_id = $2 AND fail_time >= $4 AND delivery_id <> $3 AND reason = $5
            LIMIT $6
        ) AS others
    ) AS others

-- name: delivery_unpark
-- Those that were parked by the failures in a row that last, for the reason $3 or for any. In the order in which changes
-- mark them.
WITH connected AS MATERIALIZED (
    SELECT FROM integration WHERE tenant_id = $1 AND integration_id = $2 FOR KEY SHARE
)
UPDATE delivery AS d
SET state = 1, due_time = now(), update_time = now()
FROM (
    SELECT delivery_id
    FROM delivery
    WHERE tenant_id = $1 AND integration_id = $2 AND state = 4 AND ($3::smallint IS NULL OR reason = $3)
        AND fail_time >= (
            SELECT begin_time FROM gate_pause WHERE tenant_id = $1 AND integration_id = $2 AND scope = 0
        )
        AND EXISTS (SELECT FROM connected)
    ORDER BY object_kind, object_id
    FOR UPDATE
) AS parked
WHERE d.tenant_id = $1 AND d.delivery_id = parked.delivery_id

-- name: delivery_resume
-- Others than $5 that wait for the reason $4; those under way (2) look again afterwards. In the order in which changes mark them.
WITH connected AS MATERIALIZED (
    SELECT FROM integration WHERE tenant_id = $1 AND integration_id = $2 FOR KEY SHARE
)
UPDATE delivery AS d
SET generation = d.generation + 1, state = CASE WHEN d.state = 2 THEN 2 ELSE 1 END, due_time = now(), update_time = now(),
    failed_attempts = CASE WHEN d.state = 2 THEN d.failed_attempts ELSE 0 END
FROM (
    SELECT delivery_id
    FROM delivery
    WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND delivery_id <> $5
        AND (state = 2 OR state IN (1, 4) AND reason = $4) AND EXISTS (SELECT FROM connected)
    ORDER BY object_id
    FOR UPDATE
) AS waiting
WHERE d.tenant_id = $1 AND d.delivery_id = waiting.delivery_id

-- name: delivery_attempt_failed
INSERT INTO delivery_attempt
    (tenant_id, delivery_id, start_time, duration, reason, description, http_status, partner_code, sent_version,
     integration_id)
VALUES ($1, $2, now() - $3::interval, $3, $4, $5, $6, $7, 0, $8)
