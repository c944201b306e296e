-- What a run found wrong with single objects. `payload` is a serialized RunFinding; those of an attempt that is not the
-- run's last one, by its lease token, are not shown.
CREATE TABLE run_finding (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    lease_token bigint NOT NULL,
    number integer NOT NULL,
    outcome smallint NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, run_id, lease_token, number),
    FOREIGN KEY (tenant_id, run_id) REFERENCES run ON DELETE CASCADE
);
