-- Long pieces of work, one of a kind at a time for an integration.

-- `progress` and `steps` are each a serialized Run with that field alone: joined they are one. `lease_token` counts the
-- attempts; `attempts` those that a stopping process did not hand back.
CREATE TABLE run (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    integration_id text NOT NULL,
    kind smallint NOT NULL,
    state smallint NOT NULL DEFAULT 1,
    key_id text NOT NULL,
    progress bytea NOT NULL DEFAULT '',
    steps bytea NOT NULL DEFAULT '',
    reason integer NOT NULL DEFAULT 0,
    description text NOT NULL DEFAULT '',
    lease_token bigint NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    attempts integer NOT NULL DEFAULT 0,
    create_time timestamptz NOT NULL DEFAULT now(),
    start_time timestamptz,
    end_time timestamptz,
    update_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, run_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);
CREATE UNIQUE INDEX run_under_way ON run (tenant_id, integration_id, kind) WHERE state IN (1, 2, 3);
CREATE INDEX run_integration ON run (tenant_id, integration_id, run_id);
CREATE INDEX run_age ON run (end_time);
