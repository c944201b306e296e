-- name: quarantine_put
-- What is kept already is kept anew; the others as long as there are fewer than $9 of the integration.
INSERT INTO quarantine (tenant_id, integration_id, object_kind, run_id, version, key, payload, document)
SELECT $1, $2, $3, $4, $5, new.key, new.payload, new.document
FROM unnest($6::text[], $7::bytea[], $8::text[]) WITH ORDINALITY AS new (key, payload, document, number)
WHERE new.number <= $9 - (
        SELECT count(*) FROM quarantine WHERE tenant_id = $1 AND integration_id = $2
    ) OR EXISTS (
        SELECT FROM quarantine
        WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND key = new.key
    )
ON CONFLICT (tenant_id, integration_id, object_kind, key) DO UPDATE
SET run_id = excluded.run_id, version = excluded.version, payload = excluded.payload, document = excluded.document,
    latest_time = now(), count = quarantine.count + CASE WHEN quarantine.run_id = excluded.run_id THEN 0 ELSE 1 END

-- name: quarantine_release
DELETE FROM quarantine
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND key = ANY ($4::text[])

-- name: quarantine_leave
-- Those that the run $4 did not find again: all, or with $5 those without an id.
DELETE FROM quarantine
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND run_id <> $4 AND (NOT $5 OR key LIKE '#%')

-- name: quarantine_again
-- Those of the version $5 that were kept whole.
SELECT position, key, document
FROM quarantine
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND position > $4 AND version = $5
    AND length(document) <= $6 AND document <> ''
ORDER BY position
LIMIT $7

-- name: quarantine_get
SELECT quarantine_id, integration_id, object_kind, run_id, first_time, latest_time, count, payload, document
FROM quarantine
WHERE tenant_id = $1 AND quarantine_id = $2

-- name: quarantine_delete
DELETE FROM quarantine WHERE tenant_id = $1 AND quarantine_id = $2

-- name: quarantine_page
SELECT position, quarantine_id, integration_id, object_kind, run_id, first_time, latest_time, count, payload
FROM quarantine
WHERE tenant_id = $1 AND integration_id = $2 AND position < $3 AND ($4::smallint = 0 OR object_kind = $4)
ORDER BY position DESC
LIMIT $5
