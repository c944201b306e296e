-- What partners sent and we could not take. `key` tells an object from others: its id, or "#" and a hash of the text of one
-- that has none. `payload` is a serialized QuarantinedObject with its violations, `run_id` the run that found it last.
CREATE TABLE quarantine (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    key text NOT NULL,
    quarantine_id uuid NOT NULL DEFAULT gen_random_uuid(),
    position bigint GENERATED ALWAYS AS IDENTITY,
    version text NOT NULL,
    run_id uuid NOT NULL,
    first_time timestamptz NOT NULL DEFAULT now(),
    latest_time timestamptz NOT NULL DEFAULT now(),
    count integer NOT NULL DEFAULT 1,
    payload bytea NOT NULL,
    document text NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, object_kind, key),
    UNIQUE (tenant_id, quarantine_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);
CREATE INDEX quarantine_page ON quarantine (tenant_id, integration_id, position);
CREATE INDEX quarantine_age ON quarantine (latest_time);
