-- Which CDRs an invoice is about. Keys are those of other objects of parties; ids of invoices and of CDRs are folded.
-- `recipient_id` is the integration that one of ours goes to.
CREATE TABLE invoice_reconciliation (
    tenant_id text NOT NULL REFERENCES tenant,
    integration_id text NOT NULL DEFAULT '',
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    invoice_key text NOT NULL,
    cdr_keys text[] NOT NULL,
    recipient_id text NOT NULL,
    update_time timestamptz NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    delete_time timestamptz,
    PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key)
);
CREATE INDEX invoice_reconciliation_cdrs ON invoice_reconciliation USING gin (cdr_keys);
CREATE INDEX invoice_reconciliation_invoice ON invoice_reconciliation (tenant_id, invoice_key);
CREATE INDEX invoice_reconciliation_age ON invoice_reconciliation (update_time);
CREATE INDEX invoice_reconciliation_tombstones ON invoice_reconciliation (delete_time) WHERE delete_time IS NOT NULL;
