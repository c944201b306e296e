-- name: cdr_get
SELECT payload FROM cdr
WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND key = $4

-- name: cdr_get_many
-- Looked up as in `cdr_lock`.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, t.payload
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS wanted (country_code, party_id, key, integration_id)
CROSS JOIN LATERAL (
    SELECT payload
    FROM cdr
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key
    OFFSET 0
) AS t

-- name: cdr_lock
-- In the order of the keys, so that two batches wait for each other and never for themselves. Each is looked up by its key,
-- however the planner guesses about a table that was never analysed.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, t.payload
FROM (
    SELECT country_code, party_id, key, integration_id
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS each (country_code, party_id, key, integration_id)
    ORDER BY country_code, party_id, key, integration_id
) AS wanted
CROSS JOIN LATERAL (
    SELECT payload
    FROM cdr
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key
    FOR UPDATE
) AS t

-- name: cdr_insert
INSERT INTO cdr (
    tenant_id, country_code, party_id, key, integration_id, currency, session_key, credited_key, audit_state, start_time, update_time, token_party, token_key,
    contract_key, location_key, recipient_id, etag, payload
)
SELECT $1, country_code, party_id, key, integration_id, currency, session_key, credited_key, audit_state, start_time, update_time, token_party, token_key,
    contract_key, location_key, recipient_id, etag, payload
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::smallint[],
    $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
    $17::text[], $18::bytea[]
) AS new (
    country_code, party_id, key, integration_id, currency, session_key, credited_key, audit_state, start_time, update_time, token_party, token_key,
    contract_key, location_key, recipient_id, etag, payload
)
ON CONFLICT DO NOTHING
RETURNING country_code, party_id, key

-- name: cdr_replace
UPDATE cdr AS c SET token_key = new.token_key, contract_key = new.contract_key, etag = new.etag, payload = new.payload
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bytea[]
) AS new (country_code, party_id, key, integration_id, token_key, contract_key, etag, payload)
WHERE c.tenant_id = $1 AND c.integration_id = new.integration_id AND c.country_code = new.country_code
    AND c.party_id = new.party_id AND c.key = new.key

-- name: cdr_page
SELECT to_char(start_time AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS') || country_code || party_id || key AS place, payload
FROM (
    SELECT
        start_time, country_code, party_id, key, payload,
        sum(octet_length(payload)) OVER (ORDER BY start_time, country_code, party_id, key) - octet_length(payload)
            AS before
    FROM (
        SELECT start_time, country_code, party_id, key, payload
        FROM cdr
        WHERE tenant_id = $1 AND integration_id = $2
            AND (start_time, country_code, party_id, key) > ($3::timestamptz, $4::text, $5::text, $6::text)
            AND ($7::text = '' OR country_code = $7) AND ($8::text = '' OR party_id = $8)
            AND ($9::text = '' OR left(token_party, 2) = $9) AND ($10::text = '' OR substr(token_party, 3) = $10)
            AND ($11::text = '' OR token_key = $11) AND ($12::text = '' OR contract_key = $12)
            AND ($13::text = '' OR location_key = $13)
            AND ($14::timestamptz IS NULL OR start_time >= $14) AND ($15::timestamptz IS NULL OR start_time < $15)
            AND ($16::timestamptz IS NULL OR update_time >= $16) AND ($17::timestamptz IS NULL OR update_time < $17)
            AND ($20::text = '' OR session_key = $20) AND ($21::text = '' OR credited_key = $21)
            AND ($22::text = '' OR currency = $22) AND ($23::smallint = 0 OR audit_state = $23)
        ORDER BY start_time, country_code, party_id, key
        LIMIT $18
    ) AS page
) AS sized
WHERE before < $19
ORDER BY start_time, country_code, party_id, key

-- name: cdr_credits
-- Which of the CDRs are taken back, by which.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, t.key AS credit_key
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS wanted (country_code, party_id, key, integration_id)
CROSS JOIN LATERAL (
    SELECT key
    FROM cdr
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND credited_key = wanted.key AND credited_key <> ''
    OFFSET 0
) AS t

-- name: cdr_audit_due
-- tenant: any, because one worker serves them all. The one that waits the longest; nobody else begins it for a minute.
WITH next AS MATERIALIZED (
    SELECT tenant_id, integration_id, country_code, party_id, key
    FROM cdr
    WHERE audit_state = 1 AND audit_lease <= now()
    ORDER BY audit_lease
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
UPDATE cdr AS c SET audit_lease = now() + interval '1 minute'
FROM next
WHERE c.tenant_id = next.tenant_id AND c.integration_id = next.integration_id AND c.country_code = next.country_code
    AND c.party_id = next.party_id AND c.key = next.key
RETURNING c.tenant_id, c.integration_id, c.country_code, c.party_id, c.key, c.payload

-- name: cdr_audited
-- Also one of which nothing could be said before. $9: the tariff it wants.
UPDATE cdr SET audit_state = $6, payload = $7, audit_tariff = $9
WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND key = $4 AND audit_state IN (1, 4)
    AND etag = $8
RETURNING true

-- name: cdr_audit_alone
-- tenant: any, because the name of the lock holds it. While it is held no tariff arrives through the integration.
SELECT pg_advisory_xact_lock(hashtextextended($1::text || '/' || $2::text, 87))

-- name: cdr_audit_beside
-- tenant: any, because the name of the lock holds it. Any number of tariffs may arrive at once.
SELECT pg_advisory_xact_lock_shared(hashtextextended($1::text || '/' || $2::text, 87))

-- name: cdr_audit_again
-- Those are due (1) whose audit ended (4) for want of one of these tariffs.
UPDATE cdr SET audit_state = 1, audit_tariff = '', audit_lease = '-infinity'
WHERE tenant_id = $1 AND integration_id = $2 AND audit_state = 4 AND audit_tariff = ANY($3::text[]) AND audit_tariff <> ''
