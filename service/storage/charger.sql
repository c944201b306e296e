-- name: charger_get
SELECT payload FROM charger WHERE tenant_id = $1 AND key = $2

-- name: charger_lock_site
-- In the order of the keys, so that two locations of a site wait for each other and never for themselves. A location has
-- room for 1,000 EVSEs and a charger has a socket at least, so one more charger is enough to see that it does not fit.
SELECT payload FROM charger
WHERE tenant_id = $1 AND site_id = $2
ORDER BY key
LIMIT 1001
FOR UPDATE

-- name: charger_lock_many
-- In the order of the keys, for the same reason.
SELECT payload FROM charger WHERE tenant_id = $1 AND key = ANY($2::text[]) ORDER BY key FOR UPDATE

-- name: charger_insert
INSERT INTO charger (tenant_id, key, site_id, etag, payload) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
RETURNING key

-- name: charger_replace
UPDATE charger AS c
SET site_id = new.site_id, etag = new.etag, payload = new.payload
FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[]) AS new (key, site_id, etag, payload)
WHERE c.tenant_id = $1 AND c.key = new.key

-- name: charger_delete
DELETE FROM charger WHERE tenant_id = $1 AND key = $2

-- name: charger_page
SELECT key, payload
FROM (
    SELECT key, payload, sum(octet_length(payload)) OVER (ORDER BY key) - octet_length(payload) AS before
    FROM (
        SELECT key, payload
        FROM charger
        WHERE tenant_id = $1 AND key > $2 AND ($3::text = '' OR site_id = $3)
        ORDER BY key
        LIMIT $4
    ) AS page
) AS sized
WHERE before < $5
ORDER BY key
