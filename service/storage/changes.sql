-- name: change_time
-- tenant: any, because it reads the clock.
SELECT now()

-- name: change_record
INSERT INTO change (tenant_id, object_kind, key_id, object_id, operation, etag, integration_id)
SELECT $1, $2, $3, object_id, operation, etag, integration_id
FROM unnest($4::text[], $5::text[], $6::text[], $7::text[]) AS new (object_id, operation, etag, integration_id)

-- name: change_record_alike
-- What happened to each of the objects $4 is the same.
INSERT INTO change (tenant_id, object_kind, key_id, object_id, operation, etag, integration_id)
SELECT $1, $2, $3, unnest($4::text[]), $5, $6, $7

-- name: delivery_mark
-- Makes the objects due at the integration $4, or at every one, that takes their kind, save where they were imported
-- from. One under way is done again afterwards.
-- The integrations are locked before their deliveries, as a deletion locks them.
WITH taker AS MATERIALIZED (
    SELECT integration_id
    FROM integration
    WHERE tenant_id = $1 AND $2 = ANY(takes) AND ($4::text IS NULL OR integration_id = $4)
    ORDER BY integration_id
    FOR KEY SHARE
)
INSERT INTO delivery (tenant_id, integration_id, object_kind, object_id)
SELECT $1, integration_id, $2::smallint, object_id
FROM taker CROSS JOIN unnest($3::text[]) AS due (object_id)
WHERE NOT EXISTS (
        SELECT FROM tariff AS t
        WHERE t.tenant_id = $1 AND t.integration_id = '' AND t.country_code = left(object_id, 2)
            AND t.party_id = substr(object_id, 3, 3) AND t.key = substr(object_id, 6)
            AND t.origin_integration_id = taker.integration_id AND $2 = 4
    )
    AND NOT EXISTS (
        SELECT FROM location AS l
        WHERE l.tenant_id = $1 AND l.integration_id = '' AND l.country_code = left(object_id, 2)
            AND l.party_id = substr(object_id, 3, 3) AND l.key = substr(object_id, 6)
            AND l.origin_integration_id = taker.integration_id AND $2 = 5
    )
ORDER BY integration_id, object_id
ON CONFLICT (tenant_id, integration_id, object_kind, object_id) DO UPDATE
SET generation = delivery.generation + 1,
    state = CASE WHEN delivery.state = 2 THEN 2 ELSE 1 END,
    due_time = now(),
    failed_attempts = CASE WHEN delivery.state = 2 THEN delivery.failed_attempts ELSE 0 END,
    pending_time = CASE WHEN delivery.state IN (3, 5) THEN now() ELSE delivery.pending_time END,
    update_time = now()

-- name: delivery_recipients
-- Locked before their deliveries, as a deletion locks them.
SELECT integration_id, token_parties
FROM integration
WHERE tenant_id = $1 AND $2 = ANY(takes) AND (integration_id = ANY($3::text[]) OR token_parties && $4::text[])
ORDER BY integration_id
FOR KEY SHARE

-- name: delivery_mark_issued
-- What was charged with tokens of the parties $3, and was never on its way to the integration.
INSERT INTO delivery (tenant_id, integration_id, object_kind, object_id)
SELECT $1, $2, object_kind, object_id
FROM (
    SELECT 11::smallint AS object_kind, country_code || party_id || key AS object_id FROM session
    WHERE tenant_id = $1 AND integration_id = '' AND recipient_id = '' AND token_party = ANY($3::text[])
    UNION ALL
    SELECT 12::smallint, country_code || party_id || key FROM cdr
    WHERE tenant_id = $1 AND integration_id = '' AND recipient_id = '' AND token_party = ANY($3::text[])
) AS due
ORDER BY object_kind, object_id
ON CONFLICT DO NOTHING

-- name: idempotency_claim
-- Waits for a call under way with the same request id, then finds its row.
INSERT INTO idempotency (tenant_id, method, request_id, digest) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
RETURNING request_id

-- name: idempotency_find
-- Writes a word to the log, so that the commit waits for a synchronous standby: the answer may be of a call that gave up
-- waiting for it.
SELECT digest, answer, pg_logical_emit_message(true, 'evbridge', 'answered again')
FROM idempotency
WHERE tenant_id = $1 AND method = $2 AND request_id = $3

-- name: idempotency_keep
UPDATE idempotency SET answer = $4 WHERE tenant_id = $1 AND method = $2 AND request_id = $3
