-- name: personal_tokens
-- Of the contract $2, or with that empty of the party and the name; tombstones too.
SELECT country_code, party_id, key, integration_id, payload
FROM token
WHERE tenant_id = $1
    AND CASE WHEN $2::text <> '' THEN contract_key = $2 ELSE country_code || party_id = $3 AND key = $4 END

-- name: personal_sessions
-- Of the contract $2, or with that empty of the token.
SELECT country_code, party_id, key, integration_id FROM session WHERE tenant_id = $1 AND contract_key = $2 AND $2 <> ''
UNION ALL
SELECT country_code, party_id, key, integration_id FROM session
WHERE tenant_id = $1 AND $2 = '' AND token_party = $3 AND token_key = $4

-- name: personal_cdrs
-- In the same way.
SELECT country_code, party_id, key, integration_id FROM cdr WHERE tenant_id = $1 AND contract_key = $2 AND $2 <> ''
UNION ALL
SELECT country_code, party_id, key, integration_id FROM cdr
WHERE tenant_id = $1 AND $2 = '' AND token_party = $3 AND token_key = $4

-- name: personal_sessions_old
-- tenant: any, because age decides. Those that lead to drivers.
SELECT tenant_id, country_code, party_id, key, integration_id
FROM session
WHERE update_time < now() - $1::interval AND contract_key NOT LIKE 'erased-%'
ORDER BY update_time
LIMIT $2

-- name: personal_cdrs_old
-- tenant: any, because age decides. Those that lead to drivers.
SELECT tenant_id, country_code, party_id, key, integration_id
FROM cdr
WHERE update_time < now() - $1::interval AND contract_key NOT LIKE 'erased-%'
ORDER BY update_time
LIMIT $2

-- name: personal_on_the_way
-- Which of the objects $3 are on their way to a partner; nobody claims any of them until the transaction ends.
SELECT DISTINCT object_id
FROM (
    SELECT d.object_id, d.state
    FROM integration AS i
    JOIN delivery AS d USING (tenant_id, integration_id)
    WHERE i.tenant_id = $1 AND d.object_kind = $2 AND d.object_id = ANY($3::text[])
    ORDER BY d.integration_id, d.object_id
    FOR NO KEY UPDATE OF d
) AS held
WHERE state NOT IN (3, 5)

-- name: personal_documents
-- What partners see, were shown and were sent of the objects $3.
SELECT hash, payload
FROM partner_document
WHERE tenant_id = $1 AND hash IN (
    SELECT o.hash
    FROM integration AS i
    CROSS JOIN unnest($3::text[]) AS named (object_id)
    JOIN partner_object AS o USING (tenant_id, integration_id)
    WHERE i.tenant_id = $1 AND o.object_kind = $2 AND o.country_code = left(named.object_id, 2)
        AND o.party_id = substr(named.object_id, 3, 3) AND o.key = substr(named.object_id, 6)
    UNION ALL
    SELECT d.hash
    FROM integration AS i
    JOIN disclosure AS d USING (tenant_id, integration_id)
    WHERE i.tenant_id = $1 AND d.object_kind = $2 AND d.object_id = ANY($3::text[])
)

-- name: personal_documents_replace
-- $4 with the hash $3 comes in the place of $2, wherever that is named. When a partner was shown it stays as it was.
WITH new AS MATERIALIZED (
    SELECT old, hash, payload FROM unnest($2::bytea[], $3::bytea[], $4::bytea[]) AS each (old, hash, payload)
), kept AS (
    INSERT INTO partner_document (tenant_id, hash, payload) SELECT $1, hash, payload FROM new ON CONFLICT DO NOTHING
), seen AS (
    UPDATE partner_object AS o SET hash = new.hash FROM new WHERE o.tenant_id = $1 AND o.hash = new.old
)
UPDATE disclosure AS d SET hash = new.hash FROM new WHERE d.tenant_id = $1 AND d.hash = new.old

-- name: personal_documents_delete
-- Those that nothing names.
DELETE FROM partner_document AS p
WHERE tenant_id = $1 AND hash = ANY($2::bytea[])
    AND NOT EXISTS (SELECT FROM partner_object AS o WHERE o.tenant_id = $1 AND o.hash = p.hash)
    AND NOT EXISTS (SELECT FROM disclosure AS d WHERE d.tenant_id = $1 AND d.hash = p.hash)

-- name: personal_peers
SELECT p.integration_id, p.object_id, p.sent_document
FROM integration AS i
JOIN peer_object AS p USING (tenant_id, integration_id)
WHERE i.tenant_id = $1 AND p.object_kind = $2 AND p.object_id = ANY($3::text[]) AND p.sent_document IS NOT NULL

-- name: personal_peers_replace
UPDATE peer_object AS p SET sent_document = new.document
FROM unnest($3::text[], $4::text[], $5::bytea[]) AS new (integration_id, object_id, document)
WHERE p.tenant_id = $1 AND p.object_kind = $2 AND p.integration_id = new.integration_id AND p.object_id = new.object_id

-- name: personal_tokens_delete
-- With what partners sent, see and hold of them, and of those of ours with how they went there.
WITH gone AS MATERIALIZED (
    SELECT country_code, party_id, key, integration_id, country_code || party_id || key AS object_id
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS each (country_code, party_id, key, integration_id)
), ways AS MATERIALIZED (
    SELECT i.integration_id, gone.country_code, gone.party_id, gone.key, gone.object_id
    FROM integration AS i CROSS JOIN gone
    WHERE i.tenant_id = $1 AND gone.integration_id = ''
), delivered AS (
    DELETE FROM delivery AS d USING ways
    WHERE d.tenant_id = $1 AND d.integration_id = ways.integration_id AND d.object_kind = 13
        AND d.object_id = ways.object_id
), held AS (
    DELETE FROM peer_object AS p USING ways
    WHERE p.tenant_id = $1 AND p.integration_id = ways.integration_id AND p.object_kind = 13
        AND p.object_id = ways.object_id
), seen AS (
    DELETE FROM partner_object AS o USING ways
    WHERE o.tenant_id = $1 AND o.integration_id = ways.integration_id AND o.object_kind = 13
        AND o.country_code = ways.country_code AND o.party_id = ways.party_id AND o.key = ways.key
), told AS (
    DELETE FROM disclosure AS d USING ways
    WHERE d.tenant_id = $1 AND d.integration_id = ways.integration_id AND d.object_kind = 13
        AND d.object_id = ways.object_id
), sent AS (
    DELETE FROM received_document AS r USING gone
    WHERE r.tenant_id = $1 AND r.integration_id = gone.integration_id AND r.object_kind = 13
        AND r.object_id = gone.object_id
), unseen AS (
    DELETE FROM pull_unseen AS u USING gone
    WHERE u.tenant_id = $1 AND u.integration_id = gone.integration_id AND u.object_kind = 13
        AND u.object_id = gone.object_id
)
DELETE FROM token AS t USING gone
WHERE t.tenant_id = $1 AND t.integration_id = gone.integration_id AND t.country_code = gone.country_code
    AND t.party_id = gone.party_id AND t.key = gone.key

-- name: personal_received_delete
-- What partners sent of objects of the kind $2.
DELETE FROM received_document AS r
USING unnest($3::text[], $4::text[]) AS gone (integration_id, object_id)
WHERE r.tenant_id = $1 AND r.integration_id = gone.integration_id AND r.object_kind = $2
    AND r.object_id = gone.object_id

-- name: personal_blocks
-- tenant: any, because a table is searched block by block, so that no statement takes long.
SELECT pg_relation_size($1::text::regclass) / current_setting('block_size')::integer

-- name: personal_questions
DELETE FROM question
WHERE tenant_id = $1 AND ctid >= $2::tid AND ctid < $3::tid
    AND (lower(encode(payload, 'escape')) LIKE ANY($4::text[]) OR lower(encode(answer, 'escape')) LIKE ANY($4))

-- name: personal_answers
DELETE FROM idempotency
WHERE tenant_id = $1 AND ctid >= $2::tid AND ctid < $3::tid AND lower(encode(answer, 'escape')) LIKE ANY($4::text[])

-- name: personal_exchanges
-- $4 stands in their bodies.
DELETE FROM exchange
WHERE tenant_id = $1 AND ctid >= $2::tid AND ctid < $3::tid AND lower(encode(payload, 'escape')) LIKE ANY($4::text[])

-- name: personal_quarantine
-- $4 stands in what partners wrote, or in the names of the objects.
DELETE FROM quarantine
WHERE tenant_id = $1 AND ctid >= $2::tid AND ctid < $3::tid
    AND (lower(document) LIKE ANY($4::text[]) OR lower(encode(payload, 'escape')) LIKE ANY($4))

-- name: personal_documents_orphaned
-- What a partner saw before, and nothing names any more.
DELETE FROM partner_document AS p
WHERE tenant_id = $1 AND ctid >= $2::tid AND ctid < $3::tid AND lower(encode(payload, 'escape')) LIKE ANY($4::text[])
    AND NOT EXISTS (SELECT FROM partner_object AS o WHERE o.tenant_id = $1 AND o.hash = p.hash)
    AND NOT EXISTS (SELECT FROM disclosure AS d WHERE d.tenant_id = $1 AND d.hash = p.hash)

-- name: personal_changes
UPDATE change AS c SET object_id = new.object_id
FROM unnest($4::text[], $5::text[]) AS new (old, object_id)
WHERE c.tenant_id = $1 AND c.ctid >= $2::tid AND c.ctid < $3::tid AND c.object_kind = 13 AND c.object_id = new.old

-- name: personal_commands
SELECT command_id, payload
FROM command
WHERE tenant_id = $1 AND ctid >= $2::tid AND ctid < $3::tid AND lower(encode(payload, 'escape')) LIKE ANY($4::text[])
FOR UPDATE

-- name: personal_command_replace
UPDATE command SET payload = $3 WHERE tenant_id = $1 AND command_id = $2

-- name: personal_findings
SELECT run_id, lease_token, number, payload
FROM run_finding
WHERE tenant_id = $1 AND ctid >= $2::tid AND ctid < $3::tid AND lower(encode(payload, 'escape')) LIKE ANY($4::text[])

-- name: personal_finding_replace
UPDATE run_finding SET payload = $5 WHERE tenant_id = $1 AND run_id = $2 AND lease_token = $3 AND number = $4
