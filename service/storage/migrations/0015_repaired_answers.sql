-- How often answers of an operation were read although they broke the contract, and an example of the latest.
CREATE TABLE repaired_answer (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    operation text NOT NULL,
    answer_count bigint NOT NULL,
    value_count bigint NOT NULL,
    path text NOT NULL,
    description text NOT NULL,
    latest_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, operation),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);
