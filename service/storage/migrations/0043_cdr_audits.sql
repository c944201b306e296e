-- What the audit of a received CDR found (see CdrAuditState): 1 while it is due, and until when nobody else begins it.
ALTER TABLE cdr
    ADD COLUMN audit_state smallint NOT NULL DEFAULT 0,
    ADD COLUMN audit_lease timestamptz NOT NULL DEFAULT '-infinity';
CREATE INDEX cdr_audit_due ON cdr (audit_lease) WHERE audit_state = 1;
CREATE INDEX cdr_audited ON cdr (tenant_id, integration_id, audit_state, start_time) WHERE audit_state <> 0;
