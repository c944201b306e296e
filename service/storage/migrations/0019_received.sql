-- What partners sent, as they sent it: one document per tariff, per location without its EVSEs, and per EVSE (`part`, its
-- folded uid). `last_updated` is the partner's own and says which of two is newer.
CREATE TABLE received_document (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    object_id text NOT NULL,
    part text NOT NULL,
    version text NOT NULL,
    last_updated timestamptz NOT NULL,
    document text NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, object_kind, object_id, part),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);
