-- What is due next, in the order in which it is claimed, also where many are due since the same instant.
CREATE INDEX delivery_next ON delivery (tenant_id, integration_id, due_time, object_kind, object_id)
WHERE state IN (1, 2);
DROP INDEX delivery_due;

-- Pages and counts of a state, and since when what is not there yet has been lacking.
CREATE INDEX delivery_state ON delivery (tenant_id, integration_id, state, delivery_id);
CREATE INDEX delivery_lacking ON delivery (tenant_id, integration_id, pending_time) WHERE state IN (1, 2);

-- The attempts of an integration; of older ones it is not known.
ALTER TABLE delivery_attempt ADD COLUMN integration_id text NOT NULL DEFAULT '';
CREATE INDEX delivery_attempt_recent ON delivery_attempt (tenant_id, integration_id, start_time);

-- A delivery as people see it.
CREATE VIEW delivery_whole AS
SELECT
    d.tenant_id, d.delivery_id, d.integration_id, d.object_kind, d.object_id, d.state, d.reason, d.description,
    d.failed_attempts,
    CASE WHEN d.state = 1 AND d.due_time < 'infinity' THEN (
        SELECT greatest(d.due_time, max(held.resume_time))
        FROM integration AS i
        LEFT JOIN gate_pause AS held USING (tenant_id, integration_id)
        WHERE i.tenant_id = d.tenant_id AND i.integration_id = d.integration_id AND i.enabled AND i.pause_time IS NULL
        GROUP BY i.integration_id
    ) END AS next_attempt_time,
    d.create_time, d.update_time, p.state AS peer_state, p.external_id, p.acknowledged_version, p.acknowledge_time
FROM delivery AS d
LEFT JOIN peer_object AS p USING (tenant_id, integration_id, object_kind, object_id);
