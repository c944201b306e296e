-- Who is connected to hubs, as they say: one row per party and role. It goes with the integration.
CREATE TABLE hub_client (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    role smallint NOT NULL,
    status smallint NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);
