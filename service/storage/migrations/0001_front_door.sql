-- Tenants, their keys, integrations with sealed secrets, companies, and the way of objects to partners.
-- A row of a resource is its key, the columns that are queried, and `payload`: the serialized message.

CREATE TABLE tenant (
    tenant_id text PRIMARY KEY CHECK (tenant_id ~ '^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$'),
    create_time timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_key (
    tenant_id text NOT NULL REFERENCES tenant,
    key_id text NOT NULL,
    name text NOT NULL,
    role smallint NOT NULL CHECK (role BETWEEN 1 AND 3),
    digest bytea NOT NULL UNIQUE,
    create_time timestamptz NOT NULL DEFAULT now(),
    revoke_time timestamptz,
    PRIMARY KEY (tenant_id, key_id)
);

CREATE TABLE integration (
    tenant_id text NOT NULL REFERENCES tenant,
    integration_id text NOT NULL,
    type smallint NOT NULL,
    enabled boolean NOT NULL,
    status smallint NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, integration_id)
);

-- Sealed for exactly (tenant, resource, field): moved to another row it does not open.
CREATE TABLE secret (
    tenant_id text NOT NULL REFERENCES tenant,
    resource text NOT NULL,
    field text NOT NULL,
    sealed bytea NOT NULL,
    update_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, resource, field)
);

CREATE TABLE company (
    tenant_id text NOT NULL REFERENCES tenant,
    company_id uuid NOT NULL,
    version integer NOT NULL,
    is_cpo boolean NOT NULL,
    is_emp boolean NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    delete_time timestamptz,
    PRIMARY KEY (tenant_id, company_id)
);

-- What happened, in the same transaction as the change. Readers order by (transaction_id, change_id) and stop below
-- pg_snapshot_xmin(pg_current_snapshot()): ids alone are not in commit order.
CREATE TABLE change (
    tenant_id text NOT NULL REFERENCES tenant,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    change_id bigint GENERATED ALWAYS AS IDENTITY,
    object_kind smallint NOT NULL,
    object_id text NOT NULL,
    operation text NOT NULL CHECK (operation IN ('create', 'update', 'delete')),
    key_id text NOT NULL,
    etag text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, transaction_id, change_id)
);
CREATE INDEX change_age ON change (create_time);

CREATE TABLE idempotency (
    tenant_id text NOT NULL REFERENCES tenant,
    method text NOT NULL,
    request_id uuid NOT NULL,
    digest bytea NOT NULL,
    answer bytea,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, method, request_id)
);
CREATE INDEX idempotency_age ON idempotency (create_time);

-- The standing duty to bring one object's current state to one partner; `generation` counts its changes.
CREATE TABLE delivery (
    tenant_id text NOT NULL,
    delivery_id uuid NOT NULL DEFAULT gen_random_uuid(),
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    object_id text NOT NULL,
    state smallint NOT NULL DEFAULT 1,
    generation bigint NOT NULL DEFAULT 1,
    verify boolean NOT NULL DEFAULT false,
    overwrite boolean NOT NULL DEFAULT false,
    due_time timestamptz NOT NULL DEFAULT now(),
    lease_token bigint NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    failed_attempts integer NOT NULL DEFAULT 0,
    reason integer NOT NULL DEFAULT 0,
    description text NOT NULL DEFAULT '',
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, delivery_id),
    UNIQUE (tenant_id, integration_id, object_kind, object_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);
CREATE INDEX delivery_due ON delivery (tenant_id, integration_id, due_time) WHERE state IN (1, 2);

CREATE TABLE delivery_attempt (
    tenant_id text NOT NULL,
    delivery_id uuid NOT NULL,
    attempt_id bigint GENERATED ALWAYS AS IDENTITY,
    start_time timestamptz NOT NULL,
    duration interval NOT NULL,
    reason integer NOT NULL,
    description text NOT NULL,
    http_status integer NOT NULL,
    partner_code text NOT NULL,
    sent_version integer NOT NULL,
    PRIMARY KEY (tenant_id, delivery_id, attempt_id),
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES delivery ON DELETE CASCADE
);
CREATE INDEX delivery_attempt_age ON delivery_attempt (start_time);

-- What a partner holds of an object of ours. `sent_document` is what we last sent; `acknowledged_*` describe the state
-- of the partner that we last saw (a hash, never the partner's data).
CREATE TABLE peer_object (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    object_id text NOT NULL,
    state smallint NOT NULL,
    external_id text NOT NULL DEFAULT '',
    acknowledged_version integer NOT NULL DEFAULT 0,
    acknowledged_hash bytea,
    acknowledge_time timestamptz,
    sent_document bytea,
    PRIMARY KEY (tenant_id, integration_id, object_kind, object_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);

-- The request slots of an integration that are taken, by any process.
CREATE TABLE gate_slot (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    slot smallint NOT NULL,
    holder uuid NOT NULL,
    lease_until timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, slot),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);

-- Until when nothing is sent through an integration, after failures that concern the partner as a whole.
CREATE TABLE gate_pause (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    failures integer NOT NULL,
    resume_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, integration_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);

-- Written by the health check: a database that answers reads but takes no writes is not healthy.
CREATE TABLE heartbeat (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    beat_time timestamptz NOT NULL
);
