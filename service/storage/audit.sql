-- name: audit_place
-- tenant: any, because it reads the clock and counts. The number of the transaction comes first, see `audit_unsealed`.
SELECT pg_current_xact_id() AS transaction_id, now() AS time, nextval('audit_event_id') AS event_id

-- name: audit_insert
INSERT INTO audit_event (tenant_id, event_id, event_time, actor, rpc, object_id, open, digest, payload)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: audit_end
UPDATE audit_event SET open = false, object_id = $3, digest = $4, payload = $5
WHERE tenant_id = $1 AND event_id = $2 AND open

-- name: audit_page
-- The events before the place ($2, $3), of which the actor $6 and the rpc $7 are looked for among the next $8. The last one
-- that was looked at comes too, without its payload when it is none of them.
SELECT event_time, event_id, number, CASE WHEN found THEN payload END AS payload
FROM (
    SELECT
        event_time, event_id, payload, $6 IN ('', actor) AND $7 IN ('', rpc) AS found,
        row_number() OVER (ORDER BY event_time DESC, event_id DESC) AS number
    FROM audit_event
    WHERE tenant_id = $1 AND (event_time, event_id) < ($2, $3) AND event_time >= $4 AND event_time < $5
    ORDER BY event_time DESC, event_id DESC
    LIMIT $8
) AS looked
WHERE found OR number = $8
ORDER BY event_time DESC, event_id DESC
LIMIT $9

-- name: audit_page_of_object
-- The same among the events of the one object that is called one of $10.
SELECT event_time, event_id, number, CASE WHEN found THEN payload END AS payload
FROM (
    SELECT
        event_time, event_id, payload, $6 IN ('', actor) AND $7 IN ('', rpc) AS found,
        row_number() OVER (ORDER BY event_time DESC, event_id DESC) AS number
    FROM audit_event
    WHERE tenant_id = $1 AND object_id = ANY($10::text[]) AND object_id <> ''
        AND (event_time, event_id) < ($2, $3) AND event_time >= $4 AND event_time < $5
    ORDER BY event_time DESC, event_id DESC
    LIMIT $8
) AS looked
WHERE found OR number = $8
ORDER BY event_time DESC, event_id DESC
LIMIT $9

-- name: audit_unsealed
-- tenant: any, because it looks for what is to be sealed at each.
-- The newest event that is seen of each tenant. Events with lower numbers that are not seen yet belong to transactions
-- before `next`, for those had their number before their event had one: once all before `next` have ended, none can follow.
SELECT
    t.tenant_id, newest.event_id,
    pg_snapshot_xmin(pg_current_snapshot()) AS open, pg_snapshot_xmax(pg_current_snapshot()) AS next
FROM tenant AS t
CROSS JOIN LATERAL (
    SELECT event_id FROM audit_event WHERE tenant_id = t.tenant_id ORDER BY event_id DESC LIMIT 1
) AS newest
LEFT JOIN LATERAL (
    SELECT last_event_id FROM audit_seal WHERE tenant_id = t.tenant_id ORDER BY seal_id DESC LIMIT 1
) AS sealed ON true
WHERE newest.event_id > coalesce(sealed.last_event_id, 0)

-- name: audit_abandon
-- Calls to partners that nobody will end any more.
UPDATE audit_event SET open = false WHERE tenant_id = $1 AND open AND event_time < now() - $2::interval

-- name: audit_seal_last
SELECT seal_id, last_event_id, digest FROM audit_seal WHERE tenant_id = $1 ORDER BY seal_id DESC LIMIT 1

-- name: audit_digests
SELECT event_id, open, digest FROM audit_event
WHERE tenant_id = $1 AND event_id > $2 AND event_id <= $3
ORDER BY event_id
LIMIT $4

-- name: audit_seal_insert
-- Another process may have been first.
INSERT INTO audit_seal (tenant_id, seal_id, last_event_id, event_count, events_hash, previous, digest)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT DO NOTHING
RETURNING seal_id

-- name: audit_seals
SELECT seal_id, last_event_id, event_count, events_hash, previous, digest, anchor, seal_time
FROM audit_seal
WHERE tenant_id = $1 AND seal_id > $2
ORDER BY seal_id
LIMIT $3

-- name: audit_events
SELECT event_id, event_time, actor, rpc, object_id, open, digest, payload
FROM audit_event
WHERE tenant_id = $1 AND event_id > $2 AND event_id <= $3
ORDER BY event_id
LIMIT $4

-- name: audit_expired
-- tenant: any, because age decides. The newest among the first seals of each tenant that are old enough.
SELECT t.tenant_id, last.seal_id, last.last_event_id, last.digest
FROM tenant AS t
CROSS JOIN LATERAL (
    SELECT seal_id, last_event_id, digest, anchor
    FROM (SELECT seal_id, last_event_id, digest, anchor, seal_time FROM audit_seal WHERE tenant_id = t.tenant_id ORDER BY seal_id LIMIT $2) AS first
    WHERE seal_time < now() - $1::interval
    ORDER BY seal_id DESC
    LIMIT 1
) AS last
WHERE last.anchor IS NULL

-- name: audit_anchor
UPDATE audit_seal SET anchor = $3 WHERE tenant_id = $1 AND seal_id = $2

-- name: audit_seals_sweep
DELETE FROM audit_seal WHERE tenant_id = $1 AND seal_id < $2

-- name: audit_events_sweep
DELETE FROM audit_event
WHERE tenant_id = $1 AND event_id IN (
    SELECT event_id FROM audit_event WHERE tenant_id = $1 AND event_id <= $2 ORDER BY event_id LIMIT $3
)
