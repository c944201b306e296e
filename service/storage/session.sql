-- name: session_get
SELECT payload FROM session
WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND key = $4
    AND ($5 = '' OR NOT EXISTS (SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = $5))

-- name: session_get_many
-- Looked up as in `session_lock`.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, t.payload
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS wanted (country_code, party_id, key, integration_id)
CROSS JOIN LATERAL (
    SELECT payload
    FROM session
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key
        AND (wanted.integration_id = '' OR NOT EXISTS (
            SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = wanted.integration_id
        ))
    OFFSET 0
) AS t

-- name: session_lock
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
    FROM session
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key
    FOR UPDATE
) AS t

-- name: session_insert
INSERT INTO session (
    tenant_id, country_code, party_id, key, integration_id, status, start_time, update_time, token_party, token_key,
    contract_key, location_key, recipient_id, etag, payload
)
SELECT $1, country_code, party_id, key, integration_id, status, start_time, update_time, token_party, token_key,
    contract_key, location_key, recipient_id, etag, payload
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::timestamptz[], $8::timestamptz[],
    $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::bytea[]
) AS new (
    country_code, party_id, key, integration_id, status, start_time, update_time, token_party, token_key,
    contract_key, location_key, recipient_id, etag, payload
)
ON CONFLICT DO NOTHING
RETURNING country_code, party_id, key

-- name: session_replace
UPDATE session AS t
SET status = new.status, start_time = new.start_time, update_time = new.update_time, token_party = new.token_party,
    token_key = new.token_key, contract_key = new.contract_key, location_key = new.location_key,
    recipient_id = new.recipient_id, etag = new.etag, payload = new.payload
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::timestamptz[], $8::timestamptz[],
    $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::bytea[]
) AS new (
    country_code, party_id, key, integration_id, status, start_time, update_time, token_party, token_key, contract_key,
    location_key, recipient_id, etag, payload
)
CROSS JOIN LATERAL (
    SELECT ctid FROM session
    WHERE tenant_id = $1 AND integration_id = new.integration_id AND country_code = new.country_code
        AND party_id = new.party_id AND key = new.key
    OFFSET 0
) AS held
WHERE t.ctid = held.ctid AND t.tenant_id = $1

-- name: session_page
SELECT to_char(start_time AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS') || country_code || party_id || key AS place, payload
FROM (
    SELECT
        start_time, country_code, party_id, key, payload,
        sum(octet_length(payload)) OVER (ORDER BY start_time, country_code, party_id, key) - octet_length(payload)
            AS before
    FROM (
        SELECT start_time, country_code, party_id, key, payload
        FROM session
        WHERE tenant_id = $1 AND integration_id = $2
            AND (start_time, country_code, party_id, key) > ($3::timestamptz, $4::text, $5::text, $6::text)
            AND ($2 = '' OR NOT EXISTS (SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = $2))
            AND ($7::text = '' OR country_code = $7) AND ($8::text = '' OR party_id = $8)
            AND ($9::text = '' OR left(token_party, 2) = $9) AND ($10::text = '' OR substr(token_party, 3) = $10)
            AND ($11::text = '' OR token_key = $11) AND ($12::text = '' OR contract_key = $12)
            AND ($13::text = '' OR location_key = $13)
            AND ($14::timestamptz IS NULL OR start_time >= $14) AND ($15::timestamptz IS NULL OR start_time < $15)
            AND ($16::timestamptz IS NULL OR update_time >= $16) AND ($17::timestamptz IS NULL OR update_time < $17)
            AND ($20::smallint = 0 OR status = $20)
        ORDER BY start_time, country_code, party_id, key
        LIMIT $18
    ) AS page
) AS sized
WHERE before < $19
ORDER BY start_time, country_code, party_id, key
