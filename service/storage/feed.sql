-- name: feed_read
-- tenant: any, because one read serves all that are watched: $1.
-- Their changes by transactions from $2 on, as far as every transaction has ended: a row for each, and one without a
-- change for each tenant. `open` is the oldest transaction that has not; `cut`, where the read ends before it, because
-- more than $3 changes follow; `beat`, one whose number no crash gives out again.
WITH horizon AS MATERIALIZED (
    SELECT
        pg_snapshot_xmin(pg_current_snapshot()) AS open,
        CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END AS timeline
), cut AS MATERIALIZED (
    SELECT next.transaction_id
    FROM unnest($1::text[]) AS watched (tenant_id)
    CROSS JOIN horizon
    CROSS JOIN LATERAL (
        SELECT transaction_id FROM change
        WHERE tenant_id = watched.tenant_id AND transaction_id >= $2::xid8 AND transaction_id < horizon.open
        ORDER BY transaction_id
        OFFSET $3::integer LIMIT 1
    ) AS far
    CROSS JOIN LATERAL (
        SELECT transaction_id FROM change
        WHERE tenant_id = watched.tenant_id AND transaction_id >= far.transaction_id AND transaction_id > $2::xid8
            AND transaction_id < horizon.open
        ORDER BY transaction_id
        LIMIT 1
    ) AS next
    ORDER BY next.transaction_id
    LIMIT 1
)
SELECT
    t.tenant_id, t.change_floor, horizon.open, (SELECT transaction_id FROM cut) AS cut,
    (SELECT transaction_id FROM heartbeat) AS beat,
    (SELECT system_identifier FROM pg_control_system()) AS system, horizon.timeline,
    (SELECT oid FROM pg_database WHERE datname = current_database()) AS database,
    c.transaction_id, c.object_kind, c.object_id, c.integration_id, c.create_time
FROM tenant AS t
CROSS JOIN horizon
LEFT JOIN LATERAL (
    SELECT transaction_id, change_id, object_kind, object_id, integration_id, create_time
    FROM change
    WHERE tenant_id = t.tenant_id AND transaction_id >= $2::xid8
        AND transaction_id < coalesce((SELECT transaction_id FROM cut), horizon.open)
    ORDER BY transaction_id, change_id
) AS c ON true
WHERE t.tenant_id = ANY($1::text[])
ORDER BY t.tenant_id, c.transaction_id, c.change_id

-- name: feed_held
-- tenant: any, because it is about the whole server: how long its oldest transaction with changes has been open, in
-- seconds. That holds the feed back. Other roles' transactions are seen by a role in pg_read_all_stats.
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(since)), 0)::float8
FROM (
    SELECT xact_start AS since FROM pg_stat_activity WHERE backend_xid IS NOT NULL
    UNION ALL
    SELECT prepared FROM pg_prepared_xacts
) AS open

-- name: feed_sweep
-- tenant: any, because age decides. Up to $2 changes; what is gone is remembered, so that nobody who missed it goes on.
WITH gone AS (
    DELETE FROM change
    WHERE ctid IN (SELECT ctid FROM change WHERE create_time < now() - $1::interval ORDER BY create_time LIMIT $2)
    RETURNING tenant_id, transaction_id
), last AS (
    SELECT DISTINCT ON (tenant_id) tenant_id, transaction_id FROM gone ORDER BY tenant_id, transaction_id DESC
), raised AS (
    UPDATE tenant AS t
    SET change_floor = greatest(t.change_floor, last.transaction_id)
    FROM last
    WHERE t.tenant_id = last.tenant_id
)
SELECT count(*) FROM gone
