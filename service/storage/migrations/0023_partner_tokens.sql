-- Tokens that open our OCPI endpoints to a partner, as keyed hashes.
CREATE TABLE partner_token (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    token_id bigint GENERATED ALWAYS AS IDENTITY,
    initial boolean NOT NULL,
    confirmed boolean NOT NULL DEFAULT false,
    digest bytea NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    use_time timestamptz,
    PRIMARY KEY (tenant_id, integration_id, token_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);

CREATE UNIQUE INDEX partner_token_digest ON partner_token (digest);
