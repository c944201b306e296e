-- name: view_get
SELECT o.country_code, o.party_id, o.key, o.position, o.last_updated, o.hash, o.shown, d.payload AS document
FROM partner_object AS o
JOIN partner_document AS d USING (tenant_id, hash)
WHERE o.tenant_id = $1 AND o.integration_id = $2 AND o.object_kind = $3
    AND o.country_code = $4 AND o.party_id = $5 AND o.key = $6

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

-- name: view_document_put
INSERT INTO partner_document (tenant_id, hash, payload) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING

-- name: view_put
-- The time is that of the row, not of its transaction, so that who asks for changes since then misses as little as can be;
-- a later one is later. Without $10 one that is shown stays as it is.
INSERT INTO partner_object AS o
    (tenant_id, integration_id, object_kind, country_code, party_id, key, shown, hash, tariff_keys, last_updated)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, date_trunc('milliseconds', clock_timestamp()))
ON CONFLICT (tenant_id, integration_id, object_kind, country_code, party_id, key) DO UPDATE
SET shown = EXCLUDED.shown, hash = EXCLUDED.hash, tariff_keys = EXCLUDED.tariff_keys,
    last_updated = CASE
        WHEN EXCLUDED.hash IS NOT DISTINCT FROM o.hash THEN o.last_updated
        ELSE greatest(EXCLUDED.last_updated, o.last_updated + interval '1 ms')
    END
WHERE $10 OR NOT o.shown
