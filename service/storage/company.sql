-- name: company_get
SELECT payload FROM company WHERE tenant_id = $1 AND company_id = $2 AND delete_time IS NULL

-- name: company_find
SELECT company_id, payload FROM company WHERE tenant_id = $1 AND company_id = ANY($2::uuid[]) AND delete_time IS NULL

-- name: company_lock
-- In the order of the ids, so that two calls wait for each other and never for themselves.
SELECT company_id, payload, delete_time FROM company
WHERE tenant_id = $1 AND company_id = ANY($2::uuid[])
ORDER BY company_id
FOR UPDATE

-- name: company_insert
INSERT INTO company (tenant_id, company_id, version, is_cpo, is_emp, etag, payload)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT DO NOTHING
RETURNING version

-- name: company_replace
UPDATE company SET version = $3, is_cpo = $4, is_emp = $5, etag = $6, payload = $7, delete_time = NULL
WHERE tenant_id = $1 AND company_id = $2
RETURNING version

-- name: company_tombstone
UPDATE company SET delete_time = now() WHERE tenant_id = $1 AND company_id = $2

-- name: company_page
SELECT company_id, payload
FROM (
    SELECT company_id, payload, sum(octet_length(payload)) OVER (ORDER BY company_id) - octet_length(payload) AS before
    FROM (
        SELECT company_id, payload
        FROM company
        WHERE tenant_id = $1 AND company_id > $2 AND delete_time IS NULL
            AND ($3::boolean IS NULL OR is_cpo = $3) AND ($4::boolean IS NULL OR is_emp = $4)
        ORDER BY company_id
        LIMIT $5
    ) AS page
) AS sized
WHERE before < $6
ORDER BY company_id
