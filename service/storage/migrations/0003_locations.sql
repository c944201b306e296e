-- Where one can charge. An EVSE is a row of its own: its status changes many times a day.

-- `payload` is the serialized Location without its EVSEs and its last_updated.
CREATE TABLE location (
    tenant_id text NOT NULL REFERENCES tenant,
    integration_id text NOT NULL DEFAULT '',
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    latitude double precision NOT NULL,
    longitude double precision NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    last_updated timestamptz NOT NULL,
    delete_time timestamptz,
    PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key)
);
CREATE INDEX location_point ON location USING gist (point(longitude, latitude)) WHERE delete_time IS NULL;

-- `key` is the folded uid, `tariff_keys` the folded ids of the tariffs that its connectors name. `payload` is a
-- serialized Location that holds nothing but this EVSE. Pages keep room, so that a new status stays on its page.
CREATE TABLE evse (
    tenant_id text NOT NULL REFERENCES tenant,
    integration_id text NOT NULL DEFAULT '',
    country_code text NOT NULL,
    party_id text NOT NULL,
    location_key text NOT NULL,
    key text NOT NULL,
    position integer NOT NULL,
    status smallint NOT NULL,
    status_time timestamptz NOT NULL,
    last_updated timestamptz NOT NULL,
    tariff_keys text[] NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, country_code, party_id, location_key, key),
    FOREIGN KEY (tenant_id, integration_id, country_code, party_id, location_key) REFERENCES location ON DELETE CASCADE
) WITH (fillfactor = 80);
CREATE INDEX evse_tariffs ON evse USING gin (tariff_keys);

-- A location as it is read. Serialized messages merge by concatenation, so a payload and those of its EVSEs are one.
CREATE VIEW location_whole AS
SELECT
    l.tenant_id, l.integration_id, l.country_code, l.party_id, l.key, l.latitude, l.longitude,
    l.payload || coalesce((
        SELECT string_agg(e.payload, ''::bytea ORDER BY e.position)
        FROM evse AS e
        WHERE e.tenant_id = l.tenant_id AND e.integration_id = l.integration_id
            AND e.country_code = l.country_code AND e.party_id = l.party_id AND e.location_key = l.key
    ), ''::bytea) AS payload,
    greatest(l.last_updated, (
        SELECT max(e.last_updated)
        FROM evse AS e
        WHERE e.tenant_id = l.tenant_id AND e.integration_id = l.integration_id
            AND e.country_code = l.country_code AND e.party_id = l.party_id AND e.location_key = l.key
    )) AS last_updated,
    octet_length(l.payload) + coalesce((
        SELECT sum(octet_length(e.payload))
        FROM evse AS e
        WHERE e.tenant_id = l.tenant_id AND e.integration_id = l.integration_id
            AND e.country_code = l.country_code AND e.party_id = l.party_id AND e.location_key = l.key
    ), 0)::integer AS size
FROM location AS l
WHERE l.delete_time IS NULL;
