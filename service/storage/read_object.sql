-- name: read_object_put
-- How many were not there.
WITH known AS (
    SELECT count(*) AS known FROM read_object
    WHERE tenant_id = $1 AND run_id = $2 AND list = $3 AND id = ANY ($4::bigint[])
), put AS (
    INSERT INTO read_object (tenant_id, run_id, list, id, payload)
    SELECT $1, $2, $3, id, payload FROM unnest($4::bigint[], $5::bytea[]) AS new (id, payload)
    ON CONFLICT (tenant_id, run_id, list, id) DO UPDATE SET payload = excluded.payload
)
SELECT cardinality($4::bigint[]) - known FROM known

-- name: read_object_add
INSERT INTO read_object (tenant_id, run_id, list, id, payload)
SELECT $1, $2, $3, id, payload FROM unnest($4::bigint[], $5::bytea[]) AS new (id, payload)
ON CONFLICT (tenant_id, run_id, list, id) DO UPDATE SET payload = read_object.payload || excluded.payload

-- name: read_object_get
SELECT id, payload FROM read_object
WHERE tenant_id = $1 AND run_id = $2 AND list = $3 AND id = ANY ($4::bigint[])
ORDER BY id

-- name: read_object_page
SELECT id, payload FROM read_object
WHERE tenant_id = $1 AND run_id = $2 AND list = $3 AND id > $4
ORDER BY id
LIMIT $5

-- name: read_object_forget
-- The first $3 of them.
DELETE FROM read_object
WHERE tenant_id = $1 AND run_id = $2 AND (list, id) <= (
    SELECT list, id
    FROM (
        SELECT list, id FROM read_object WHERE tenant_id = $1 AND run_id = $2 ORDER BY list, id LIMIT $3
    ) AS first
    ORDER BY list DESC, id DESC
    LIMIT 1
)
