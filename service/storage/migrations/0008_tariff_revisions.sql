-- What tariffs said before: a session is priced with the content that was valid at its start, however late it is asked.
-- Each row is one content that was replaced, until `end_time`; the present one stays in `tariff`.

CREATE TABLE tariff_revision (
    tenant_id text NOT NULL REFERENCES tenant,
    integration_id text NOT NULL DEFAULT '',
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    end_time timestamptz NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key, end_time)
);

CREATE INDEX tariff_revision_age ON tariff_revision (end_time);
