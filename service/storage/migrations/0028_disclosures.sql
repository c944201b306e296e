-- What partners were sent and shown. Without a hash: they were asked to delete it.
CREATE TABLE disclosure (
    tenant_id text NOT NULL,
    disclosure_id uuid NOT NULL DEFAULT gen_random_uuid(),
    position bigint GENERATED ALWAYS AS IDENTITY,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    object_id text NOT NULL,
    method smallint NOT NULL,
    document_type text NOT NULL,
    hash bytea,
    first_time timestamptz NOT NULL DEFAULT now(),
    latest_time timestamptz NOT NULL DEFAULT now(),
    count integer NOT NULL DEFAULT 1,
    reason smallint NOT NULL DEFAULT 0,
    http_status smallint NOT NULL DEFAULT 0,
    request_id text NOT NULL DEFAULT '',
    correlation_id text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, disclosure_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, hash) REFERENCES partner_document
);
CREATE INDEX disclosure_page ON disclosure (tenant_id, integration_id, position);
CREATE INDEX disclosure_object ON disclosure (tenant_id, integration_id, object_id, position);
CREATE INDEX disclosure_document ON disclosure (tenant_id, hash);
CREATE INDEX disclosure_age ON disclosure (latest_time);
