-- name: partner_token_find
-- tenant: any, because the token decides the tenant.
SELECT
    t.tenant_id, t.integration_id, t.token_id, t.initial, t.confirmed, t.exchanges, t.digest, i.enabled,
    coalesce(t.use_time < now() - interval '1 minute', true) AS unused,
    EXISTS (
        SELECT FROM integration AS behind
        WHERE behind.tenant_id = t.tenant_id AND behind.platform_integration_id = t.integration_id
            AND behind.platform_integration_id <> ''
    ) AS platform
FROM partner_token AS t
JOIN integration AS i USING (tenant_id, integration_id)
WHERE t.digest = ANY($1::bytea[])

-- name: partner_token_exchange
UPDATE partner_token SET exchanges = exchanges + 1
WHERE tenant_id = $1 AND integration_id = $2 AND token_id = $3 AND exchanges = $4

-- name: partner_token_add
INSERT INTO partner_token (tenant_id, integration_id, initial, digest) VALUES ($1, $2, $3, $4) RETURNING token_id

-- name: partner_token_keep_newest
-- Of those that the partner may or may not have got, the newest few.
DELETE FROM partner_token
WHERE tenant_id = $1 AND integration_id = $2 AND NOT initial AND NOT confirmed AND token_id <= (
    SELECT token_id FROM partner_token
    WHERE tenant_id = $1 AND integration_id = $2 AND NOT initial AND NOT confirmed
    ORDER BY token_id DESC
    OFFSET $3 LIMIT 1
)

-- name: partner_token_use
UPDATE partner_token SET use_time = now(), confirmed = confirmed OR $4
WHERE tenant_id = $1 AND integration_id = $2 AND token_id = $3

-- name: partner_token_end_older
DELETE FROM partner_token WHERE tenant_id = $1 AND integration_id = $2 AND token_id < $3

-- name: partner_token_end
DELETE FROM partner_token WHERE tenant_id = $1 AND integration_id = $2 AND token_id = $3

-- name: partner_token_end_initial
DELETE FROM partner_token WHERE tenant_id = $1 AND integration_id = $2 AND initial

-- name: partner_token_end_all
DELETE FROM partner_token WHERE tenant_id = $1 AND integration_id = $2

-- name: partner_token_list
SELECT token_id, initial, confirmed, create_time, use_time
FROM partner_token
WHERE tenant_id = $1 AND integration_id = $2
ORDER BY token_id
