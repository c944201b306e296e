-- What may leave for partners: pauses of kinds of requests, budgets, and a look at what was sent.

-- `scope` is service.domain.breaker.Scope. A process of the previous version cannot note a pause any more; the lease of
-- the delivery brings it back.
ALTER TABLE gate_pause ADD COLUMN scope smallint NOT NULL DEFAULT 0;
ALTER TABLE gate_pause DROP CONSTRAINT gate_pause_pkey, ADD PRIMARY KEY (tenant_id, integration_id, scope);

-- How many requests were taken from the budget of the window that ends at `reset_time`; more than the limit means all.
CREATE TABLE gate_budget (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    period interval NOT NULL,
    used bigint NOT NULL,
    reset_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, period),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);

-- Until when the exchanges of an integration are recorded.
CREATE TABLE exchange_recording (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    end_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, integration_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);

-- `payload` is the serialized Exchange, redacted before it came here.
CREATE TABLE exchange (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    exchange_id bigint GENERATED ALWAYS AS IDENTITY,
    create_time timestamptz NOT NULL DEFAULT now(),
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, exchange_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);
CREATE INDEX exchange_age ON exchange (create_time);
