-- name: payloads
-- tenant: any, because the form of payloads belongs to the database.
SELECT 'tariff' AS stored_in, ctid, payload FROM tariff
UNION ALL
SELECT 'tariff_revision', ctid, payload FROM tariff_revision
UNION ALL
SELECT 'location', ctid, payload FROM location
UNION ALL
SELECT 'evse', ctid, payload FROM evse

-- name: payload_of_tariff
-- tenant: any, because the form of payloads belongs to the database.
UPDATE tariff SET payload = $3 WHERE ctid = $1 AND payload = $2

-- name: payload_of_tariff_revision
-- tenant: any, because the form of payloads belongs to the database.
UPDATE tariff_revision SET payload = $3 WHERE ctid = $1 AND payload = $2

-- name: payload_of_location
-- tenant: any, because the form of payloads belongs to the database.
UPDATE location SET payload = $3 WHERE ctid = $1 AND payload = $2

-- name: payload_of_evse
-- tenant: any, because the form of payloads belongs to the database.
UPDATE evse SET payload = $3 WHERE ctid = $1 AND payload = $2

-- name: integrations_of_ocpi
-- tenant: any, because the columns belong to the database. The type is INTEGRATION_TYPE_OCPI (1).
SELECT tenant_id, integration_id, payload FROM integration WHERE type = 1

-- name: integration_platform
UPDATE integration SET platform_integration_id = $3, platform_party = $4 WHERE tenant_id = $1 AND integration_id = $2

-- name: integrations_unscheduled
-- tenant: any, because the column belongs to the database.
SELECT tenant_id, integration_id, payload FROM integration WHERE pull_minutes = 0

-- name: integration_schedule
-- The first times are spread over the interval.
UPDATE integration SET pull_minutes = $3::integer, pull_time = now() + $3::integer * random() * interval '1 minute'
WHERE tenant_id = $1 AND integration_id = $2 AND pull_minutes = 0
