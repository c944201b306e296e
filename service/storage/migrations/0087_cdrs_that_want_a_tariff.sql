-- The tariff for want of which the audit of a CDR ended (4), so that it is due again when that arrives.
ALTER TABLE cdr ADD COLUMN audit_tariff text NOT NULL DEFAULT '';
