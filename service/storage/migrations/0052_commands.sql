-- Commands to chargers, sent and received, with what is known of each.
CREATE TABLE command (
    tenant_id text NOT NULL REFERENCES tenant,
    command_id uuid NOT NULL,
    integration_id text NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    direction smallint NOT NULL,
    state smallint NOT NULL,
    payload bytea NOT NULL,
    -- Where the result of a received one goes.
    response_url text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    -- When its result is brought there the next time; null when there is none to bring. Since when that is tried.
    send_time timestamptz,
    result_time timestamptz,
    PRIMARY KEY (tenant_id, command_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);
CREATE INDEX command_newest ON command (tenant_id, position);
CREATE INDEX command_due ON command (send_time) WHERE send_time IS NOT NULL;
