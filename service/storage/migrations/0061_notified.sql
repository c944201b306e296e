-- What partners notified us of, and we have not read yet: one row per object, however often it was told.
CREATE TABLE notified (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    external_id text NOT NULL,
    notify_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, object_kind, external_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);

-- When it is to be read, and since when it was read last: one row per integration that was ever notified.
CREATE TABLE notified_due (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    due_time timestamptz,
    begin_time timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (tenant_id, integration_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);
CREATE INDEX notified_due_time ON notified_due (due_time) WHERE due_time IS NOT NULL;
