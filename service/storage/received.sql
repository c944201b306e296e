-- name: received_documents
-- All parts of the objects, those of whole locations with their EVSEs.
SELECT d.object_id, d.part, d.version, d.last_updated, d.document
FROM unnest($4::text[]) AS wanted (object_id)
CROSS JOIN LATERAL (
    SELECT object_id, part, version, last_updated, document
    FROM received_document
    WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id = wanted.object_id
    OFFSET 0
) AS d

-- name: received_document_get
SELECT object_id, part, version, last_updated, document
FROM received_document
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id = $4 AND part = $5

-- name: received_document_put
INSERT INTO received_document (
    tenant_id, integration_id, object_kind, object_id, part, version, last_updated, document
)
SELECT $1, $2, $3, object_id, part, version, last_updated, document
FROM unnest($4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::text[])
    AS new (object_id, part, version, last_updated, document)
ON CONFLICT (tenant_id, integration_id, object_kind, object_id, part) DO UPDATE
SET version = excluded.version, last_updated = excluded.last_updated, document = excluded.document

-- name: received_document_delete
DELETE FROM received_document
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id = $4
