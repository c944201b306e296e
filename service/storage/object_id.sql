-- name: object_payloads
-- Objects of ours by their kinds ($2) and ids ($3): the messages that say how their owner writes them.
SELECT
    named.kind, named.id,
    CASE named.kind
        WHEN 4 THEN (
            SELECT payload FROM tariff
            WHERE tenant_id = $1 AND integration_id = '' AND country_code = named.country_code
                AND party_id = named.party_id AND key = named.key
        )
        WHEN 5 THEN (
            SELECT payload FROM location
            WHERE tenant_id = $1 AND integration_id = '' AND country_code = named.country_code
                AND party_id = named.party_id AND key = named.key
        )
        WHEN 11 THEN (
            SELECT payload FROM session
            WHERE tenant_id = $1 AND integration_id = '' AND country_code = named.country_code
                AND party_id = named.party_id AND key = named.key
        )
        WHEN 12 THEN (
            SELECT payload FROM cdr
            WHERE tenant_id = $1 AND integration_id = '' AND country_code = named.country_code
                AND party_id = named.party_id AND key = named.key
        )
        WHEN 13 THEN (
            SELECT payload FROM token
            WHERE tenant_id = $1 AND integration_id = '' AND country_code = named.country_code
                AND party_id = named.party_id AND key = named.key
        )
        WHEN 16 THEN (
            SELECT payload FROM invoice_reconciliation
            WHERE tenant_id = $1 AND integration_id = '' AND country_code = named.country_code
                AND party_id = named.party_id AND key = named.key
        )
    END AS payload
FROM (
    SELECT kind, id, left(id, 2) AS country_code, substr(id, 3, 3) AS party_id, substr(id, 6) AS key
    FROM unnest($2::smallint[], $3::text[]) AS each (kind, id)
) AS named
