-- name: exchange_record_until
-- Nothing is returned for an integration that does not exist.
INSERT INTO exchange_recording (tenant_id, integration_id, end_time)
SELECT tenant_id, integration_id, coalesce($3::timestamptz, now())
FROM integration
WHERE tenant_id = $1 AND integration_id = $2 AND delete_time IS NULL
ON CONFLICT (tenant_id, integration_id) DO UPDATE SET end_time = EXCLUDED.end_time
RETURNING end_time

-- name: exchange_recorded_until
SELECT end_time FROM exchange_recording WHERE tenant_id = $1 AND integration_id = $2 AND end_time > now()

-- name: exchange_insert
-- And forgets those beyond the newest $4.
WITH surplus AS (
    DELETE FROM exchange
    WHERE tenant_id = $1 AND integration_id = $2 AND exchange_id <= (
        SELECT exchange_id FROM exchange
        WHERE tenant_id = $1 AND integration_id = $2
        ORDER BY exchange_id DESC
        OFFSET $4::integer - 1
        LIMIT 1
    )
)
INSERT INTO exchange (tenant_id, integration_id, payload) VALUES ($1, $2, $3)

-- name: exchange_page
SELECT exchange_id, payload
FROM (
    SELECT
        exchange_id,
        payload,
        sum(octet_length(payload)) OVER (ORDER BY exchange_id DESC) - octet_length(payload) AS before
    FROM (
        SELECT exchange_id, payload
        FROM exchange
        WHERE tenant_id = $1 AND integration_id = $2 AND exchange_id < $3
        ORDER BY exchange_id DESC
        LIMIT $4
    ) AS page
) AS sized
WHERE before < $5
ORDER BY exchange_id DESC
