-- Pages of a partner's lists that a run under way has read, so that it reads on after them when it is cut off. `number`
-- counts the pages of a list from 0; `next_link` leads to the one after it, "" from the last one. `payload` is the serialized
-- message; `rejects` are the objects of the page that could not be read, as JSON.
CREATE TABLE read_page (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    list text NOT NULL,
    number integer NOT NULL,
    next_link text NOT NULL,
    payload bytea NOT NULL,
    rejects text NOT NULL,
    PRIMARY KEY (tenant_id, run_id, list, number),
    FOREIGN KEY (tenant_id, run_id) REFERENCES run ON DELETE CASCADE
);
