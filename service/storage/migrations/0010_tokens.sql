-- What the secrets of integrations were exchanged for. `etag` is the integration's when it was: a token never outlives a
-- change of the secret or the address it was asked for with.
CREATE TABLE access_token (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    etag text NOT NULL,
    base_url text NOT NULL,
    sealed bytea NOT NULL,
    expire_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, integration_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);
