-- name: tariff_get
SELECT payload FROM tariff
WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND key = $4 AND delete_time IS NULL
    AND ($5 = '' OR NOT EXISTS (SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = $5))

-- name: tariff_get_many
-- Looked up as in `tariff_lock`.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, t.payload
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS wanted (country_code, party_id, key, integration_id)
CROSS JOIN LATERAL (
    SELECT payload
    FROM tariff
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key AND delete_time IS NULL
        AND (wanted.integration_id = '' OR NOT EXISTS (
            SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = wanted.integration_id
        ))
    OFFSET 0
) AS t

-- name: tariff_lock
-- In the order of the keys, so that two batches wait for each other and never for themselves. Each is looked up by its key,
-- however the planner guesses about a table that was never analysed.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, t.etag, t.payload, t.delete_time
FROM (
    SELECT country_code, party_id, key, integration_id
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS each (country_code, party_id, key, integration_id)
    ORDER BY country_code, party_id, key, integration_id
) AS wanted
CROSS JOIN LATERAL (
    SELECT etag, payload, delete_time
    FROM tariff
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key
    FOR UPDATE
) AS t

-- name: tariff_imported
SELECT payload
FROM tariff
WHERE tenant_id = $1 AND integration_id = $3 AND origin_integration_id = $2 AND origin_integration_id <> ''
    AND delete_time IS NULL

-- name: tariff_insert
INSERT INTO tariff (
    tenant_id, country_code, party_id, key, integration_id, type, currency, etag, payload, origin_integration_id, due_time
)
SELECT $1, country_code, party_id, key, integration_id, type, currency, etag, payload, origin_integration_id, end_time
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::text[], $8::text[], $9::bytea[], $10::text[],
    $11::timestamptz[]
) AS new (country_code, party_id, key, integration_id, type, currency, etag, payload, origin_integration_id, end_time)
ON CONFLICT DO NOTHING
RETURNING country_code, party_id, key

-- name: tariff_replace
-- One whose end moves after it has passed is due at once: partners may have to be shown it again.
UPDATE tariff AS t
SET type = new.type, currency = new.currency, etag = new.etag, payload = new.payload,
    origin_integration_id = new.origin_integration_id, delete_time = NULL,
    due_time = CASE
        WHEN new.end_time IS NOT DISTINCT FROM new.end_before THEN t.due_time
        WHEN t.due_time IS NULL AND new.end_before IS NOT NULL THEN now()
        ELSE new.end_time
    END
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::text[], $8::text[], $9::bytea[], $10::text[],
    $11::timestamptz[], $12::timestamptz[]
) AS new (
    country_code, party_id, key, integration_id, type, currency, etag, payload, origin_integration_id, end_time, end_before
)
CROSS JOIN LATERAL (
    SELECT ctid FROM tariff
    WHERE tenant_id = $1 AND integration_id = new.integration_id AND country_code = new.country_code
        AND party_id = new.party_id AND key = new.key
    OFFSET 0
) AS held
WHERE t.ctid = held.ctid AND t.tenant_id = $1

-- name: tariff_keep
-- What the tariffs say, before they are replaced at `end_time`; a deleted one said it until it was deleted.
INSERT INTO tariff_revision (tenant_id, country_code, party_id, key, integration_id, end_time, payload)
SELECT $1, new.country_code, new.party_id, new.key, new.integration_id, coalesce(t.delete_time, new.end_time),
    t.payload
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
    AS new (country_code, party_id, key, integration_id, end_time)
CROSS JOIN LATERAL (
    SELECT delete_time, payload
    FROM tariff
    WHERE tenant_id = $1 AND integration_id = new.integration_id AND country_code = new.country_code
        AND party_id = new.party_id AND key = new.key
    OFFSET 0
) AS t
ON CONFLICT DO NOTHING

-- name: tariff_at
-- The content whose end is the first after the time.
SELECT payload
FROM (
    SELECT end_time, payload
    FROM tariff_revision
    WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND key = $4 AND end_time > $6
    UNION ALL
    SELECT coalesce(delete_time, 'infinity'), payload
    FROM tariff
    WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND key = $4
        AND (delete_time IS NULL OR delete_time > $6)
) AS content
ORDER BY end_time
LIMIT 1

-- name: tariff_hold
-- Those of the tariffs that exist, kept from being deleted until the transaction ends. In the order of the keys; looked up
-- as in `tariff_lock`.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id
FROM (
    SELECT DISTINCT country_code, party_id, key, integration_id
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS each (country_code, party_id, key, integration_id)
    ORDER BY country_code, party_id, key, integration_id
) AS wanted
CROSS JOIN LATERAL (
    SELECT FROM tariff
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key AND delete_time IS NULL
    FOR KEY SHARE
) AS t

-- name: tariff_share
-- Those of the tariffs that exist, kept as they are until the transaction ends. In the order of the keys; looked up as in
-- `tariff_lock`.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, t.payload
FROM (
    SELECT DISTINCT country_code, party_id, key, integration_id
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS each (country_code, party_id, key, integration_id)
    ORDER BY country_code, party_id, key, integration_id
) AS wanted
CROSS JOIN LATERAL (
    SELECT payload FROM tariff
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key AND delete_time IS NULL
    FOR SHARE
) AS t

-- name: tariff_companions
-- Those that an EVSE names beside one of these. One that is REMOVED (7) sells nothing any more.
SELECT DISTINCT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, e.other_key
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS wanted (country_code, party_id, key, integration_id)
CROSS JOIN LATERAL (
    SELECT DISTINCT unnest(tariff_keys) AS other_key
    FROM evse
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND tariff_keys @> ARRAY[wanted.key] AND cardinality(tariff_keys) > 1
        AND status <> 7
) AS e
WHERE e.other_key <> wanted.key

-- name: tariff_locations
-- An EVSE that is REMOVED (7) sells nothing any more.
SELECT count(DISTINCT e.location_key)
FROM evse AS e
JOIN location AS l ON l.tenant_id = e.tenant_id AND l.integration_id = e.integration_id
    AND l.country_code = e.country_code AND l.party_id = e.party_id AND l.key = e.location_key
WHERE e.tenant_id = $1 AND e.integration_id = $5 AND e.country_code = $2 AND e.party_id = $3
    AND e.tariff_keys @> ARRAY[$4::text] AND e.status <> 7 AND l.delete_time IS NULL

-- name: tariff_rules
SELECT count(*) FROM publication_rule WHERE tenant_id = $1 AND tariff_keys @> ARRAY[$2::text]

-- name: tariff_tombstone
UPDATE tariff SET delete_time = now()
WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND key = $4

-- name: tariff_page
SELECT country_code || party_id || key AS object_id, payload
FROM (
    SELECT
        country_code, party_id, key, payload,
        sum(octet_length(payload)) OVER (ORDER BY country_code, party_id, key) - octet_length(payload) AS before
    FROM (
        SELECT country_code, party_id, key, payload
        FROM tariff
        WHERE tenant_id = $1 AND integration_id = $5 AND (country_code, party_id, key) > ($2, $3, $4)
            AND delete_time IS NULL
            AND ($5 = '' OR NOT EXISTS (SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = $5))
            AND ($6::text = '' OR country_code = $6) AND ($7::text = '' OR party_id = $7)
            AND ($8::smallint = 0 OR type = $8) AND ($9::text = '' OR currency = $9)
            AND ($12::text = '' OR origin_integration_id = $12)
        ORDER BY country_code, party_id, key
        LIMIT $10
    ) AS page
) AS sized
WHERE before < $11
ORDER BY country_code, party_id, key
