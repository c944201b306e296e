-- name: location_get
-- As `location_whole`, which reads the EVSEs once for each of its columns.
SELECT l.payload || coalesce(e.payload, ''::bytea) AS payload, greatest(l.last_updated, e.last_updated) AS last_updated
FROM location AS l
CROSS JOIN (
    SELECT string_agg(payload, ''::bytea ORDER BY position) AS payload, max(last_updated) AS last_updated
    FROM evse
    WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND location_key = $4
) AS e
WHERE l.tenant_id = $1 AND l.integration_id = $5 AND l.country_code = $2 AND l.party_id = $3 AND l.key = $4
    AND l.delete_time IS NULL
    AND ($5 = '' OR NOT EXISTS (SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = $5))

-- name: location_get_many
-- Looked up as in `location_lock`.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, w.payload, w.last_updated
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS wanted (country_code, party_id, key, integration_id)
CROSS JOIN LATERAL (
    SELECT payload, last_updated
    FROM location_whole
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key
        AND (wanted.integration_id = '' OR NOT EXISTS (
            SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = wanted.integration_id
        ))
    OFFSET 0
) AS w

-- name: location_page
-- Measures first, then joins the payloads of what fits.
SELECT w.country_code || w.party_id || w.key AS object_id, w.payload, w.last_updated
FROM (
    SELECT country_code, party_id, key, sum(size) OVER (ORDER BY country_code, party_id, key) - size AS before
    FROM (
        SELECT country_code, party_id, key, size
        FROM location_whole
        WHERE tenant_id = $1 AND integration_id = $5 AND (country_code, party_id, key) > ($2, $3, $4)
            AND ($5 = '' OR NOT EXISTS (SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = $5))
            AND ($6::text = '' OR country_code = $6) AND ($7::text = '' OR party_id = $7)
            AND ($10::text = '' OR (country_code, party_id, key) IN (
                SELECT country_code, party_id, key
                FROM location
                WHERE tenant_id = $1 AND integration_id = $5 AND origin_integration_id = $10
                    AND origin_integration_id <> ''
            ))
        ORDER BY country_code, party_id, key
        LIMIT $8
    ) AS page
) AS sized
JOIN location_whole AS w USING (country_code, party_id, key)
WHERE w.tenant_id = $1 AND w.integration_id = $5 AND before < $9
ORDER BY w.country_code, w.party_id, w.key

-- name: location_known
-- Looked up as in `location_lock`.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS wanted (country_code, party_id, key, integration_id)
CROSS JOIN LATERAL (
    SELECT FROM location
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key AND delete_time IS NULL
    OFFSET 0
) AS l

-- name: location_imported
-- Those of the integration $6 after a key, in their order.
SELECT w.country_code || w.party_id || w.key AS object_id, w.payload, w.last_updated
FROM (
    SELECT country_code, party_id, key
    FROM location
    WHERE tenant_id = $1 AND origin_integration_id = $6 AND origin_integration_id <> '' AND integration_id = $5
        AND delete_time IS NULL AND (country_code, party_id, key) > ($2, $3, $4)
    ORDER BY country_code, party_id, key
    LIMIT $7
) AS imported
JOIN location_whole AS w USING (country_code, party_id, key)
WHERE w.tenant_id = $1 AND w.integration_id = $5
ORDER BY w.country_code, w.party_id, w.key

-- name: location_naming
-- Those with an EVSE, not REMOVED (7), that names the tariff $4 of the party.
SELECT w.key, w.payload, w.last_updated
FROM (
    SELECT DISTINCT location_key
    FROM evse
    WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND location_key > $6
        AND tariff_keys @> ARRAY[$4::text] AND status <> 7
    ORDER BY location_key
    LIMIT $7
) AS named
JOIN location_whole AS w ON w.key = named.location_key
WHERE w.tenant_id = $1 AND w.integration_id = $5 AND w.country_code = $2 AND w.party_id = $3
ORDER BY w.key

-- name: evse_naming
-- Those of locations that live, and not REMOVED (7), that name both tariffs of the party.
SELECT e.location_key, e.key, e.payload
FROM evse AS e
JOIN location AS l ON l.tenant_id = e.tenant_id AND l.integration_id = e.integration_id
    AND l.country_code = e.country_code AND l.party_id = e.party_id AND l.key = e.location_key
WHERE e.tenant_id = $1 AND e.integration_id = $5 AND e.country_code = $2 AND e.party_id = $3
    AND e.tariff_keys @> ARRAY[$4, $6]::text[] AND e.status <> 7 AND l.delete_time IS NULL
    AND (e.location_key, e.key) > ($7, $8)
ORDER BY e.location_key, e.key
LIMIT $9

-- name: location_near
-- What lies in the boxes, by its exact distance: the haversine of the angle to the point, up to $8.
SELECT w.payload, w.last_updated
FROM (
    SELECT country_code, party_id, key, haversine
    FROM (
        SELECT
            l.country_code, l.party_id, l.key,
            sind((l.latitude - $7) / 2) ^ 2
                + cosd($7) * cosd(l.latitude) * sind((l.longitude - $6) / 2) ^ 2 AS haversine
        FROM unnest($2::float8[], $3::float8[], $4::float8[], $5::float8[]) AS area (west, south, east, north)
        JOIN location AS l
            ON point(l.longitude, l.latitude) <@ box(point(area.west, area.south), point(area.east, area.north))
        WHERE l.tenant_id = $1 AND l.integration_id = $10 AND l.delete_time IS NULL
            AND ($10 = '' OR NOT EXISTS (SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = $10))
    ) AS around
    WHERE haversine <= $8
    ORDER BY haversine, country_code, party_id, key
    LIMIT $9
) AS near
JOIN location_whole AS w USING (country_code, party_id, key)
WHERE w.tenant_id = $1 AND w.integration_id = $10
ORDER BY near.haversine, w.country_code, w.party_id, w.key

-- name: location_box
SELECT w.payload, w.last_updated
FROM unnest($2::float8[], $3::float8[], $4::float8[], $5::float8[]) AS area (west, south, east, north)
JOIN location_whole AS w
    ON point(w.longitude, w.latitude) <@ box(point(area.west, area.south), point(area.east, area.north))
WHERE w.tenant_id = $1 AND w.integration_id = $7
    AND ($7 = '' OR NOT EXISTS (SELECT FROM deleted_integration WHERE tenant_id = $1 AND integration_id = $7))
LIMIT $6

-- name: location_lock
-- In the order of the keys, so that two batches wait for each other and never for themselves. Each is looked up by its key,
-- however the planner guesses about a table that was never analysed.
SELECT wanted.country_code, wanted.party_id, wanted.key, wanted.integration_id, l.payload, l.last_updated, l.delete_time
FROM (
    SELECT country_code, party_id, key, integration_id
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS each (country_code, party_id, key, integration_id)
    ORDER BY country_code, party_id, key, integration_id
) AS wanted
CROSS JOIN LATERAL (
    SELECT payload, last_updated, delete_time
    FROM location
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND key = wanted.key
    FOR UPDATE
) AS l

-- name: location_insert
INSERT INTO location (
    tenant_id, country_code, party_id, key, integration_id, latitude, longitude, etag, payload, last_updated,
    origin_integration_id
)
SELECT $1, country_code, party_id, key, integration_id, latitude, longitude, etag, payload, last_updated,
    origin_integration_id
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::float8[], $7::float8[], $8::text[], $9::bytea[],
    $10::timestamptz[], $11::text[]
) AS new (
    country_code, party_id, key, integration_id, latitude, longitude, etag, payload, last_updated, origin_integration_id
)
ON CONFLICT DO NOTHING

-- name: location_replace
-- Those that are locked; found as `location_lock` finds them, so that their places are still the same.
UPDATE location AS l
SET latitude = new.latitude, longitude = new.longitude, etag = new.etag, payload = new.payload,
    last_updated = new.last_updated, origin_integration_id = new.origin_integration_id, delete_time = NULL
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::float8[], $7::float8[], $8::text[], $9::bytea[],
    $10::timestamptz[], $11::text[]
) AS new (
    country_code, party_id, key, integration_id, latitude, longitude, etag, payload, last_updated, origin_integration_id
)
CROSS JOIN LATERAL (
    SELECT ctid FROM location
    WHERE tenant_id = $1 AND integration_id = new.integration_id AND country_code = new.country_code
        AND party_id = new.party_id AND key = new.key
    OFFSET 0
) AS held
WHERE l.ctid = held.ctid AND l.tenant_id = $1

-- name: location_tombstone
-- Its EVSEs are REMOVED (7) with it, in their column, so that a report on them need not look at the location.
WITH evses AS (
    UPDATE evse SET status = 7
    WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND location_key = $4
)
UPDATE location SET delete_time = now()
WHERE tenant_id = $1 AND integration_id = $5 AND country_code = $2 AND party_id = $3 AND key = $4

-- name: evse_lock
-- Those of whole locations, deleted ones too. In the order of the keys, as reports lock them; looked up as `location_lock`.
SELECT wanted.country_code, wanted.party_id, wanted.key AS location_key, wanted.integration_id, e.position, e.payload
FROM (
    SELECT country_code, party_id, key, integration_id
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS each (country_code, party_id, key, integration_id)
    ORDER BY country_code, party_id, key, integration_id
) AS wanted
CROSS JOIN LATERAL (
    SELECT position, payload
    FROM evse
    WHERE tenant_id = $1 AND integration_id = wanted.integration_id AND country_code = wanted.country_code
        AND party_id = wanted.party_id AND location_key = wanted.key
    ORDER BY evse.key
    FOR UPDATE
) AS e

-- name: evse_put
INSERT INTO evse (
    tenant_id, country_code, party_id, location_key, integration_id, key, position, status, status_time, last_updated,
    payload, tariff_keys
)
SELECT $1, country_code, party_id, location_key, integration_id, key, position, status, status_time, last_updated,
    payload, string_to_array(tariff_keys, E'\n')
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::smallint[], $9::timestamptz[],
    $10::timestamptz[], $11::bytea[], $12::text[]
) AS new (
    country_code, party_id, location_key, integration_id, key, position, status, status_time, last_updated, payload,
    tariff_keys
)
ON CONFLICT (tenant_id, integration_id, country_code, party_id, location_key, key) DO UPDATE
SET position = excluded.position, status = excluded.status, status_time = excluded.status_time,
    last_updated = excluded.last_updated, payload = excluded.payload, tariff_keys = excluded.tariff_keys

-- name: evse_forget
-- Those of deleted locations that are about to live again, and are locked; found as by `location_replace`.
DELETE FROM evse AS e
USING unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS deleted (country_code, party_id, key, integration_id)
CROSS JOIN LATERAL (
    SELECT ctid FROM evse
    WHERE tenant_id = $1 AND integration_id = deleted.integration_id AND country_code = deleted.country_code
        AND party_id = deleted.party_id AND location_key = deleted.key
    OFFSET 0
) AS held
WHERE e.ctid = held.ctid AND e.tenant_id = $1

-- name: evse_lock_each
-- Single ones, of locations that live, in the order of the keys, looked up as `location_lock`.
SELECT wanted.country_code, wanted.party_id, wanted.location_key, wanted.integration_id, wanted.key, e.position,
    e.payload
FROM (
    SELECT country_code, party_id, location_key, integration_id, key
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
        AS each (country_code, party_id, location_key, integration_id, key)
    ORDER BY country_code, party_id, location_key, integration_id, key
) AS wanted
CROSS JOIN LATERAL (
    SELECT evse.position, evse.payload
    FROM evse
    WHERE evse.tenant_id = $1 AND evse.integration_id = wanted.integration_id
        AND evse.country_code = wanted.country_code AND evse.party_id = wanted.party_id
        AND evse.location_key = wanted.location_key AND evse.key = wanted.key
        AND EXISTS (
            SELECT FROM location AS l
            WHERE l.tenant_id = $1 AND l.integration_id = wanted.integration_id
                AND l.country_code = wanted.country_code AND l.party_id = wanted.party_id
                AND l.key = wanted.location_key AND l.delete_time IS NULL
        )
    FOR UPDATE OF evse
) AS e

-- name: evse_report
-- Of EVSEs of ours, in the order of their keys, looked up as `location_lock`; REMOVED (7) is not there. A status is written
-- where it is newer and the row is as `evse_payload.py` writes it: over its last 31 bytes, or those 17 that are not
-- last_updated. Where it is newer and was not written, something is `left` to do. Columns come as lines: the driver takes
-- longer for an item of an array than for all else that is done with it.
WITH held AS MATERIALIZED (
    SELECT reported.number, reported.status, reported.time, reported.tail, e.place, e.newer
    FROM (
        SELECT
            country_code, party_id, location_key, key, number, substr($7::bytea, 31 * number::integer - 30, 31) AS tail,
            get_byte($7, 31 * number::integer - 1)::smallint AS status,
            timestamptz 'epoch' + microseconds * interval '1 microsecond' AS time
        FROM unnest(
            string_to_array($2, E'\n'), string_to_array($3, E'\n'), string_to_array($4, E'\n'),
            string_to_array($5, E'\n'), string_to_array($6, E'\n')::bigint[]
        ) WITH ORDINALITY AS each (country_code, party_id, location_key, key, microseconds, number)
        ORDER BY country_code, party_id, location_key, key
    ) AS reported
    CROSS JOIN LATERAL (
        SELECT evse.ctid AS place, evse.status_time < reported.time AS newer
        FROM evse
        WHERE evse.tenant_id = $1 AND evse.integration_id = '' AND evse.country_code = reported.country_code
            AND evse.party_id = reported.party_id AND evse.location_key = reported.location_key
            AND evse.key = reported.key AND evse.status <> 7
        FOR UPDATE
    ) AS e
), written AS (
    UPDATE evse AS e
    SET status = held.status, status_time = held.time,
        last_updated = CASE WHEN e.status = held.status THEN e.last_updated ELSE now() END,
        payload = CASE
            WHEN e.status = held.status
            THEN overlay(e.payload PLACING substr(held.tail, 15) FROM octet_length(e.payload) - 16)
            ELSE overlay(e.payload PLACING held.tail FROM octet_length(e.payload) - 30)
        END
    FROM held
    WHERE e.ctid = held.place AND e.status <> 7 AND e.status_time < held.time
        AND substr(e.payload, 5, 1) >= '\x80' AND substr(e.payload, 6, 1) = '\x00'
    RETURNING held.number, e.last_updated = now() AS changed
)
SELECT
    ARRAY(SELECT number FROM held) AS known,
    ARRAY(SELECT number FROM written WHERE changed) AS changed,
    ARRAY(SELECT number FROM held WHERE newer AND number NOT IN (SELECT number FROM written)) AS left

-- name: evse_find
-- Single ones, of locations that live, looked up as `location_lock`.
SELECT wanted.country_code, wanted.party_id, wanted.location_key, wanted.integration_id, wanted.key, e.payload
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    AS wanted (country_code, party_id, location_key, integration_id, key)
CROSS JOIN LATERAL (
    SELECT evse.payload
    FROM evse
    WHERE evse.tenant_id = $1 AND evse.integration_id = wanted.integration_id
        AND evse.country_code = wanted.country_code AND evse.party_id = wanted.party_id
        AND evse.location_key = wanted.location_key AND evse.key = wanted.key
        AND EXISTS (
            SELECT FROM location AS l
            WHERE l.tenant_id = $1 AND l.integration_id = wanted.integration_id
                AND l.country_code = wanted.country_code AND l.party_id = wanted.party_id
                AND l.key = wanted.location_key AND l.delete_time IS NULL
        )
    OFFSET 0
) AS e
