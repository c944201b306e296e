-- name: disclosure_begin
WITH document AS (
    INSERT INTO partner_document (tenant_id, hash, payload)
    SELECT $1, $6, $7 WHERE $6::bytea IS NOT NULL
    ON CONFLICT DO NOTHING
)
INSERT INTO disclosure (tenant_id, integration_id, object_kind, object_id, method, document_type, hash, reason)
VALUES ($1, $2, $3, $4, 1, $5, $6, $8)
RETURNING disclosure_id

-- name: disclosure_sending
-- The same for an object, and its effect is unknown from now on until it is acknowledged ($8 to $12: what the partner holds
-- then, or may; of the tariffs of before it may, too). Fenced by the lease token, and renews the lease, so that the request is
-- over before anybody else can claim the delivery.
WITH connected AS MATERIALIZED (
    SELECT FROM integration WHERE tenant_id = $1 AND integration_id = $2 FOR KEY SHARE
), renewed AS (
    UPDATE delivery SET lease_until = now() + $7::interval
    WHERE tenant_id = $1 AND delivery_id = $5 AND lease_token = $6 AND state = 2 AND EXISTS (SELECT FROM connected)
    RETURNING tenant_id
), sending AS (
    INSERT INTO peer_object
        (tenant_id, integration_id, object_kind, object_id, state, external_id, acknowledged_version, acknowledged_hash,
         sent_document, tariff_keys)
    SELECT $1, $2, $3, $4, 2, $8, $9, $10, $11, $12 FROM renewed
    ON CONFLICT (tenant_id, integration_id, object_kind, object_id) DO UPDATE
    SET state = 2, external_id = EXCLUDED.external_id, acknowledged_version = EXCLUDED.acknowledged_version,
        acknowledged_hash = EXCLUDED.acknowledged_hash, sent_document = EXCLUDED.sent_document,
        tariff_keys = ARRAY(SELECT DISTINCT unnest(peer_object.tariff_keys || EXCLUDED.tariff_keys))
), document AS (
    INSERT INTO partner_document (tenant_id, hash, payload)
    SELECT $1, $16, $17 FROM renewed WHERE $16::bytea IS NOT NULL
    ON CONFLICT DO NOTHING
)
INSERT INTO disclosure (tenant_id, integration_id, object_kind, object_id, method, document_type, hash, reason)
SELECT $1, $2, $13, $14, 1, $15, $16, $18 FROM renewed
RETURNING disclosure_id

-- name: disclosure_end
-- Not worth a wait for the disk: the end of the attempt follows and waits.
UPDATE disclosure SET reason = $3, http_status = $4
FROM set_config('synchronous_commit', 'off', true)
WHERE tenant_id = $1 AND disclosure_id = $2

-- name: disclosures_shown
-- What is the same as the object's newest disclosure is counted there. One that nobody refers to any more when it is shown
-- may be gone: it is left out.
WITH page AS MATERIALIZED (
    SELECT page.object_id, page.hash, newest.disclosure_id
    FROM unnest($4::text[], $5::bytea[]) AS page (object_id, hash)
    LEFT JOIN LATERAL (
        SELECT disclosure_id, hash, method
        FROM disclosure
        WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id = page.object_id
        ORDER BY position DESC
        LIMIT 1
    ) AS newest ON newest.hash = page.hash AND newest.method = 2
), known AS (
    SELECT disclosure_id
    FROM disclosure
    WHERE tenant_id = $1 AND disclosure_id IN (SELECT disclosure_id FROM page)
    ORDER BY position
    FOR NO KEY UPDATE
), again AS (
    UPDATE disclosure AS d
    SET count = d.count + 1, latest_time = now(), request_id = $7, correlation_id = $8
    FROM known
    WHERE d.tenant_id = $1 AND d.disclosure_id = known.disclosure_id
)
INSERT INTO disclosure
    (tenant_id, integration_id, object_kind, object_id, method, document_type, hash, request_id, correlation_id)
SELECT $1, $2, $3, page.object_id, 2, $6, document.hash, $7, $8
FROM page
JOIN partner_document AS document ON document.tenant_id = $1 AND document.hash = page.hash
WHERE page.disclosure_id IS NULL

-- name: disclosure_get
SELECT
    s.disclosure_id, s.integration_id, s.object_kind, s.object_id, s.method, s.document_type, s.hash, s.first_time,
    s.latest_time, s.count, s.reason, s.http_status, s.request_id, s.correlation_id, d.payload
FROM disclosure AS s
JOIN integration AS i USING (tenant_id, integration_id)
LEFT JOIN partner_document AS d USING (tenant_id, hash)
WHERE s.tenant_id = $1 AND s.disclosure_id = $2 AND i.delete_time IS NULL

-- name: disclosure_page
SELECT
    position, disclosure_id, integration_id, object_kind, object_id, method, document_type, hash, first_time, latest_time,
    count, reason, http_status, request_id, correlation_id
FROM disclosure
WHERE tenant_id = $1 AND integration_id = $2 AND position < $3
    AND (cardinality($4::text[]) = 0 OR object_id = ANY($4))
    AND EXISTS (SELECT FROM integration WHERE tenant_id = $1 AND integration_id = $2 AND delete_time IS NULL)
ORDER BY position DESC
LIMIT $5

-- name: disclosure_sweep
-- tenant: any, because age decides.
DELETE FROM disclosure
WHERE ctid = ANY(ARRAY(SELECT ctid FROM disclosure WHERE latest_time < now() - $1::interval LIMIT $2))
