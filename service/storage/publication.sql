-- name: publication_rule_get
SELECT payload FROM publication_rule WHERE tenant_id = $1 AND integration_id = $2 AND rule_id = $3

-- name: publication_rules
SELECT rule_id, payload FROM publication_rule WHERE tenant_id = $1 AND integration_id = $2

-- name: publication_rules_now
-- No row when there is no such integration, one without a payload when it has no rule.
SELECT r.payload, i.parties, now() AS now
FROM integration AS i
LEFT JOIN publication_rule AS r ON r.tenant_id = i.tenant_id AND r.integration_id = i.integration_id
WHERE i.tenant_id = $1 AND i.integration_id = $2 AND i.delete_time IS NULL

-- name: publication_hold
-- Keeps the rules of an integration from other writers until the transaction ends; deliveries to it are not in the way.
SELECT integration_id FROM integration
WHERE tenant_id = $1 AND integration_id = $2 AND delete_time IS NULL
FOR NO KEY UPDATE

-- name: publication_parties
SELECT parties FROM integration WHERE tenant_id = $1 AND integration_id = $2 AND delete_time IS NULL

-- name: publication_rule_growing
SELECT payload FROM publication_rule
WHERE tenant_id = $1 AND integration_id = $2 AND growing = $3
ORDER BY rule_id
LIMIT 1

-- name: publication_rule_put
INSERT INTO publication_rule
    (tenant_id, integration_id, rule_id, priority, tariff_keys, growing, etag, payload, turn_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (tenant_id, integration_id, rule_id) DO UPDATE
SET priority = excluded.priority, tariff_keys = excluded.tariff_keys, growing = excluded.growing, etag = excluded.etag,
    payload = excluded.payload, turn_time = excluded.turn_time

-- name: publication_due
-- tenant: any, because one process looks for them all.
SELECT tenant_id, integration_id FROM publication_rule WHERE turn_time <= $1 ORDER BY turn_time LIMIT 1

-- name: publication_turned
-- The rules of an integration that is held.
SELECT rule_id FROM publication_rule WHERE tenant_id = $1 AND integration_id = $2 AND turn_time <= $3

-- name: publication_due_set
UPDATE publication_rule SET turn_time = $4 WHERE tenant_id = $1 AND integration_id = $2 AND rule_id = $3

-- name: publication_rule_delete
DELETE FROM publication_rule WHERE tenant_id = $1 AND integration_id = $2 AND rule_id = $3

-- name: publication_rule_count
SELECT count(*) FROM publication_rule WHERE tenant_id = $1 AND integration_id = $2

-- name: publication_rule_naming
SELECT payload FROM publication_rule WHERE tenant_id = $1 AND tariff_keys && $2::text[]

-- name: publication_rule_page
SELECT integration_id, priority, rule_id, payload
FROM (
    SELECT
        integration_id, priority, rule_id, payload,
        sum(octet_length(payload)) OVER (ORDER BY integration_id, priority, rule_id) - octet_length(payload) AS before
    FROM (
        SELECT integration_id, priority, rule_id, payload
        FROM publication_rule
        WHERE tenant_id = $1 AND (integration_id, priority, rule_id) > ($2, $3, $4)
            AND ($5::text = '' OR integration_id = $5)
        ORDER BY integration_id, priority, rule_id
        LIMIT $6
    ) AS page
) AS sized
WHERE before < $7
ORDER BY integration_id, priority, rule_id
