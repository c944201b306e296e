-- Who we are, and what charging costs. OCPI ids ignore case: keys hold country and party in upper case, ids folded.

CREATE TABLE party (
    tenant_id text NOT NULL REFERENCES tenant,
    country_code text NOT NULL,
    party_id text NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, country_code, party_id)
);

-- `integration_id` is empty for ours, else the integration it was received through. `key` is the folded id.
CREATE TABLE tariff (
    tenant_id text NOT NULL REFERENCES tenant,
    integration_id text NOT NULL DEFAULT '',
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    type smallint NOT NULL,
    currency text NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    delete_time timestamptz,
    PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key)
);
