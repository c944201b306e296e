-- name: pull_get
SELECT run_id, whole, next_link, watermark, whole_time, begin_time, highest, complete, total, held, counts, noted_link
FROM pull
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3

-- name: pull_begin
INSERT INTO pull (tenant_id, integration_id, object_kind, run_id, whole, begin_time) VALUES ($1, $2, $3, $4, $5, now())
ON CONFLICT (tenant_id, integration_id, object_kind) DO UPDATE
SET run_id = excluded.run_id, whole = excluded.whole, begin_time = excluded.begin_time, next_link = '', highest = NULL,
    complete = true, total = 0, held = 0, counts = '{}', noted_link = ''

-- name: pull_unseen_locations
-- Up to $5 after the object $4: those that have an EVSE which is not REMOVED (7). Looked up as in `location_lock`.
WITH next AS MATERIALIZED (
    SELECT country_code, party_id, key
    FROM location
    WHERE tenant_id = $1 AND integration_id = $2 AND integration_id <> '' AND delete_time IS NULL
        AND (country_code, party_id, key) > (left($4, 2), substr($4, 3, 3), substr($4, 6))
    ORDER BY country_code, party_id, key
    LIMIT $5
), unseen AS (
    INSERT INTO pull_unseen (tenant_id, integration_id, object_kind, object_id)
    SELECT $1, $2, $3, country_code || party_id || key
    FROM next
    CROSS JOIN LATERAL (
        SELECT FROM evse
        WHERE tenant_id = $1 AND integration_id = $2 AND country_code = next.country_code
            AND party_id = next.party_id AND location_key = next.key AND status <> 7
        LIMIT 1
    ) AS living
)
SELECT country_code || party_id || key AS object_id FROM next ORDER BY country_code DESC, party_id DESC, key DESC LIMIT 1

-- name: pull_unseen_tariffs
-- Up to $5 after the object $4.
WITH next AS MATERIALIZED (
    SELECT country_code, party_id, key
    FROM tariff
    WHERE tenant_id = $1 AND integration_id = $2 AND integration_id <> '' AND delete_time IS NULL
        AND (country_code, party_id, key) > (left($4, 2), substr($4, 3, 3), substr($4, 6))
    ORDER BY country_code, party_id, key
    LIMIT $5
), unseen AS (
    INSERT INTO pull_unseen (tenant_id, integration_id, object_kind, object_id)
    SELECT $1, $2, $3, country_code || party_id || key FROM next
)
SELECT country_code || party_id || key AS object_id FROM next ORDER BY country_code DESC, party_id DESC, key DESC LIMIT 1

-- name: pull_unseen_tokens
-- Up to $5 after the object $4: those that are valid.
WITH next AS MATERIALIZED (
    SELECT country_code, party_id, key, valid
    FROM token
    WHERE tenant_id = $1 AND integration_id = $2 AND integration_id <> '' AND delete_time IS NULL
        AND (country_code, party_id, key) > (left($4, 2), substr($4, 3, 3), substr($4, 6))
    ORDER BY country_code, party_id, key
    LIMIT $5
), unseen AS (
    INSERT INTO pull_unseen (tenant_id, integration_id, object_kind, object_id)
    SELECT $1, $2, $3, country_code || party_id || key FROM next WHERE valid
)
SELECT country_code || party_id || key AS object_id FROM next ORDER BY country_code DESC, party_id DESC, key DESC LIMIT 1

-- name: pull_unseen_hub_clients
-- Up to $5 after the object $4: those that are not SUSPENDED (4).
WITH next AS MATERIALIZED (
    SELECT country_code, party_id, key, status
    FROM hub_client
    WHERE tenant_id = $1 AND integration_id = $2
        AND (country_code, party_id, key) > (left($4, 2), substr($4, 3, 3), substr($4, 6))
    ORDER BY country_code, party_id, key
    LIMIT $5
), unseen AS (
    INSERT INTO pull_unseen (tenant_id, integration_id, object_kind, object_id)
    SELECT $1, $2, $3, country_code || party_id || key FROM next WHERE status <> 4
)
SELECT country_code || party_id || key AS object_id FROM next ORDER BY country_code DESC, party_id DESC, key DESC LIMIT 1

-- name: pull_held
UPDATE pull
SET held = (SELECT count(*) FROM pull_unseen WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3)
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3

-- name: pull_forget
-- Up to $4 of them.
DELETE FROM pull_unseen
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id IN (
    SELECT object_id FROM pull_unseen WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 LIMIT $4
)

-- name: pull_read
UPDATE pull SET next_link = $4, highest = $5, complete = $6, total = $7, counts = $8, noted_link = $9
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3

-- name: pull_seen
DELETE FROM pull_unseen
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id = ANY ($4::text[])

-- name: pull_unseen
SELECT object_id FROM pull_unseen
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3
ORDER BY object_id

-- name: pull_end
UPDATE pull
SET next_link = NULL, counts = $4, watermark = greatest(watermark, CASE WHEN highest < begin_time THEN highest WHEN highest IS NOT NULL THEN begin_time END),
    whole_time = CASE WHEN whole THEN begin_time ELSE whole_time END
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3

-- name: pull_due
-- tenant: any, because one worker serves them all. A tenth more or less keeps those apart that began together. While a run
-- of the kind (3) is under way the next one waits.
WITH next AS MATERIALIZED (
    SELECT tenant_id, integration_id
    FROM integration AS i
    WHERE pull_minutes > 0 AND pull_time <= now() AND enabled AND pause_time IS NULL AND status = 2
        AND type = ANY ($1::smallint[])
        AND NOT EXISTS (
            SELECT FROM run AS r
            WHERE r.tenant_id = i.tenant_id AND r.integration_id = i.integration_id AND r.kind = 3 AND r.state IN (1, 2, 3)
        )
    ORDER BY pull_time
    LIMIT 1
    FOR NO KEY UPDATE OF i SKIP LOCKED
)
UPDATE integration AS i SET pull_time = now() + i.pull_minutes * (0.9 + 0.2 * random()) * interval '1 minute'
FROM next
WHERE i.tenant_id = next.tenant_id AND i.integration_id = next.integration_id
RETURNING i.tenant_id, i.integration_id

-- name: pull_soon
UPDATE integration SET pull_time = now() WHERE tenant_id = $1 AND integration_id = $2

-- name: pull_later
UPDATE integration SET pull_time = now() + pull_minutes * interval '1 minute' WHERE tenant_id = $1 AND integration_id = $2
