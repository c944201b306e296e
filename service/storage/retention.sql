-- name: retention_idempotency
-- tenant: any, because age decides.
DELETE FROM idempotency
WHERE ctid = ANY(ARRAY(SELECT ctid FROM idempotency WHERE create_time < now() - $1::interval LIMIT $2))

-- name: retention_attempts
-- tenant: any, because age decides.
DELETE FROM delivery_attempt
WHERE ctid = ANY(ARRAY(SELECT ctid FROM delivery_attempt WHERE start_time < now() - $1::interval LIMIT $2))

-- name: retention_runs
-- tenant: any, because age decides.
DELETE FROM run
WHERE ctid = ANY(ARRAY(SELECT ctid FROM run WHERE end_time < now() - $1::interval LIMIT $2))

-- name: retention_exchanges
-- tenant: any, because age decides.
DELETE FROM exchange
WHERE ctid = ANY(ARRAY(SELECT ctid FROM exchange WHERE create_time < now() - $1::interval LIMIT $2))

-- name: retention_tombstones
-- tenant: any, because age decides. A tombstone stays while a partner holds the company or still has to be told.
DELETE FROM company
WHERE ctid = ANY(ARRAY(
    SELECT c.ctid
    FROM company AS c
    WHERE c.delete_time < now() - $1::interval
        AND NOT EXISTS (
            SELECT FROM peer_object AS p
            WHERE p.tenant_id = c.tenant_id AND p.object_kind = 1 AND p.object_id = c.company_id::text
        )
        AND NOT EXISTS (
            SELECT FROM delivery AS d
            WHERE d.tenant_id = c.tenant_id AND d.object_kind = 1 AND d.object_id = c.company_id::text
                AND d.state NOT IN (3, 5)
        )
    LIMIT $2
))

-- name: retention_deliveries
-- tenant: any, because age decides. The way of an object that is gone, at partners that were told, or will not be (5).
DELETE FROM delivery
WHERE ctid = ANY(ARRAY(
    SELECT d.ctid
    FROM delivery AS d
    WHERE d.state IN (3, 5) AND d.update_time < now() - $1::interval
        AND CASE d.object_kind
            WHEN 1 THEN NOT EXISTS (
                SELECT FROM company AS c WHERE c.tenant_id = d.tenant_id AND c.company_id::text = d.object_id
            )
            WHEN 4 THEN NOT EXISTS (
                SELECT FROM tariff AS t
                WHERE t.tenant_id = d.tenant_id AND t.integration_id = '' AND t.country_code = left(d.object_id, 2)
                    AND t.party_id = substr(d.object_id, 3, 3) AND t.key = substr(d.object_id, 6)
            )
            WHEN 5 THEN NOT EXISTS (
                SELECT FROM location AS l
                WHERE l.tenant_id = d.tenant_id AND l.integration_id = '' AND l.country_code = left(d.object_id, 2)
                    AND l.party_id = substr(d.object_id, 3, 3) AND l.key = substr(d.object_id, 6)
            )
            WHEN 13 THEN NOT EXISTS (
                SELECT FROM token AS t
                WHERE t.tenant_id = d.tenant_id AND t.integration_id = '' AND t.country_code = left(d.object_id, 2)
                    AND t.party_id = substr(d.object_id, 3, 3) AND t.key = substr(d.object_id, 6)
            )
            WHEN 16 THEN NOT EXISTS (
                SELECT FROM invoice_reconciliation AS r
                WHERE r.tenant_id = d.tenant_id AND r.integration_id = '' AND r.country_code = left(d.object_id, 2)
                    AND r.party_id = substr(d.object_id, 3, 3) AND r.key = substr(d.object_id, 6)
            )
        END
    LIMIT $2
))

-- name: retention_tariffs
-- tenant: any, because age decides.
DELETE FROM tariff
WHERE ctid = ANY(ARRAY(SELECT ctid FROM tariff WHERE delete_time < now() - $1::interval LIMIT $2))

-- name: retention_tariff_revisions
-- tenant: any, because age decides. CDRs come, and are doubted, long after their session.
DELETE FROM tariff_revision
WHERE ctid = ANY(ARRAY(SELECT ctid FROM tariff_revision WHERE end_time < now() - $1::interval LIMIT $2))

-- name: retention_locations
-- tenant: any, because age decides.
DELETE FROM location
WHERE ctid = ANY(ARRAY(SELECT ctid FROM location WHERE delete_time < now() - $1::interval LIMIT $2))

-- name: retention_commands
-- tenant: any, because age decides.
DELETE FROM command
WHERE ctid = ANY(ARRAY(SELECT ctid FROM command WHERE create_time < now() - $1::interval LIMIT $2))

-- name: retention_questions
-- tenant: any, because age decides.
DELETE FROM question
WHERE ctid = ANY(ARRAY(SELECT ctid FROM question WHERE expire_time < now() - $1::interval LIMIT $2))

-- name: retention_listeners
-- tenant: any, because age decides.
DELETE FROM listener
WHERE ctid = ANY(ARRAY(SELECT ctid FROM listener WHERE seen_time < now() - $1::interval LIMIT $2))

-- name: retention_tokens
-- tenant: any, because age decides.
DELETE FROM token
WHERE ctid = ANY(ARRAY(SELECT ctid FROM token WHERE delete_time < now() - $1::interval LIMIT $2))

-- name: retention_invoice_reconciliation_tombstones
-- tenant: any, because age decides.
DELETE FROM invoice_reconciliation
WHERE ctid = ANY(ARRAY(SELECT ctid FROM invoice_reconciliation WHERE delete_time < now() - $1::interval LIMIT $2))

-- name: retention_invoice_reconciliations
-- tenant: any, because age decides.
DELETE FROM invoice_reconciliation
WHERE ctid = ANY(ARRAY(SELECT ctid FROM invoice_reconciliation WHERE update_time < now() - $1::interval LIMIT $2))
RETURNING tenant_id, integration_id, country_code, party_id, key

-- name: heartbeat
-- tenant: any, because it belongs to the database: a write, so that a server that only reads is found out.
INSERT INTO heartbeat (beat_time, transaction_id) VALUES (now(), pg_current_xact_id())
ON CONFLICT (one) DO UPDATE SET beat_time = excluded.beat_time, transaction_id = excluded.transaction_id

-- name: heartbeat_room
-- tenant: any, because it belongs to the database: 256 KiB that are stored as they are, in pages of their own.
INSERT INTO heartbeat (beat_time, ballast) VALUES (now(), decode(repeat('00', 262144), 'hex'))
ON CONFLICT (one) DO UPDATE SET beat_time = now(), ballast = excluded.ballast

-- name: retention_views
-- tenant: any, because age decides. What a partner was not shown any more for so long.
DELETE FROM partner_object
WHERE ctid = ANY(ARRAY(SELECT ctid FROM partner_object WHERE NOT shown AND last_updated < now() - $1::interval LIMIT $2))

-- name: retention_quarantine
-- tenant: any, because age decides.
DELETE FROM quarantine
WHERE ctid = ANY(ARRAY(SELECT ctid FROM quarantine WHERE latest_time < now() - $1::interval LIMIT $2))

-- name: retention_documents
-- tenant: any, because use decides. One that is taken at this moment is kept by its reference, or the taker tries again.
DELETE FROM partner_document
WHERE ctid = ANY(ARRAY(
    SELECT d.ctid
    FROM partner_document AS d
    WHERE NOT EXISTS (SELECT FROM partner_object AS o WHERE o.tenant_id = d.tenant_id AND o.hash = d.hash)
        AND NOT EXISTS (SELECT FROM disclosure AS s WHERE s.tenant_id = d.tenant_id AND s.hash = d.hash)
    LIMIT $1
))

-- name: retention_sessions
-- tenant: any, because age decides.
DELETE FROM session
WHERE ctid = ANY(ARRAY(SELECT ctid FROM session WHERE update_time < now() - $1::interval LIMIT $2))
RETURNING tenant_id, integration_id, country_code, party_id, key

-- name: retention_cdrs
-- tenant: any, because age decides.
DELETE FROM cdr
WHERE ctid = ANY(ARRAY(SELECT ctid FROM cdr WHERE update_time < now() - $1::interval LIMIT $2))
RETURNING tenant_id, integration_id, country_code, party_id, key

-- name: retention_traces
-- tenant: any, because age decided. What partners were shown, hold and sent of objects ($2 to $6) of a kind.
WITH gone AS MATERIALIZED (
    SELECT g.tenant_id, g.integration_id, g.country_code, g.party_id, g.key, g.country_code || g.party_id || g.key AS id
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
        AS g (tenant_id, integration_id, country_code, party_id, key)
), shown AS (
    DELETE FROM partner_object AS o USING gone
    WHERE o.tenant_id = gone.tenant_id AND o.object_kind = $1 AND gone.integration_id = ''
        AND o.country_code = gone.country_code AND o.party_id = gone.party_id AND o.key = gone.key
), held AS (
    DELETE FROM peer_object AS o USING gone
    WHERE o.tenant_id = gone.tenant_id AND o.object_kind = $1 AND gone.integration_id = '' AND o.object_id = gone.id
), delivered AS (
    DELETE FROM delivery AS o USING gone
    WHERE o.tenant_id = gone.tenant_id AND o.object_kind = $1 AND gone.integration_id = '' AND o.object_id = gone.id
)
DELETE FROM received_document AS o USING gone
WHERE o.tenant_id = gone.tenant_id AND o.object_kind = $1 AND o.integration_id = gone.integration_id
    AND o.object_id = gone.id
