-- name: api_key_find
-- tenant: any, because the key decides the tenant.
SELECT
    tenant_id, key_id, role, digest, services, integrations, calls_per_minute, expire_time,
    coalesce(extract(epoch FROM expire_time - now()), 'infinity')::float8 AS lasts_s,
    coalesce(use_time < now() - interval '1 minute', true) AS use_due
FROM api_key
WHERE digest = ANY($1::bytea[]) AND revoke_time IS NULL

-- name: api_key_use
-- One of several processes that find it due at once writes.
UPDATE api_key SET use_time = now()
WHERE tenant_id = $1 AND key_id = $2 AND coalesce(use_time < now() - interval '1 minute', true)

-- name: api_key_any
-- tenant: any, because it tells an empty database from one in use.
SELECT EXISTS (SELECT FROM api_key)

-- name: api_key_first_lock
-- tenant: any, because it lets one of several starting processes make the first key.
SELECT pg_advisory_xact_lock(7290311)

-- name: tenant_exists
SELECT EXISTS (SELECT FROM tenant WHERE tenant_id = $1)

-- name: tenant_ensure
INSERT INTO tenant (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING

-- name: api_key_insert
INSERT INTO api_key (tenant_id, key_id, name, role, digest, services, integrations, calls_per_minute, expire_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING create_time

-- name: api_key_get
SELECT
    key_id, name, role, services, integrations, calls_per_minute, create_time, expire_time, revoke_time, use_time
FROM api_key
WHERE tenant_id = $1 AND key_id = $2

-- name: api_key_page
SELECT
    key_id, name, role, services, integrations, calls_per_minute, create_time, expire_time, revoke_time, use_time
FROM api_key
WHERE tenant_id = $1 AND key_id > $2 AND ($4 OR (revoke_time IS NULL AND coalesce(expire_time > now(), true)))
ORDER BY key_id
LIMIT $3

-- name: api_key_list
-- tenant: any, because the operator's command line lists them all when no tenant is named.
SELECT
    tenant_id, key_id, name, role, services, integrations, calls_per_minute, create_time, expire_time, revoke_time,
    use_time
FROM api_key
WHERE $1::text = '' OR tenant_id = $1
ORDER BY tenant_id, create_time, key_id

-- name: api_key_revoke
UPDATE api_key SET revoke_time = now()
WHERE tenant_id = $1 AND key_id = $2 AND revoke_time IS NULL
RETURNING key_id
