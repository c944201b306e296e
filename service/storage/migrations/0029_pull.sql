-- Lists that are pulled from partners: how far each was read, and what of it a whole reading has not met yet.

CREATE TABLE pull (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    -- By the partner's clock: what was updated before it has been received.
    watermark timestamptz,
    -- When the list was last begun to be read whole, and was read to its end.
    whole_time timestamptz,
    -- The run that reads it, or read it last, and how far that one is.
    run_id uuid NOT NULL,
    begin_time timestamptz NOT NULL,
    whole boolean NOT NULL,
    -- '' before the first page and after the last one; null when all is done.
    next_link text DEFAULT '',
    highest timestamptz,
    complete boolean NOT NULL DEFAULT true,
    total bigint NOT NULL DEFAULT 0,
    held bigint NOT NULL DEFAULT 0,
    counts bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, integration_id, object_kind),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);

CREATE TABLE pull_unseen (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    object_id text NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, object_kind, object_id),
    FOREIGN KEY (tenant_id, integration_id, object_kind) REFERENCES pull ON DELETE CASCADE
);

-- Every how many minutes lists are pulled, 0 for never, and when the next time is.
ALTER TABLE integration
    ADD COLUMN pull_minutes integer NOT NULL DEFAULT 0,
    ADD COLUMN pull_time timestamptz NOT NULL DEFAULT '-infinity';
CREATE INDEX integration_pulled ON integration (pull_time) WHERE pull_minutes > 0;
