-- name: doctor_server
-- tenant: any, because it is about the server.
SELECT
    current_setting('server_version') AS version,
    pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only,
    clock_timestamp() AS time,
    current_setting('fsync')::boolean AND current_setting('full_page_writes')::boolean AS crash_safe,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('synchronous_standby_names') AS synchronous_standbys,
    (SELECT count(*) FROM pg_stat_replication) AS standbys

-- name: doctor_runs
-- tenant: any, because workers work for all. Those of which the worker is gone for $1, and those that nobody takes for as long.
SELECT
    (SELECT count(*) FROM run WHERE state = 2 AND lease_until < now() - $1::interval) AS abandoned,
    (SELECT count(*) FROM run WHERE state = 1 AND create_time < now() - $1::interval) AS queued

-- name: doctor_parked
-- tenant: any, because the operator's command line looks at all.
SELECT tenant_id, integration_id, count(*) AS count
FROM delivery
WHERE state = 4
GROUP BY tenant_id, integration_id
ORDER BY count(*) DESC, tenant_id, integration_id

-- name: doctor_tenants
-- tenant: any, because the operator's command line looks at all.
SELECT tenant_id FROM tenant ORDER BY tenant_id
