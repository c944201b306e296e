-- name: gate_slot_take
-- The lowest slot that nobody holds, unless a pause holds requests of this kind ($6) back; a slot whose holder died is free
-- once its lease is over. `refused_s` and `open_s`: how long a pause lasts, negative when it is over and not yet lifted.
-- A series up to $3 would be planned anew for every request, since only its value tells how long it is. Not worth a wait for
-- the disk, as its return is not.
WITH pause AS (
    SELECT scope, extract(epoch FROM resume_time - now())::float8 AS rest_s
    FROM gate_pause
    WHERE tenant_id = $1 AND integration_id = $2 AND scope IN (1, $6)
), taken AS (
    INSERT INTO gate_slot (tenant_id, integration_id, slot, holder, lease_until)
    SELECT $1, $2, free.slot, $4, now() + $5::interval
    FROM generate_series(1, 64) AS free (slot), set_config('synchronous_commit', 'off', true)
    WHERE free.slot <= $3::integer
        AND NOT EXISTS (SELECT FROM pause WHERE rest_s > 0)
        AND NOT EXISTS (
            SELECT FROM gate_slot AS busy
            WHERE busy.tenant_id = $1 AND busy.integration_id = $2 AND busy.slot = free.slot AND busy.lease_until > now()
        )
    ORDER BY free.slot
    LIMIT 1
    ON CONFLICT (tenant_id, integration_id, slot) DO UPDATE
    SET holder = EXCLUDED.holder, lease_until = EXCLUDED.lease_until
    WHERE gate_slot.lease_until <= now()
    RETURNING slot
)
SELECT
    EXISTS (SELECT FROM taken) AS taken,
    (SELECT rest_s FROM pause WHERE scope = 1) AS refused_s,
    (SELECT rest_s FROM pause WHERE scope = $6) AS open_s,
    EXISTS (
        SELECT FROM exchange_recording WHERE tenant_id = $1 AND integration_id = $2 AND end_time > now()
    ) AS recorded

-- name: gate_slot_give
DELETE FROM gate_slot
USING set_config('synchronous_commit', 'off', true)
WHERE tenant_id = $1 AND integration_id = $2 AND holder = $3

-- name: gate_budget_take
-- Counts a slice; beyond the limit too, which tells the process that nothing is left.
INSERT INTO gate_budget AS budget (tenant_id, integration_id, period, used, reset_time)
VALUES ($1, $2, $3, $4, now() + $3::interval)
ON CONFLICT (tenant_id, integration_id, period) DO UPDATE
SET used = CASE WHEN budget.reset_time <= now() THEN 0 ELSE budget.used END + EXCLUDED.used,
    reset_time = CASE WHEN budget.reset_time <= now() THEN EXCLUDED.reset_time ELSE budget.reset_time END
RETURNING used, extract(epoch FROM reset_time - now())::float8 AS rest_s

-- name: gate_pause
-- A longer pause stays.
INSERT INTO gate_pause (tenant_id, integration_id, scope, failures, resume_time)
VALUES ($1, $2, $3, 1, now() + $4::interval)
ON CONFLICT (tenant_id, integration_id, scope) DO UPDATE
SET failures = gate_pause.failures + 1, resume_time = greatest(gate_pause.resume_time, EXCLUDED.resume_time)

-- name: gate_probe
-- One caller tries a partner whose pause is over; the others wait for what becomes of it, or for the end of its lease.
UPDATE gate_pause SET resume_time = now() + $4::interval
WHERE tenant_id = $1 AND integration_id = $2 AND scope = $3 AND resume_time <= now()
RETURNING failures

-- name: gate_probe_failed
-- Nothing happens when another probe has ended meanwhile; so it is with `gate_lift`.
UPDATE gate_pause SET failures = failures + 1, resume_time = now() + $5::interval
WHERE tenant_id = $1 AND integration_id = $2 AND scope = $3 AND failures = $4

-- name: gate_lift
DELETE FROM gate_pause WHERE tenant_id = $1 AND integration_id = $2 AND scope = $3 AND failures = $4

-- name: gate_failed
-- A delivery failed. Nothing is held back by that alone.
INSERT INTO gate_pause (tenant_id, integration_id, scope, failures, resume_time) VALUES ($1, $2, 0, 1, now())
ON CONFLICT (tenant_id, integration_id, scope) DO UPDATE SET failures = gate_pause.failures + 1
RETURNING failures, begin_time, outage_time

-- name: gate_hold
UPDATE gate_pause SET resume_time = now() + $3::interval, outage_time = coalesce(outage_time, now())
WHERE tenant_id = $1 AND integration_id = $2 AND scope = 0

-- name: gate_answered
UPDATE gate_pause SET outage_time = NULL
WHERE tenant_id = $1 AND integration_id = $2 AND scope = 0

-- name: gate_succeeded
-- A delivery succeeded: the failures in a row are over.
DELETE FROM gate_pause WHERE tenant_id = $1 AND integration_id = $2 AND scope = 0

-- name: gate_resume
-- Not what the partner asked for: its limit stays reached. That nothing succeeded since deliveries failed stays true.
WITH lifted AS (
    DELETE FROM gate_pause WHERE tenant_id = $1 AND integration_id = $2 AND scope > 1
)
UPDATE gate_pause SET failures = 0, resume_time = now()
WHERE tenant_id = $1 AND integration_id = $2 AND scope = 0

-- name: gate_pauses
SELECT scope, failures, resume_time, resume_time > now() AS lasts
FROM gate_pause
WHERE tenant_id = $1 AND integration_id = $2

-- name: gate_budgets
SELECT period, used, reset_time
FROM gate_budget
WHERE tenant_id = $1 AND integration_id = $2 AND reset_time > now()

-- name: gate_slots_taken
SELECT count(*) FROM gate_slot WHERE tenant_id = $1 AND integration_id = $2 AND lease_until > now()

-- name: gate_repaired
-- Nothing is counted for an integration that is gone.
INSERT INTO repaired_answer AS counted (
    tenant_id, integration_id, operation, answer_count, value_count, path, description, latest_time
)
SELECT tenant_id, integration_id, $3, 1, $4, $5, $6, now()
FROM integration
WHERE tenant_id = $1 AND integration_id = $2
ON CONFLICT (tenant_id, integration_id, operation) DO UPDATE
SET answer_count = counted.answer_count + 1,
    value_count = counted.value_count + EXCLUDED.value_count,
    path = EXCLUDED.path,
    description = EXCLUDED.description,
    latest_time = EXCLUDED.latest_time

-- name: gate_repairs
SELECT operation, answer_count, value_count, path, description, latest_time
FROM repaired_answer
WHERE tenant_id = $1 AND integration_id = $2
ORDER BY operation COLLATE "C"
