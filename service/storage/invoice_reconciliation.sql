-- name: invoice_reconciliation_get
SELECT payload FROM invoice_reconciliation
WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND key = $4 AND delete_time IS NULL

-- name: invoice_reconciliation_get_many
-- Looked up as in `invoice_reconciliation_lock`.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, t.payload
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS wanted (country_code, party_id, key, integration_id)
CROSS JOIN LATERAL (
    SELECT payload
    FROM invoice_reconciliation
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key AND delete_time IS NULL
    OFFSET 0
) AS t

-- name: invoice_reconciliation_lock
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
    FROM invoice_reconciliation
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key
    FOR UPDATE
) AS t

-- name: invoice_reconciliation_insert
-- `cdr_keys` are lines of a text, for an array of arrays would be one array.
INSERT INTO invoice_reconciliation (
    tenant_id, country_code, party_id, key, integration_id, invoice_key, cdr_keys, recipient_id, update_time, etag,
    payload
)
SELECT $1, country_code, party_id, key, integration_id, invoice_key, string_to_array(cdr_keys, E'\n'), recipient_id,
    update_time, etag, payload
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::timestamptz[],
    $10::text[], $11::bytea[]
) AS new (
    country_code, party_id, key, integration_id, invoice_key, cdr_keys, recipient_id, update_time, etag, payload
)
ON CONFLICT DO NOTHING
RETURNING country_code, party_id, key

-- name: invoice_reconciliation_replace
UPDATE invoice_reconciliation AS t
SET invoice_key = new.invoice_key, cdr_keys = string_to_array(new.cdr_keys, E'\n'), recipient_id = new.recipient_id,
    update_time = new.update_time, etag = new.etag, payload = new.payload, delete_time = NULL
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::timestamptz[],
    $10::text[], $11::bytea[]
) AS new (
    country_code, party_id, key, integration_id, invoice_key, cdr_keys, recipient_id, update_time, etag, payload
)
CROSS JOIN LATERAL (
    SELECT ctid FROM invoice_reconciliation
    WHERE tenant_id = $1 AND integration_id = new.integration_id AND country_code = new.country_code
        AND party_id = new.party_id AND key = new.key
    OFFSET 0
) AS held
WHERE t.ctid = held.ctid AND t.tenant_id = $1

-- name: invoice_reconciliation_tombstone
UPDATE invoice_reconciliation SET delete_time = now()
WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND key = $4
RETURNING recipient_id

-- name: invoice_reconciliation_page
SELECT country_code || party_id || key AS object_id, payload
FROM (
    SELECT
        country_code, party_id, key, payload,
        sum(octet_length(payload)) OVER (ORDER BY country_code, party_id, key) - octet_length(payload) AS before
    FROM (
        SELECT country_code, party_id, key, payload
        FROM invoice_reconciliation
        WHERE tenant_id = $1 AND integration_id = $5 AND (country_code, party_id, key) > ($2, $3, $4)
            AND delete_time IS NULL
            AND ($6::text = '' OR country_code = $6) AND ($7::text = '' OR party_id = $7)
            AND ($8::text = '' OR invoice_key = $8) AND ($9::text = '' OR cdr_keys @> ARRAY[$9])
            AND ($10::text = '' OR recipient_id = $10)
            AND ($11::timestamptz IS NULL OR update_time >= $11) AND ($12::timestamptz IS NULL OR update_time < $12)
        ORDER BY country_code, party_id, key
        LIMIT $13
    ) AS page
) AS sized
WHERE before < $14
ORDER BY country_code, party_id, key
