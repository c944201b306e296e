-- What drivers identify themselves with. `key` is the type, a slash and the folded uid; contract and group are folded.
CREATE TABLE token (
    tenant_id text NOT NULL REFERENCES tenant,
    integration_id text NOT NULL DEFAULT '',
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    type smallint NOT NULL,
    contract_key text NOT NULL,
    group_key text NOT NULL,
    whitelist smallint NOT NULL,
    valid boolean NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    delete_time timestamptz,
    PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key)
);

-- Who owns a token is not known where it is held before a reader.
CREATE INDEX token_named ON token (tenant_id, key);
CREATE INDEX token_contract ON token (tenant_id, contract_key);
