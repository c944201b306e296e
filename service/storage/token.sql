-- name: token_get
SELECT payload FROM token
WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND key = $4 AND delete_time IS NULL
    AND ($5 = '' OR NOT EXISTS (SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = $5))

-- name: token_get_many
-- Looked up as in `token_lock`.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, t.payload
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS wanted (country_code, party_id, key, integration_id)
CROSS JOIN LATERAL (
    SELECT payload
    FROM token
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key AND delete_time IS NULL
        AND (wanted.integration_id = '' OR NOT EXISTS (
            SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = wanted.integration_id
        ))
    OFFSET 0
) AS t

-- name: token_lock
-- In the order of the keys, so that two batches wait for each other and never for themselves. Each is looked up by its key,
-- however the planner guesses about a table that was never analysed.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, t.payload, t.delete_time
FROM (
    SELECT country_code, party_id, key, integration_id
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS each (country_code, party_id, key, integration_id)
    ORDER BY country_code, party_id, key, integration_id
) AS wanted
CROSS JOIN LATERAL (
    SELECT payload, delete_time
    FROM token
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key
    FOR UPDATE
) AS t

-- name: token_insert
INSERT INTO token (
    tenant_id, country_code, party_id, key, integration_id, type, contract_key, group_key, whitelist, valid, etag,
    payload
)
SELECT $1, country_code, party_id, key, integration_id, type, contract_key, group_key, whitelist, valid, etag, payload
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::text[], $8::text[], $9::smallint[],
    $10::boolean[], $11::text[], $12::bytea[]
) AS new (
    country_code, party_id, key, integration_id, type, contract_key, group_key, whitelist, valid, etag, payload
)
ON CONFLICT DO NOTHING
RETURNING country_code, party_id, key

-- name: token_replace
UPDATE token AS t
SET type = new.type, contract_key = new.contract_key, group_key = new.group_key, whitelist = new.whitelist,
    valid = new.valid, etag = new.etag, payload = new.payload, delete_time = NULL
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::text[], $8::text[], $9::smallint[],
    $10::boolean[], $11::text[], $12::bytea[]
) AS new (
    country_code, party_id, key, integration_id, type, contract_key, group_key, whitelist, valid, etag, payload
)
CROSS JOIN LATERAL (
    SELECT ctid FROM token
    WHERE tenant_id = $1 AND integration_id = new.integration_id AND country_code = new.country_code
        AND party_id = new.party_id AND key = new.key
    OFFSET 0
) AS held
WHERE t.ctid = held.ctid AND t.tenant_id = $1

-- name: tokens_named
-- Ours first; providers may use one uid.
SELECT payload FROM token
WHERE tenant_id = $1 AND key = $2 AND delete_time IS NULL
    AND (token.integration_id = '' OR NOT EXISTS (
        SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = token.integration_id
    ))
ORDER BY integration_id, country_code, party_id
LIMIT 100

-- name: token_tombstone
UPDATE token SET delete_time = now()
WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND key = $4

-- name: token_page
SELECT country_code || party_id || key AS object_id, payload
FROM (
    SELECT
        country_code, party_id, key, payload,
        sum(octet_length(payload)) OVER (ORDER BY country_code, party_id, key) - octet_length(payload) AS before
    FROM (
        SELECT country_code, party_id, key, payload
        FROM token
        WHERE tenant_id = $1 AND integration_id = $5 AND (country_code, party_id, key) > ($2, $3, $4)
            AND delete_time IS NULL
            AND ($5 = '' OR NOT EXISTS (SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = $5))
            AND ($6::text = '' OR country_code = $6) AND ($7::text = '' OR party_id = $7)
            AND ($8::smallint = 0 OR type = $8) AND ($9::text = '' OR contract_key = $9)
            AND ($10::text = '' OR group_key = $10) AND ($11::smallint = 0 OR whitelist = $11)
            AND ($12::boolean IS NULL OR valid = $12)
        ORDER BY country_code, party_id, key
        LIMIT $13
    ) AS page
) AS sized
WHERE before < $14
ORDER BY country_code, party_id, key
