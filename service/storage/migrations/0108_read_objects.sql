-- What a run under way made of the pages of a partner's lists, by list and number, so that it holds none of it in memory: objects
-- by the partner's ids, or what belongs to one. Made anew by each attempt of the run.
CREATE TABLE read_object (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    list text NOT NULL,
    id bigint NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, run_id, list, id),
    FOREIGN KEY (tenant_id, run_id) REFERENCES run ON DELETE CASCADE
);
