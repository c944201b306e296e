-- name: command_insert
INSERT INTO command (tenant_id, command_id, integration_id, direction, state, payload, response_url)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT DO NOTHING
RETURNING command_id

-- name: command_get
SELECT payload FROM command WHERE tenant_id = $1 AND command_id = $2

-- name: command_get_many
SELECT command_id, payload FROM command WHERE tenant_id = $1 AND command_id = ANY($2::uuid[])

-- name: command_lock
SELECT payload FROM command WHERE tenant_id = $1 AND command_id = $2 FOR UPDATE

-- name: command_put
-- With $5 its result is to be brought to who sent it.
UPDATE command
SET state = $3, payload = $4, send_time = CASE WHEN $5 THEN now() ELSE send_time END,
    result_time = CASE WHEN $5 THEN now() ELSE result_time END
WHERE tenant_id = $1 AND command_id = $2

-- name: command_page
SELECT position, payload
FROM (
    SELECT position, payload,
        sum(octet_length(payload)) OVER (ORDER BY position DESC) - octet_length(payload) AS before
    FROM (
        SELECT position, payload
        FROM command
        WHERE tenant_id = $1 AND position < $2
            AND ($3::text = '' OR integration_id = $3) AND ($4::smallint = 0 OR direction = $4)
            AND ($5::smallint = 0 OR state = $5)
        ORDER BY position DESC
        LIMIT $6
    ) AS page
) AS sized
WHERE before < $7
ORDER BY position DESC

-- name: command_claim
-- tenant: any, because one worker serves them all. Who dies with it leaves it to the next one after 20 seconds.
UPDATE command AS c
SET send_time = now() + interval '20 s'
FROM (
    SELECT tenant_id, command_id
    FROM command
    WHERE send_time <= now()
    ORDER BY send_time
    LIMIT 1
    FOR UPDATE SKIP LOCKED
) AS due
WHERE c.tenant_id = due.tenant_id AND c.command_id = due.command_id
RETURNING c.tenant_id, c.payload, c.response_url, c.result_time < now() - interval '1 hour' AS is_last

-- name: command_again
-- The longer it has been tried, the later it is tried again.
UPDATE command SET send_time = now() + least(greatest(interval '1 s', now() - result_time), interval '5 min')
WHERE tenant_id = $1 AND command_id = $2

-- name: command_sent
UPDATE command SET payload = $3, send_time = NULL WHERE tenant_id = $1 AND command_id = $2
