-- What was charged: sessions as they are now, and CDRs, which are recorded once. Keys are those of other objects of parties.
-- `token_party` is the eMSP that issued the token, `recipient_id` the integration that one of ours is meant for, if any.

CREATE TABLE session (
    tenant_id text NOT NULL REFERENCES tenant,
    integration_id text NOT NULL DEFAULT '',
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    status smallint NOT NULL,
    start_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    token_party text NOT NULL,
    token_key text NOT NULL,
    contract_key text NOT NULL,
    location_key text NOT NULL,
    recipient_id text NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key)
);
CREATE INDEX session_page ON session (tenant_id, integration_id, start_time, country_code, party_id, key);
CREATE INDEX session_updated ON session (tenant_id, integration_id, update_time);
CREATE INDEX session_contract ON session (tenant_id, contract_key);
CREATE INDEX session_token ON session (tenant_id, integration_id, token_party);
CREATE INDEX session_age ON session (update_time);

CREATE TABLE cdr (
    tenant_id text NOT NULL REFERENCES tenant,
    integration_id text NOT NULL DEFAULT '',
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    currency text NOT NULL,
    session_key text NOT NULL,
    -- The CDR that it takes back.
    credited_key text NOT NULL,
    start_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    token_party text NOT NULL,
    token_key text NOT NULL,
    contract_key text NOT NULL,
    location_key text NOT NULL,
    recipient_id text NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key)
);
CREATE INDEX cdr_page ON cdr (tenant_id, integration_id, start_time, country_code, party_id, key);
CREATE INDEX cdr_updated ON cdr (tenant_id, integration_id, update_time);
CREATE INDEX cdr_contract ON cdr (tenant_id, contract_key);
CREATE INDEX cdr_session ON cdr (tenant_id, integration_id, session_key);
CREATE INDEX cdr_credited ON cdr (tenant_id, integration_id, country_code, party_id, credited_key) WHERE credited_key <> '';
CREATE INDEX cdr_token ON cdr (tenant_id, integration_id, token_party);
CREATE INDEX cdr_age ON cdr (update_time);

-- The parties under which a partner issues tokens, such as DEEMP; filled when the integration is next stored.
ALTER TABLE integration ADD COLUMN token_parties text[] NOT NULL DEFAULT '{}';
