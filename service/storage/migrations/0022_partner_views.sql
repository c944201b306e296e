-- What partners are shown: the documents, each once however many partners see it so, and one row for what one partner
-- sees of one object. Without a document it sees nothing of it any more.
CREATE TABLE partner_document (
    tenant_id text NOT NULL,
    hash bytea NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, hash)
);

CREATE TABLE partner_object (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    shown boolean NOT NULL,
    hash bytea,
    tariff_keys text[] NOT NULL,
    last_updated timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, object_kind, country_code, party_id, key),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, hash) REFERENCES partner_document
);
CREATE INDEX partner_object_page ON partner_object (tenant_id, integration_id, object_kind, position) WHERE hash IS NOT NULL;
CREATE INDEX partner_object_updated ON partner_object (tenant_id, integration_id, object_kind, last_updated)
WHERE hash IS NOT NULL;
CREATE INDEX partner_object_document ON partner_object (tenant_id, hash);
CREATE INDEX partner_object_age ON partner_object (last_updated) WHERE NOT shown;
