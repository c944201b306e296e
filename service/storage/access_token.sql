-- name: access_token_get
SELECT base_url, sealed
FROM access_token
WHERE tenant_id = $1 AND integration_id = $2 AND etag = $3 AND expire_time > now()

-- name: access_token_keep
-- Asked for $7 ago. Nothing is kept for an integration that was changed or deleted since, or over a token that was asked
-- for later.
INSERT INTO access_token (tenant_id, integration_id, etag, base_url, sealed, expire_time, ask_time)
SELECT $1, $2, $3, $4, $5, coalesce(now() - $7::interval + $6::interval, 'infinity'), now() - $7
FROM integration
WHERE tenant_id = $1 AND integration_id = $2 AND etag = $3
FOR SHARE
ON CONFLICT (tenant_id, integration_id) DO UPDATE
SET etag = EXCLUDED.etag, base_url = EXCLUDED.base_url, sealed = EXCLUDED.sealed, expire_time = EXCLUDED.expire_time,
    ask_time = EXCLUDED.ask_time
WHERE access_token.ask_time <= EXCLUDED.ask_time

-- name: access_token_forget
DELETE FROM access_token WHERE tenant_id = $1 AND integration_id = $2
