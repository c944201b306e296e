-- name: status_troubles
-- tenant: any, because the operator's command line looks at all; $1 is one of them, or empty. Failing: since when it is an
-- outage, and why the newest attempt failed. Untaken: what has been due for $2, held back by nothing, and no process made
-- an attempt meanwhile. Counts, and reasons, as far as $3.
SELECT
    i.tenant_id, i.integration_id, failing.outage_time AS failing_since, newest.reason AS failure,
    coalesce(untaken.count, 0) AS untaken, untaken.since AS untaken_since,
    parked.since AS parked_since, coalesce(parked.reasons, '{}') AS parked_reasons
FROM integration AS i
LEFT JOIN gate_pause AS failing
    ON failing.tenant_id = i.tenant_id AND failing.integration_id = i.integration_id AND failing.scope = 0
LEFT JOIN LATERAL (
    SELECT a.reason
    FROM delivery_attempt AS a
    WHERE a.tenant_id = i.tenant_id AND a.integration_id = i.integration_id
    ORDER BY a.start_time DESC
    LIMIT 1
) AS newest ON failing.outage_time IS NOT NULL
LEFT JOIN LATERAL (
    SELECT count(*), min(few.due_time) AS since
    FROM (
        SELECT d.due_time
        FROM delivery AS d
        WHERE d.tenant_id = i.tenant_id AND d.integration_id = i.integration_id AND d.state IN (1, 2)
            AND d.due_time < now() - $2::interval AND d.lease_until < now() - $2::interval
        ORDER BY d.due_time
        LIMIT $3
    ) AS few
) AS untaken ON i.enabled AND i.pause_time IS NULL
    AND NOT EXISTS (
        SELECT FROM gate_pause AS held
        WHERE held.tenant_id = i.tenant_id AND held.integration_id = i.integration_id
            AND held.resume_time > now() - $2::interval
    )
    AND NOT EXISTS (
        SELECT FROM delivery_attempt AS a
        WHERE a.tenant_id = i.tenant_id AND a.integration_id = i.integration_id AND a.start_time > now() - $2::interval
    )
CROSS JOIN LATERAL (
    SELECT min(few.update_time) AS since, array_agg(DISTINCT few.reason ORDER BY few.reason) AS reasons
    FROM (
        SELECT d.update_time, d.reason
        FROM delivery AS d
        WHERE d.tenant_id = i.tenant_id AND d.integration_id = i.integration_id AND d.state = 4
        LIMIT $3
    ) AS few
) AS parked
WHERE ($1::text = '' OR i.tenant_id = $1) AND i.delete_time IS NULL
ORDER BY i.tenant_id, i.integration_id

-- name: status_failed_runs
-- The last run of each kind where that failed (5), of the newest $3.
SELECT ended.kind, ended.reason, ended.end_time
FROM (
    SELECT DISTINCT ON (newest.kind) newest.kind, newest.state, newest.reason, newest.end_time
    FROM (
        SELECT r.kind, r.state, r.reason, r.end_time, r.run_id
        FROM run AS r
        WHERE r.tenant_id = $1 AND r.integration_id = $2
        ORDER BY r.run_id DESC
        LIMIT $3
    ) AS newest
    WHERE newest.state IN (4, 5)
    ORDER BY newest.kind, newest.run_id DESC
) AS ended
WHERE ended.state = 5
