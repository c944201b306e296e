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

-- name: doctor_leases
-- tenant: any, because workers work for all. What a worker died on, and what is due and nobody takes, for $1.
SELECT
    (SELECT count(*) FROM delivery WHERE state = 2 AND lease_until < now() - $1::interval) AS deliveries,
    (SELECT count(*) FROM run WHERE state = 2 AND lease_until < now() - $1::interval) AS runs,
    (SELECT count(*) FROM run WHERE state = 1 AND create_time < now() - $1::interval) AS queued,
    (
        SELECT count(*)
        FROM delivery AS d
        JOIN integration AS i USING (tenant_id, integration_id)
        WHERE d.state = 1 AND d.due_time < now() - $1::interval AND i.enabled AND i.pause_time IS NULL
            AND NOT EXISTS (
                SELECT FROM gate_pause AS p
                WHERE p.tenant_id = d.tenant_id AND p.integration_id = d.integration_id AND p.resume_time > now() - $1::interval
            )
    ) AS untaken

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
