-- name: view_get
SELECT o.country_code, o.party_id, o.key, o.position, o.last_updated, o.hash, o.shown, d.payload AS document
FROM partner_object AS o
JOIN partner_document AS d USING (tenant_id, hash)
WHERE o.tenant_id = $1 AND o.integration_id = $2 AND o.object_kind = $3
    AND o.country_code = $4 AND o.party_id = $5 AND o.key = $6

-- name: view_look
-- The same beside the integration, what the partner is known to hold ($7), and the time.
SELECT
    now() AS now, i.payload AS integration,
    o.country_code, o.party_id, o.key, o.position, o.last_updated, o.hash, o.shown, d.payload AS document,
    p.state, p.external_id, p.acknowledged_version, p.acknowledged_hash, p.sent_document, p.tariff_keys
FROM integration AS i
LEFT JOIN (partner_object AS o JOIN partner_document AS d USING (tenant_id, hash))
    ON o.tenant_id = $1 AND o.integration_id = $2 AND o.object_kind = $3
    AND o.country_code = $4 AND o.party_id = $5 AND o.key = $6
LEFT JOIN peer_object AS p
    ON p.tenant_id = $1 AND p.integration_id = $2 AND p.object_kind = $3 AND p.object_id = $7
WHERE i.tenant_id = $1 AND i.integration_id = $2 AND i.delete_time IS NULL

-- name: view_by_id
-- OCPI's URL names no party. What is shown goes before what is not any more, the oldest first.
SELECT o.country_code, o.party_id, o.key, o.position, o.last_updated, o.hash, o.shown, d.payload AS document
FROM party AS p
JOIN partner_object AS o USING (tenant_id, country_code, party_id)
JOIN partner_document AS d USING (tenant_id, hash)
WHERE p.tenant_id = $1 AND o.integration_id = $2 AND o.object_kind = $3 AND o.key = $4
ORDER BY NOT o.shown, o.position
LIMIT 1

-- name: view_page
SELECT country_code, party_id, key, position, last_updated, hash, shown, document
FROM (
    SELECT
        o.country_code, o.party_id, o.key, o.position, o.last_updated, o.hash, o.shown, d.payload AS document,
        sum(octet_length(d.payload)) OVER (ORDER BY o.position) - octet_length(d.payload) AS before
    FROM (
        SELECT tenant_id, country_code, party_id, key, position, last_updated, hash, shown
        FROM partner_object
        WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND hash IS NOT NULL
            AND position > $4 AND last_updated >= coalesce($5::timestamptz, '-infinity') AND last_updated < coalesce($6::timestamptz, 'infinity')
        ORDER BY position
        OFFSET $7
        LIMIT $8
    ) AS o
    JOIN partner_document AS d USING (tenant_id, hash)
) AS sized
WHERE before < $9
ORDER BY position

-- name: view_count
SELECT count(*)
FROM partner_object
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND hash IS NOT NULL
    AND last_updated >= coalesce($4::timestamptz, '-infinity') AND last_updated < coalesce($5::timestamptz, 'infinity')

-- name: view_names
-- Whether a location that the partner is shown names the tariff.
SELECT EXISTS (
    SELECT FROM partner_object
    WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = 5 AND shown AND $3 = ANY(tariff_keys)
)

-- name: view_put
-- The time is that of the row, not of its transaction, so that who asks for changes since then misses as little as can be;
-- a later one is later. Without $12 one that is shown stays as it is. Fenced by the lease token. Not worth a wait for the disk:
-- what is sent or ends the attempt follows and waits.
WITH connected AS MATERIALIZED (
    SELECT FROM integration WHERE tenant_id = $1 AND integration_id = $2 FOR KEY SHARE
), held AS MATERIALIZED (
    SELECT FROM delivery, set_config('synchronous_commit', 'off', true)
    WHERE tenant_id = $1 AND delivery_id = $3 AND lease_token = $4 AND state = 2 AND EXISTS (SELECT FROM connected)
    FOR NO KEY UPDATE OF delivery
), kept AS (
    INSERT INTO partner_document (tenant_id, hash, payload)
    SELECT $1, $10, $13 FROM held WHERE $10::bytea IS NOT NULL
    ON CONFLICT DO NOTHING
), put AS (
    INSERT INTO partner_object AS o
        (tenant_id, integration_id, object_kind, country_code, party_id, key, shown, hash, tariff_keys, last_updated)
    SELECT $1, $2, $5, $6, $7, $8, $9, $10, $11, date_trunc('milliseconds', clock_timestamp()) FROM held
    ON CONFLICT (tenant_id, integration_id, object_kind, country_code, party_id, key) DO UPDATE
    SET shown = EXCLUDED.shown, hash = EXCLUDED.hash, tariff_keys = EXCLUDED.tariff_keys,
        last_updated = CASE
            WHEN EXCLUDED.hash IS NOT DISTINCT FROM o.hash THEN o.last_updated
            ELSE greatest(EXCLUDED.last_updated, o.last_updated + interval '1 ms')
        END
    WHERE $12 OR NOT o.shown
)
SELECT true FROM held
