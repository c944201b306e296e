-- name: peer_get
SELECT state, external_id, acknowledged_version, acknowledged_hash, sent_document, tariff_keys
FROM peer_object
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id = $4

-- name: peers_known
SELECT object_id
FROM peer_object
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id = ANY($4::text[])

-- name: peers_linked
SELECT object_id
FROM peer_object
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id = ANY($4::text[]) AND state = 3

-- name: peer_tariffs_missing
-- Those of the tariffs (4) that the partner is shown and does not hold for certain.
SELECT wanted.object_id
FROM unnest($3::text[]) AS wanted (object_id)
JOIN partner_object AS o ON o.tenant_id = $1 AND o.integration_id = $2 AND o.object_kind = 4
    AND o.country_code = left(wanted.object_id, 2) AND o.party_id = substr(wanted.object_id, 3, 3)
    AND o.key = substr(wanted.object_id, 6)
WHERE o.hash IS NOT NULL AND NOT EXISTS (
    SELECT FROM peer_object AS p
    WHERE p.tenant_id = $1 AND p.integration_id = $2 AND p.object_kind = 4 AND p.object_id = wanted.object_id AND p.state = 3
)
ORDER BY wanted.object_id

-- name: peer_naming
-- A location (5) that names the tariff at the partner, or may.
SELECT object_id
FROM peer_object
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = 5 AND tariff_keys @> ARRAY[$3::text] AND tariff_keys <> '{}'
LIMIT 1

-- name: peer_parts
SELECT part_kind, part_id, state, external_id, sent_document
FROM peer_part
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id = $4

-- name: peer_part_ids
SELECT object_id, external_id
FROM peer_part
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id = ANY($4::text[])
    AND part_kind = $5 AND part_id = $6::text[] AND state = 3

-- name: peer_part_found
SELECT object_id, part_kind, part_id
FROM peer_part
WHERE tenant_id = $1 AND integration_id = $2 AND part_kind = $3 AND external_id = $4 AND state = 3
LIMIT 1

-- name: peer_part_put
INSERT INTO peer_part
    (tenant_id, integration_id, object_kind, object_id, part_kind, part_id, state, external_id, sent_document,
     acknowledge_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, CASE WHEN $7::smallint = 3 THEN now() END)
ON CONFLICT (tenant_id, integration_id, object_kind, object_id, part_kind, part_id) DO UPDATE
SET state = EXCLUDED.state, external_id = EXCLUDED.external_id, sent_document = EXCLUDED.sent_document,
    acknowledge_time = coalesce(EXCLUDED.acknowledge_time, peer_part.acknowledge_time)

-- name: peer_acknowledged
INSERT INTO peer_object
    (tenant_id, integration_id, object_kind, object_id, state, external_id, acknowledged_version, acknowledged_hash,
     sent_document, tariff_keys, acknowledge_time)
VALUES ($1, $2, $3, $4, 3, $5, $6, $7, $8, $9, now())
ON CONFLICT (tenant_id, integration_id, object_kind, object_id) DO UPDATE
SET state = 3, external_id = EXCLUDED.external_id, acknowledged_version = EXCLUDED.acknowledged_version,
    acknowledged_hash = EXCLUDED.acknowledged_hash, sent_document = EXCLUDED.sent_document,
    tariff_keys = EXCLUDED.tariff_keys, acknowledge_time = now()

-- name: peer_delivered
-- Ends a claim with success, and records the attempt: the partner holds the object, or without $9 it does not. A change that
-- came meanwhile (another generation) makes it due again; so does $8, after that time. Fenced by the lease token.
WITH connected AS MATERIALIZED (
    SELECT FROM integration WHERE tenant_id = $1 AND integration_id = $2 FOR KEY SHARE
), done AS (
    UPDATE delivery
    SET state = CASE WHEN generation = $7 AND $8::interval IS NULL THEN 3 ELSE 1 END,
        verify = verify AND generation <> $7, overwrite = overwrite AND generation <> $7, lease_until = '-infinity',
        due_time = now() + CASE WHEN generation = $7 THEN coalesce($8, interval '0') ELSE interval '0' END,
        failed_attempts = 0, fail_time = NULL, reason = 0, description = '', pending_time = now(), update_time = now()
    WHERE tenant_id = $1 AND delivery_id = $5 AND lease_token = $6 AND state = 2 AND EXISTS (SELECT FROM connected)
    RETURNING delivery_id
), gone AS (
    DELETE FROM peer_object
    WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id = $4 AND NOT $9::boolean
        AND EXISTS (SELECT FROM done)
), holding AS (
    INSERT INTO peer_object
        (tenant_id, integration_id, object_kind, object_id, state, external_id, acknowledged_version, acknowledged_hash,
         sent_document, tariff_keys, acknowledge_time)
    SELECT $1, $2, $3, $4, 3, $10, $11, $12, $13, $14, now() FROM done WHERE $9
    ON CONFLICT (tenant_id, integration_id, object_kind, object_id) DO UPDATE
    SET state = 3, external_id = EXCLUDED.external_id, acknowledged_version = EXCLUDED.acknowledged_version,
        acknowledged_hash = EXCLUDED.acknowledged_hash, sent_document = EXCLUDED.sent_document,
        tariff_keys = EXCLUDED.tariff_keys, acknowledge_time = now()
)
INSERT INTO delivery_attempt
    (tenant_id, delivery_id, start_time, duration, reason, description, http_status, partner_code, sent_version,
     integration_id)
SELECT $1, delivery_id, now() - $15::interval, $15, 0, $16, 0, '', $17, $2 FROM done
RETURNING true

-- name: peer_example
-- One that the partner holds at a URL that it gave.
SELECT external_id, sent_document
FROM peer_object
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND state = 3 AND external_id <> ''
LIMIT 1

-- name: peer_cdr_at
-- The CDR (12) that a partner said to hold there; should two have said so, the later one.
SELECT object_id
FROM peer_object
WHERE tenant_id = $1 AND object_kind = 12 AND external_id = $2 AND external_id <> ''
ORDER BY acknowledge_time DESC
LIMIT 1

-- name: peer_gone
DELETE FROM peer_object WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id = $4
