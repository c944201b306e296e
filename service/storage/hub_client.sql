-- name: hub_client_lock
-- In the order of the keys, as `token_lock`.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, c.payload
FROM (
    SELECT country_code, party_id, key, integration_id
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS each (country_code, party_id, key, integration_id)
    ORDER BY country_code, party_id, key, integration_id
) AS wanted
CROSS JOIN LATERAL (
    SELECT payload
    FROM hub_client
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key
    FOR UPDATE
) AS c

-- name: hub_client_get_many
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, c.payload
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS wanted (country_code, party_id, key, integration_id)
CROSS JOIN LATERAL (
    SELECT payload
    FROM hub_client
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key
    OFFSET 0
) AS c

-- name: hub_client_put
INSERT INTO hub_client (tenant_id, country_code, party_id, key, integration_id, role, status, etag, payload)
SELECT $1, country_code, party_id, key, integration_id, role, status, etag, payload
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::smallint[], $8::text[], $9::bytea[]
) AS new (country_code, party_id, key, integration_id, role, status, etag, payload)
ON CONFLICT (tenant_id, integration_id, country_code, party_id, key) DO UPDATE
SET role = excluded.role, status = excluded.status, etag = excluded.etag, payload = excluded.payload

-- name: hub_client_page
SELECT country_code || party_id || key AS object_id, payload
FROM (
    SELECT
        country_code, party_id, key, payload,
        sum(octet_length(payload)) OVER (ORDER BY country_code, party_id, key) - octet_length(payload) AS before
    FROM (
        SELECT country_code, party_id, key, payload
        FROM hub_client
        WHERE tenant_id = $1 AND integration_id = $5 AND (country_code, party_id, key) > ($2, $3, $4)
            AND ($6::text = '' OR country_code = $6) AND ($7::text = '' OR party_id = $7)
            AND ($8::smallint = 0 OR role = $8) AND ($9::smallint = 0 OR status = $9)
        ORDER BY country_code, party_id, key
        LIMIT $10
    ) AS page
) AS sized
WHERE before < $11
ORDER BY country_code, party_id, key

-- name: hub_client_statuses
SELECT (hub_clients ->> $2)::integer AS status
FROM integration
WHERE tenant_id = $1 AND hub_clients ? $2 AND parties && $3::text[] AND integration_id <> $4
