-- What partners ask and a service of the tenant's answers while the partner waits, and who listens for such questions.

CREATE TABLE question (
    tenant_id text NOT NULL REFERENCES tenant,
    question_id uuid NOT NULL,
    kind smallint NOT NULL,
    payload bytea NOT NULL,
    -- What was answered; null while nothing was.
    answer bytea,
    create_time timestamptz NOT NULL DEFAULT now(),
    expire_time timestamptz NOT NULL,
    -- When it was last handed to somebody.
    hand_time timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (tenant_id, question_id)
);
CREATE INDEX question_open ON question (tenant_id, kind, create_time) WHERE answer IS NULL;

CREATE TABLE listener (
    tenant_id text NOT NULL REFERENCES tenant,
    kind smallint NOT NULL,
    listener_id uuid NOT NULL,
    seen_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, kind, listener_id)
);
