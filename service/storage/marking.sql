-- name: marking_begin
-- One under way begins anew.
INSERT INTO marking AS m (tenant_id, integration_id, object_kind, redeliver) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, integration_id, object_kind, tariff) DO UPDATE
SET redeliver = m.redeliver OR EXCLUDED.redeliver, after = '', slice_time = now()

-- name: marking_begin_everywhere
-- At each integration that takes the kind $2: all objects, or those that name the tariff $3.
INSERT INTO marking (tenant_id, integration_id, object_kind, tariff)
SELECT tenant_id, integration_id, $2, $3
FROM integration
WHERE tenant_id = $1 AND $2 = ANY(takes)
ORDER BY integration_id
FOR KEY SHARE
ON CONFLICT (tenant_id, integration_id, object_kind, tariff) DO UPDATE SET after = '', slice_time = now()

-- name: marking_begin_sharing
-- At each integration that takes the kind $2 and speaks for one of the parties $3: each of the objects $4, or all for "".
-- One that is being deleted needs none.
WITH taker AS MATERIALIZED (
    SELECT integration_id
    FROM integration
    WHERE tenant_id = $1 AND $2 = ANY(takes) AND parties && $3::text[]
    ORDER BY integration_id
    FOR KEY SHARE SKIP LOCKED
)
INSERT INTO marking (tenant_id, integration_id, object_kind, tariff)
SELECT $1, integration_id, $2, id
FROM taker CROSS JOIN unnest($4::text[]) AS due (id)
ORDER BY integration_id, id
ON CONFLICT (tenant_id, integration_id, object_kind, tariff) DO UPDATE SET after = '', slice_time = now()

-- name: marking_next
-- tenant: any, because one worker serves them all. Neither lock is waited for, so that no order of them matters.
SELECT m.tenant_id, m.integration_id, m.object_kind, m.tariff, m.redeliver, m.after
FROM marking AS m
JOIN integration AS i USING (tenant_id, integration_id)
ORDER BY m.slice_time
LIMIT 1
FOR KEY SHARE OF i SKIP LOCKED
FOR UPDATE OF m SKIP LOCKED

-- name: marking_continue
UPDATE marking SET after = $5, slice_time = now()
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND tariff = $4

-- name: marking_end
DELETE FROM marking WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND tariff = $4

-- name: marking_companies
SELECT company_id::text AS object_id
FROM company
WHERE tenant_id = $1 AND company_id > coalesce(nullif($2, '')::uuid, '00000000-0000-0000-0000-000000000000')
    AND delete_time IS NULL
ORDER BY company_id
LIMIT $3

-- name: marking_tariffs
SELECT country_code || party_id || key AS object_id
FROM tariff
WHERE tenant_id = $1 AND integration_id = '' AND (country_code, party_id, key) > ($2, $3, $4) AND delete_time IS NULL
ORDER BY country_code, party_id, key
LIMIT $5

-- name: marking_locations
SELECT country_code || party_id || key AS object_id
FROM location
WHERE tenant_id = $1 AND integration_id = '' AND (country_code, party_id, key) > ($2, $3, $4) AND delete_time IS NULL
ORDER BY country_code, party_id, key
LIMIT $5

-- name: marking_tokens
SELECT country_code || party_id || key AS object_id
FROM token
WHERE tenant_id = $1 AND integration_id = '' AND (country_code, party_id, key) > ($2, $3, $4) AND delete_time IS NULL
ORDER BY country_code, party_id, key
LIMIT $5

-- name: marking_parties
SELECT parties FROM integration WHERE tenant_id = $1 AND integration_id = $2

-- name: marking_hub_clients
-- Who is connected to the hubs $6, and who the integration was shown before.
SELECT object_id
FROM (
    SELECT jsonb_object_keys(hub_clients) AS object_id
    FROM integration
    WHERE tenant_id = $1 AND parties && $6::text[] AND integration_id <> $2
    UNION
    SELECT country_code || party_id || key
    FROM partner_object
    WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3
) AS client
WHERE object_id > $4
ORDER BY object_id
LIMIT $5

-- name: marking_naming
-- The locations that name the tariff $7 in the integration's view.
SELECT country_code || party_id || key AS object_id
FROM partner_object
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = 5 AND (country_code, party_id, key) > ($3, $4, $5)
    AND shown AND $7 = ANY(tariff_keys)
ORDER BY country_code, party_id, key
LIMIT $6

-- name: marking_delivered
SELECT object_id
FROM delivery
WHERE tenant_id = $1 AND integration_id = $2 AND object_kind = $3 AND object_id > $4
ORDER BY object_id
LIMIT $5

-- name: tariff_due
-- tenant: any, because one process looks for them all. `first`: of one that no process of this version has looked at.
SELECT tenant_id, country_code, party_id, key, integration_id, payload, due_time = '-infinity' AS first
FROM tariff
WHERE integration_id = '' AND delete_time IS NULL AND due_time <= $1
ORDER BY due_time
LIMIT 1
FOR UPDATE SKIP LOCKED

-- name: tariff_due_set
UPDATE tariff SET due_time = $6
WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND key = $4
