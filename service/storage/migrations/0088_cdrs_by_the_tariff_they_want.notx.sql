-- Whose audits are due when a tariff arrives.
CREATE INDEX CONCURRENTLY IF NOT EXISTS cdr_wants_tariff ON cdr (tenant_id, integration_id, audit_tariff)
    WHERE audit_state = 4 AND audit_tariff <> '';
