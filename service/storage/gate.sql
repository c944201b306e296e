-- name: gate_slot_take
-- The lowest slot that nobody holds; a slot whose holder died is free once its lease is over.
INSERT INTO gate_slot (tenant_id, integration_id, slot, holder, lease_until)
SELECT $1, $2, free.slot, $4, now() + $5::interval
FROM generate_series(1, $3::smallint) AS free (slot)
WHERE NOT EXISTS (
    SELECT FROM gate_slot AS taken
    WHERE taken.tenant_id = $1 AND taken.integration_id = $2 AND taken.slot = free.slot AND taken.lease_until > now()
)
ORDER BY free.slot
LIMIT 1
ON CONFLICT (tenant_id, integration_id, slot) DO UPDATE
SET holder = EXCLUDED.holder, lease_until = EXCLUDED.lease_until
WHERE gate_slot.lease_until <= now()
RETURNING slot

-- name: gate_slot_give
DELETE FROM gate_slot WHERE tenant_id = $1 AND integration_id = $2 AND holder = $3

-- name: gate_pause
INSERT INTO gate_pause (tenant_id, integration_id, failures, resume_time) VALUES ($1, $2, 1, now() + $3::interval)
ON CONFLICT (tenant_id, integration_id) DO UPDATE
SET failures = gate_pause.failures + 1, resume_time = EXCLUDED.resume_time

-- name: gate_resume
DELETE FROM gate_pause WHERE tenant_id = $1 AND integration_id = $2
