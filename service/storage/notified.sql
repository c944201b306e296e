-- name: notified_put
-- A new object only as long as there are fewer than $5 of the integration.
INSERT INTO notified (tenant_id, integration_id, object_kind, external_id, notify_time)
SELECT $1, $2, $3, $4, clock_timestamp()
WHERE $5 > (
        SELECT count(*) FROM (SELECT FROM notified WHERE tenant_id = $1 AND integration_id = $2 LIMIT $5) AS held
    ) OR EXISTS (
        SELECT FROM notified
        WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND external_id = $4
    )
ON CONFLICT (tenant_id, integration_id, object_kind, external_id) DO UPDATE SET notify_time = excluded.notify_time

-- name: notified_is_due
-- At once, or $3 after it was begun last; what is due already stays so.
INSERT INTO notified_due (tenant_id, integration_id, due_time) VALUES ($1, $2, now())
ON CONFLICT (tenant_id, integration_id) DO UPDATE SET due_time = greatest(now(), notified_due.begin_time + $3::interval)
WHERE notified_due.due_time IS NULL

-- name: notified_begin
-- tenant: any, because one worker serves them all.
WITH next AS MATERIALIZED (
    SELECT d.tenant_id, d.integration_id
    FROM notified_due AS d
    JOIN integration AS i USING (tenant_id, integration_id)
    WHERE d.due_time <= now() AND i.enabled AND i.pause_time IS NULL
    ORDER BY d.due_time
    LIMIT 1
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE notified_due AS d SET due_time = NULL, begin_time = now()
FROM next
WHERE d.tenant_id = next.tenant_id AND d.integration_id = next.integration_id
RETURNING d.tenant_id, d.integration_id, EXISTS (
    SELECT FROM notified WHERE tenant_id = d.tenant_id AND integration_id = d.integration_id
) AS is_noted

-- name: notified_page
SELECT external_id, notify_time
FROM notified
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3
ORDER BY external_id
LIMIT $4

-- name: notified_read
-- But for those that were told again meanwhile.
DELETE FROM notified AS n
USING unnest($4::text[], $5::timestamptz[]) AS read (external_id, notify_time)
WHERE n.tenant_id = $1 AND n.integration_id = $2 AND n.object_kind = $3 AND n.external_id = read.external_id
    AND n.notify_time = read.notify_time
