-- Who changed what. An event's number is taken when its transaction has one already: `audit_unsealed` relies on it.
CREATE SEQUENCE audit_event_id;

CREATE TABLE audit_event (
    tenant_id text NOT NULL,
    event_id bigint NOT NULL,
    event_time timestamptz NOT NULL,
    actor text NOT NULL,
    rpc text NOT NULL,
    object_id text NOT NULL,
    open boolean NOT NULL,
    digest bytea NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
);
CREATE INDEX audit_event_page ON audit_event (tenant_id, event_time, event_id);
CREATE INDEX audit_event_object ON audit_event (tenant_id, object_id, event_time, event_id) WHERE object_id <> '';
CREATE INDEX audit_event_open ON audit_event (tenant_id, event_time) WHERE open;

-- A chain for each tenant: every seal holds the digest of the one before. `anchor`: what came before it was let go.
CREATE TABLE audit_seal (
    tenant_id text NOT NULL,
    seal_id bigint NOT NULL,
    last_event_id bigint NOT NULL,
    event_count integer NOT NULL,
    events_hash bytea NOT NULL,
    previous bytea NOT NULL,
    digest bytea NOT NULL,
    anchor bytea,
    seal_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, seal_id)
);
