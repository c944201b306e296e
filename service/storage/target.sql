-- name: integration_target
-- The integration, the platform that it is behind, and a row for each secret of who is registered; one row when it has none.
SELECT i.payload, platform.payload AS lender, s.field, s.sealed
FROM integration AS i
LEFT JOIN integration AS platform
    ON platform.tenant_id = $1 AND platform.integration_id = i.platform_integration_id AND platform.delete_time IS NULL
LEFT JOIN secret AS s
    ON s.tenant_id = $1
    AND s.resource = 'integration/' || coalesce(nullif(i.platform_integration_id, ''), i.integration_id)
WHERE i.tenant_id = $1 AND i.integration_id = $2 AND i.delete_time IS NULL
