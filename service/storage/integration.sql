-- name: integration_get
SELECT payload FROM integration WHERE tenant_id = $1 AND integration_id = $2 AND delete_time IS NULL

-- name: integration_find
SELECT integration_id, payload FROM integration
WHERE tenant_id = $1 AND integration_id = ANY($2::text[]) AND delete_time IS NULL

-- name: integration_lock
-- What refers to the integration is not held up.
SELECT payload FROM integration
WHERE tenant_id = $1 AND integration_id = $2 AND delete_time IS NULL
FOR NO KEY UPDATE

-- name: integration_hold
-- What locks deliveries of an integration, or several of its other rows, locks the integration first: so a deletion waits
-- for it, or it for the deletion.
SELECT true FROM integration WHERE tenant_id = $1 AND integration_id = $2 AND delete_time IS NULL FOR KEY SHARE

-- name: integration_insert
INSERT INTO integration
    (tenant_id, integration_id, type, enabled, status, parties, etag, payload, pull_minutes, platform_integration_id,
     platform_party, takes, token_parties)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT DO NOTHING
RETURNING integration_id

-- name: integration_replace
-- Tells what it was: the row is locked.
UPDATE integration AS i SET enabled = $3, status = $4, parties = $5, etag = $6, payload = $7, pause_time = $8,
    pull_minutes = $9, token_parties = $10, platform_integration_id = $11, platform_party = $12, hub_clients = $13::jsonb
FROM integration AS before
WHERE i.tenant_id = $1 AND i.integration_id = $2 AND before.tenant_id = $1 AND before.integration_id = $2
RETURNING before.parties, before.hub_clients

-- name: integration_connected
SELECT parties, hub_clients FROM integration WHERE tenant_id = $1 AND integration_id = $2

-- name: integration_share
-- Kept as it is until the transaction ends.
SELECT payload FROM integration WHERE tenant_id = $1 AND integration_id = $2 AND delete_time IS NULL FOR SHARE

-- name: integrations_behind
SELECT integration_id FROM integration
WHERE tenant_id = $1 AND platform_integration_id = $2 AND platform_integration_id <> ''
ORDER BY integration_id

-- name: integration_of_party
-- That of a party behind a platform.
SELECT integration_id, enabled FROM integration
WHERE tenant_id = $1 AND platform_integration_id = $2 AND platform_integration_id <> '' AND platform_party = $3
ORDER BY integration_id
LIMIT 1

-- name: integration_takes
SELECT takes FROM integration WHERE tenant_id = $1 AND integration_id = $2

-- name: integration_takes_refresh
-- tenant: any, because it is about the partners that this build knows.
WITH other AS MATERIALIZED (
    SELECT tenant_id, integration_id, takes
    FROM integration
    WHERE type = $1 AND takes <> $2 AND delete_time IS NULL
    ORDER BY tenant_id, integration_id
    FOR NO KEY UPDATE
)
UPDATE integration AS i SET takes = $2
FROM other
WHERE i.tenant_id = other.tenant_id AND i.integration_id = other.integration_id
RETURNING i.tenant_id, i.integration_id, other.takes AS took

-- name: integration_lock_all
-- Nothing that refers to the integration is added any more.
SELECT payload FROM integration WHERE tenant_id = $1 AND integration_id = $2 AND delete_time IS NULL FOR UPDATE

-- What goes with an integration is deleted a slice of $3 rows at a time: as one statement it would take too long.

-- name: received_location_forget
-- With their EVSEs: the integration they were received through goes.
DELETE FROM location
WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM location WHERE tenant_id = $1 AND integration_id = $2 AND integration_id <> '' LIMIT $3
)) AND tenant_id = $1

-- name: received_tariff_forget
DELETE FROM tariff
WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM tariff WHERE tenant_id = $1 AND integration_id = $2 AND integration_id <> '' LIMIT $3
)) AND tenant_id = $1

-- name: received_session_forget
-- CDRs stay: they are what was billed.
DELETE FROM session
WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM session WHERE tenant_id = $1 AND integration_id = $2 AND integration_id <> '' LIMIT $3
)) AND tenant_id = $1

-- name: received_tariff_revision_forget
DELETE FROM tariff_revision
WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM tariff_revision WHERE tenant_id = $1 AND integration_id = $2 AND integration_id <> '' LIMIT $3
)) AND tenant_id = $1

-- name: received_token_forget
DELETE FROM token
WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM token WHERE tenant_id = $1 AND integration_id = $2 AND integration_id <> '' LIMIT $3
)) AND tenant_id = $1

-- name: delivery_forget
DELETE FROM delivery
WHERE ctid = ANY(ARRAY(SELECT ctid FROM delivery WHERE tenant_id = $1 AND integration_id = $2 LIMIT $3))
    AND tenant_id = $1

-- name: peer_object_forget
DELETE FROM peer_object
WHERE ctid = ANY(ARRAY(SELECT ctid FROM peer_object WHERE tenant_id = $1 AND integration_id = $2 LIMIT $3))
    AND tenant_id = $1

-- name: peer_part_forget
DELETE FROM peer_part
WHERE ctid = ANY(ARRAY(SELECT ctid FROM peer_part WHERE tenant_id = $1 AND integration_id = $2 LIMIT $3))
    AND tenant_id = $1

-- name: partner_object_forget
DELETE FROM partner_object
WHERE ctid = ANY(ARRAY(SELECT ctid FROM partner_object WHERE tenant_id = $1 AND integration_id = $2 LIMIT $3))
    AND tenant_id = $1

-- name: disclosure_forget
DELETE FROM disclosure
WHERE ctid = ANY(ARRAY(SELECT ctid FROM disclosure WHERE tenant_id = $1 AND integration_id = $2 LIMIT $3))
    AND tenant_id = $1

-- name: received_document_forget
DELETE FROM received_document
WHERE ctid = ANY(ARRAY(SELECT ctid FROM received_document WHERE tenant_id = $1 AND integration_id = $2 LIMIT $3))
    AND tenant_id = $1

-- name: exchange_forget
DELETE FROM exchange
WHERE ctid = ANY(ARRAY(SELECT ctid FROM exchange WHERE tenant_id = $1 AND integration_id = $2 LIMIT $3))
    AND tenant_id = $1

-- name: run_forget
DELETE FROM run
WHERE ctid = ANY(ARRAY(SELECT ctid FROM run WHERE tenant_id = $1 AND integration_id = $2 LIMIT $3))
    AND tenant_id = $1

-- name: integration_forget_few
-- What there is little of, and what is about what is yet to be done.
WITH tokens AS (
    DELETE FROM partner_token WHERE tenant_id = $1 AND integration_id = $2
), access AS (
    DELETE FROM access_token WHERE tenant_id = $1 AND integration_id = $2
), rules AS (
    DELETE FROM publication_rule WHERE tenant_id = $1 AND integration_id = $2
), markings AS (
    DELETE FROM marking WHERE tenant_id = $1 AND integration_id = $2
), notices AS (
    DELETE FROM notified WHERE tenant_id = $1 AND integration_id = $2
), due AS (
    DELETE FROM notified_due WHERE tenant_id = $1 AND integration_id = $2
), pulls AS (
    DELETE FROM pull WHERE tenant_id = $1 AND integration_id = $2
), clients AS (
    DELETE FROM hub_client WHERE tenant_id = $1 AND integration_id = $2
), commands AS (
    DELETE FROM command WHERE tenant_id = $1 AND integration_id = $2
)
DELETE FROM quarantine WHERE tenant_id = $1 AND integration_id = $2

-- name: integration_tombstone
-- It stands for nothing any more: nothing is marked for it, delivered, pulled, or taken from it.
UPDATE integration SET delete_time = now(), enabled = false, takes = '{}', parties = '{}', token_parties = '{}',
    platform_integration_id = '', platform_party = '', pull_minutes = 0, hub_clients = '{}'
WHERE tenant_id = $1 AND integration_id = $2

-- name: integration_tombstone_next
-- tenant: any, because one worker serves them all. Not one of which another process removes a slice.
SELECT tenant_id, integration_id FROM integration
WHERE delete_time IS NOT NULL
ORDER BY delete_time
LIMIT 1
FOR UPDATE SKIP LOCKED

-- name: integration_is_tombstone
SELECT delete_time IS NOT NULL FROM integration WHERE tenant_id = $1 AND integration_id = $2

-- name: integration_delete
DELETE FROM integration WHERE tenant_id = $1 AND integration_id = $2

-- name: integration_page
SELECT integration_id, payload
FROM (
    SELECT
        integration_id,
        payload,
        sum(octet_length(payload)) OVER (ORDER BY integration_id) - octet_length(payload) AS before
    FROM (
        SELECT integration_id, payload
        FROM integration
        WHERE tenant_id = $1 AND integration_id > $2 AND delete_time IS NULL
            AND ($3::smallint = 0 OR type = $3) AND ($4::boolean IS NULL OR enabled = $4)
        ORDER BY integration_id
        LIMIT $5
    ) AS page
) AS sized
WHERE before < $6
ORDER BY integration_id

-- name: integration_objects
-- How many objects the partner holds, or may hold, through the integration.
SELECT count(*) FROM peer_object WHERE tenant_id = $1 AND integration_id = $2 AND state <> 1

-- name: secrets_get
SELECT field, sealed FROM secret WHERE tenant_id = $1 AND resource = $2 ORDER BY field

-- name: secret_put
INSERT INTO secret (tenant_id, resource, field, sealed) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, resource, field) DO UPDATE SET sealed = EXCLUDED.sealed, update_time = now()

-- name: secrets_all
-- tenant: any, because a new key is for every secret.
SELECT tenant_id, resource, field, sealed FROM secret

-- name: secret_rewrap
-- Nothing happens to one that was replaced meanwhile.
UPDATE secret SET sealed = $5 WHERE tenant_id = $1 AND resource = $2 AND field = $3 AND sealed = $4

-- name: secret_forget
DELETE FROM secret WHERE tenant_id = $1 AND resource = $2 AND field = $3

-- name: secrets_forget
DELETE FROM secret WHERE tenant_id = $1 AND resource = $2

-- name: token_parties_taken
-- Which of the parties $3 are ours, or issue tokens through an integration that is not $2 nor behind it.
SELECT each.party
FROM unnest($3::text[]) AS each (party)
WHERE EXISTS (
    SELECT FROM integration
    WHERE tenant_id = $1 AND integration_id <> $2 AND platform_integration_id <> $2 AND each.party = ANY(token_parties)
) OR EXISTS (
    SELECT FROM party
    WHERE tenant_id = $1 AND country_code = left(each.party, 2) AND party_id = substr(each.party, 3)
)
