-- name: party_get
SELECT payload FROM party WHERE tenant_id = $1 AND country_code = $2 AND party_id = $3

-- name: party_get_many
SELECT p.payload
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS wanted (country_code, party_id, position)
JOIN party AS p ON (p.country_code, p.party_id) = (wanted.country_code, wanted.party_id)
WHERE p.tenant_id = $1
ORDER BY wanted.position

-- name: party_lock
SELECT payload FROM party WHERE tenant_id = $1 AND country_code = $2 AND party_id = $3 FOR UPDATE

-- name: party_hold
-- Those of the parties that exist, kept from being deleted until the transaction ends.
SELECT p.country_code, p.party_id
FROM party AS p
JOIN unnest($2::text[], $3::text[]) AS wanted (country_code, party_id) USING (country_code, party_id)
WHERE p.tenant_id = $1
FOR KEY SHARE OF p

-- name: party_insert
INSERT INTO party (tenant_id, country_code, party_id, etag, payload) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
RETURNING party_id

-- name: party_replace
UPDATE party SET etag = $4, payload = $5 WHERE tenant_id = $1 AND country_code = $2 AND party_id = $3

-- name: party_delete
DELETE FROM party WHERE tenant_id = $1 AND country_code = $2 AND party_id = $3

-- name: party_objects
SELECT
    (
        SELECT count(*) FROM tariff
        WHERE tenant_id = $1 AND integration_id = '' AND country_code = $2 AND party_id = $3 AND delete_time IS NULL
    ) AS tariffs,
    (
        SELECT count(*) FROM location
        WHERE tenant_id = $1 AND integration_id = '' AND country_code = $2 AND party_id = $3 AND delete_time IS NULL
    ) AS locations,
    (
        SELECT count(*) FROM token
        WHERE tenant_id = $1 AND integration_id = '' AND country_code = $2 AND party_id = $3 AND delete_time IS NULL
    ) AS tokens,
    (SELECT count(*) FROM integration WHERE tenant_id = $1 AND $2::text || $3::text = ANY (parties)) AS integrations

-- name: party_page
SELECT key, payload
FROM (
    SELECT key, payload, sum(octet_length(payload)) OVER (ORDER BY key) - octet_length(payload) AS before
    FROM (
        SELECT country_code || party_id AS key, payload
        FROM party
        WHERE tenant_id = $1 AND (country_code, party_id) > ($2, $3)
        ORDER BY country_code, party_id
        LIMIT $4
    ) AS page
) AS sized
WHERE before < $5
ORDER BY key
