-- A tenant as its rows, to be moved to another database. A statement for each table: the columns that it names are those
-- that are written there, in the order in which the rows got their numbers. Numbers themselves (positions) are given anew.

-- name: tenant_snapshot
-- tenant: any, because it is about the transaction: all that it reads is as of one moment.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY

-- name: tenant_unhurried
-- tenant: any, because it is about the transaction: it may take its time.
SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)

-- name: tenant_lock
-- What it was made of, and whether it holds anything yet: all but chargers and companies belongs to a party or an integration.
SELECT
    export_id, import_time,
    EXISTS (SELECT FROM party WHERE tenant_id = $1) OR EXISTS (SELECT FROM integration WHERE tenant_id = $1)
        OR EXISTS (SELECT FROM charger WHERE tenant_id = $1) OR EXISTS (SELECT FROM company WHERE tenant_id = $1) AS used
FROM tenant WHERE tenant_id = $1
FOR UPDATE

-- name: tenant_imported
UPDATE tenant SET export_id = $2, import_time = now() WHERE tenant_id = $1

-- name: tenant_party
SELECT country_code, party_id, etag, payload
FROM party WHERE tenant_id = $1 ORDER BY country_code, party_id

-- name: tenant_company
SELECT company_id, version, is_cpo, is_emp, etag, payload, delete_time
FROM company WHERE tenant_id = $1 ORDER BY company_id

-- name: tenant_charger
SELECT key, site_id, etag, payload
FROM charger WHERE tenant_id = $1 ORDER BY key

-- name: tenant_integration
SELECT
    integration_id, type, enabled, status, etag, payload, parties, takes, pause_time, pull_minutes, pull_time,
    platform_integration_id, platform_party, token_parties, delete_time, hub_clients
FROM integration WHERE tenant_id = $1 ORDER BY integration_id

-- name: tenant_publication_rule
SELECT integration_id, rule_id, priority, tariff_keys, growing, etag, payload, turn_time
FROM publication_rule WHERE tenant_id = $1 ORDER BY integration_id, rule_id

-- name: tenant_secret
SELECT resource, field, sealed, update_time
FROM secret WHERE tenant_id = $1 ORDER BY resource, field

-- name: tenant_api_key
SELECT
    key_id, name, role, digest, create_time, revoke_time, services, integrations, calls_per_minute, expire_time, use_time
FROM api_key WHERE tenant_id = $1 ORDER BY key_id

-- name: tenant_partner_token
SELECT integration_id, initial, confirmed, digest, create_time, use_time, exchanges
FROM partner_token WHERE tenant_id = $1 ORDER BY token_id

-- name: tenant_location
SELECT
    integration_id, country_code, party_id, key, latitude, longitude, etag, payload, last_updated, delete_time,
    origin_integration_id
FROM location WHERE tenant_id = $1 ORDER BY integration_id, country_code, party_id, key

-- name: tenant_evse
SELECT
    integration_id, country_code, party_id, location_key, key, position, status, status_time, last_updated,
    tariff_keys, payload
FROM evse WHERE tenant_id = $1 ORDER BY integration_id, country_code, party_id, location_key, key

-- name: tenant_tariff
SELECT
    integration_id, country_code, party_id, key, type, currency, etag, payload, delete_time, origin_integration_id,
    due_time
FROM tariff WHERE tenant_id = $1 ORDER BY integration_id, country_code, party_id, key

-- name: tenant_tariff_revision
SELECT integration_id, country_code, party_id, key, end_time, payload
FROM tariff_revision WHERE tenant_id = $1 ORDER BY integration_id, country_code, party_id, key, end_time

-- name: tenant_token
SELECT
    integration_id, country_code, party_id, key, type, contract_key, group_key, whitelist, valid, etag, payload,
    delete_time
FROM token WHERE tenant_id = $1 ORDER BY integration_id, country_code, party_id, key

-- name: tenant_session
SELECT
    integration_id, country_code, party_id, key, status, start_time, update_time, token_party, token_key,
    contract_key, location_key, recipient_id, etag, payload
FROM session WHERE tenant_id = $1 ORDER BY integration_id, country_code, party_id, key

-- name: tenant_cdr
SELECT
    integration_id, country_code, party_id, key, currency, session_key, credited_key, start_time, update_time,
    token_party, token_key, contract_key, location_key, recipient_id, etag, payload, audit_state, audit_lease,
    audit_tariff
FROM cdr WHERE tenant_id = $1 ORDER BY integration_id, country_code, party_id, key

-- name: tenant_invoice_reconciliation
SELECT
    integration_id, country_code, party_id, key, invoice_key, cdr_keys, recipient_id, update_time, etag, payload,
    delete_time
FROM invoice_reconciliation WHERE tenant_id = $1 ORDER BY integration_id, country_code, party_id, key

-- name: tenant_hub_client
SELECT integration_id, country_code, party_id, key, role, status, etag, payload
FROM hub_client WHERE tenant_id = $1 ORDER BY integration_id, country_code, party_id, key

-- name: tenant_received_document
SELECT integration_id, object_kind, object_id, part, version, last_updated, document
FROM received_document WHERE tenant_id = $1 ORDER BY integration_id, object_kind, object_id, part

-- name: tenant_partner_document
SELECT hash, payload
FROM partner_document WHERE tenant_id = $1 ORDER BY hash

-- name: tenant_partner_object
SELECT integration_id, object_kind, country_code, party_id, key, shown, hash, tariff_keys, last_updated
FROM partner_object WHERE tenant_id = $1 ORDER BY position

-- name: tenant_peer_object
-- Parts are in peer_part; a trigger writes them here, too.
SELECT
    integration_id, object_kind, object_id, state, external_id, acknowledged_version, acknowledged_hash,
    acknowledge_time, sent_document, tariff_keys
FROM peer_object WHERE tenant_id = $1 AND strpos(object_id, E'\t') = 0
ORDER BY integration_id, object_kind, object_id

-- name: tenant_peer_part
SELECT
    integration_id, object_kind, object_id, part_kind, part_id, state, external_id, acknowledge_time, sent_document
FROM peer_part WHERE tenant_id = $1 ORDER BY integration_id, object_kind, object_id, part_kind, part_id

-- name: tenant_delivery
SELECT
    delivery_id, integration_id, object_kind, object_id, state, generation, verify, overwrite, due_time, lease_token,
    lease_until, failed_attempts, reason, description, create_time, update_time, fail_time, pending_time
FROM delivery WHERE tenant_id = $1 ORDER BY delivery_id

-- name: tenant_delivery_attempt
SELECT
    delivery_id, start_time, duration, reason, description, http_status, partner_code, sent_version, integration_id
FROM delivery_attempt WHERE tenant_id = $1 ORDER BY attempt_id

-- name: tenant_marking
SELECT integration_id, object_kind, tariff, redeliver, after, slice_time
FROM marking WHERE tenant_id = $1 ORDER BY integration_id, object_kind, tariff

-- name: tenant_disclosure
SELECT
    disclosure_id, integration_id, object_kind, object_id, method, document_type, hash, first_time, latest_time,
    count, reason, http_status, request_id, correlation_id
FROM disclosure WHERE tenant_id = $1 ORDER BY position

-- name: tenant_pull
SELECT
    integration_id, object_kind, watermark, whole_time, run_id, begin_time, whole, next_link, highest, complete,
    total, held, counts, noted_link
FROM pull WHERE tenant_id = $1 ORDER BY integration_id, object_kind

-- name: tenant_pull_unseen
SELECT integration_id, object_kind, object_id
FROM pull_unseen WHERE tenant_id = $1 ORDER BY integration_id, object_kind, object_id

-- name: tenant_quarantine
SELECT
    integration_id, object_kind, key, quarantine_id, version, run_id, first_time, latest_time, count, payload,
    document
FROM quarantine WHERE tenant_id = $1 ORDER BY position

-- name: tenant_run
SELECT
    run_id, integration_id, kind, state, key_id, progress, steps, reason, description, lease_token, lease_until,
    attempts, create_time, start_time, end_time, update_time, options
FROM run WHERE tenant_id = $1 ORDER BY run_id

-- name: tenant_run_finding
SELECT run_id, lease_token, number, outcome, payload
FROM run_finding WHERE tenant_id = $1 ORDER BY run_id, lease_token, number

-- name: tenant_command
SELECT command_id, integration_id, direction, state, payload, response_url, create_time, send_time, result_time
FROM command WHERE tenant_id = $1 ORDER BY position

-- name: tenant_notified
SELECT integration_id, object_kind, external_id, notify_time
FROM notified WHERE tenant_id = $1 ORDER BY integration_id, object_kind, external_id

-- name: tenant_notified_due
SELECT integration_id, due_time, begin_time
FROM notified_due WHERE tenant_id = $1 ORDER BY integration_id

-- name: tenant_gate_budget
SELECT integration_id, period, used, reset_time
FROM gate_budget WHERE tenant_id = $1 ORDER BY integration_id, period

-- name: tenant_gate_pause
SELECT integration_id, failures, resume_time, scope, begin_time, outage_time
FROM gate_pause WHERE tenant_id = $1 ORDER BY integration_id, scope

-- name: tenant_exchange
SELECT integration_id, create_time, payload
FROM exchange WHERE tenant_id = $1 ORDER BY exchange_id

-- name: tenant_exchange_recording
SELECT integration_id, end_time
FROM exchange_recording WHERE tenant_id = $1 ORDER BY integration_id

-- name: tenant_repaired_answer
SELECT integration_id, operation, answer_count, value_count, path, description, latest_time
FROM repaired_answer WHERE tenant_id = $1 ORDER BY integration_id, operation
