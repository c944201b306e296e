-- The hardware of sites. It is delivered to nobody, so deleting it leaves nothing behind.

-- `key` is the folded id.
CREATE TABLE charger (
    tenant_id text NOT NULL REFERENCES tenant,
    key text NOT NULL,
    site_id text NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX charger_site ON charger (tenant_id, site_id, key);
