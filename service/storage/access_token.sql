-- name: access_token_get
SELECT base_url, sealed
FROM access_token
WHERE tenant_id = $1 AND integration_id = $2 AND etag = $3 AND expire_time > now()

-- name: access_token_keep
-- Nothing is kept for an integration that was changed or deleted since the token was asked for.
INSERT INTO access_token (tenant_id, integration_id, etag, base_url, sealed, expire_time)
SELECT $1, $2, $3, $4, $5, coalesce(now() + $6::interval, 'infinity')
FROM integration
WHERE tenant_id = $1 AND integration_id = $2 AND etag = $3
FOR SHARE
ON CONFLICT (tenant_id, integration_id) DO UPDATE
SET etag = EXCLUDED.etag, base_url = EXCLUDED.base_url, sealed = EXCLUDED.sealed, expire_time = EXCLUDED.expire_time

-- name: access_token_forget
DELETE FROM access_token WHERE tenant_id = $1 AND integration_id = $2
