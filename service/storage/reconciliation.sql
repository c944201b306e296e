-- name: reconciliation_parties
SELECT token_parties FROM integration WHERE tenant_id = $1 AND integration_id = $2

-- name: reconciliation_cdrs
-- A page of the CDRs that are stored under $3, ours for $2 alone, with what each has to agree with.
SELECT
    c.start_time, c.country_code, c.party_id, c.key, c.payload,
    c.session_key = '' OR EXISTS (
        SELECT FROM session
        WHERE tenant_id = $1 AND integration_id = $3 AND country_code = c.country_code AND party_id = c.party_id
            AND key = c.session_key
    ) AS has_session,
    (
        SELECT payload FROM cdr
        WHERE tenant_id = $1 AND integration_id = $3 AND country_code = c.country_code AND party_id = c.party_id
            AND key = c.credited_key AND c.credited_key <> ''
    ) AS original,
    (
        SELECT count(*) FROM cdr
        WHERE tenant_id = $1 AND integration_id = $3 AND country_code = c.country_code AND party_id = c.party_id
            AND credited_key = c.credited_key AND credited_key <> ''
    ) AS credits,
    coalesce(d.state, 0) AS delivery_state, coalesce(d.reason, 0) AS delivery_reason, coalesce(o.state, 0) AS peer_state
FROM (
    SELECT
        start_time, country_code, party_id, key, session_key, credited_key, payload,
        sum(octet_length(payload)) OVER (ORDER BY start_time, country_code, party_id, key) - octet_length(payload)
            AS before
    FROM (
        SELECT start_time, country_code, party_id, key, session_key, credited_key, payload
        FROM cdr
        WHERE tenant_id = $1 AND integration_id = $3 AND start_time >= $5 AND start_time < $6
            AND (start_time, country_code, party_id, key) > ($7::timestamptz, $8::text, $9::text, $10::text)
            AND ($3 <> '' OR recipient_id = $2 OR recipient_id = '' AND token_party = ANY($4::text[]))
        ORDER BY start_time, country_code, party_id, key
        LIMIT $11
    ) AS page
) AS c
LEFT JOIN delivery AS d ON d.tenant_id = $1 AND d.integration_id = $2 AND d.object_kind = 12 AND $3 = ''
    AND d.object_id = c.country_code || c.party_id || c.key
LEFT JOIN peer_object AS o ON o.tenant_id = $1 AND o.integration_id = $2 AND o.object_kind = 12 AND $3 = ''
    AND o.object_id = c.country_code || c.party_id || c.key
WHERE c.before < $12
ORDER BY c.start_time, c.country_code, c.party_id, c.key

-- name: reconciliation_invoices_used
-- Whether there are records of ours for the partner, or of the partner's.
SELECT EXISTS (
    SELECT FROM invoice_reconciliation
    WHERE tenant_id = $1 AND integration_id IN ('', $2) AND delete_time IS NULL
        AND (integration_id <> '' OR recipient_id = $2)
)

-- name: reconciliation_invoices
-- Which invoices the CDRs that are stored under $3 are on. An operator's record goes the way of his CDRs, a provider's the other
-- way, and names CDRs of any operator.
SELECT cdr.country_code, cdr.party_id, cdr.key, array_agg(DISTINCT r.invoice_key) AS invoices
FROM invoice_reconciliation AS r
CROSS JOIN LATERAL unnest(r.cdr_keys) AS named (key)
JOIN unnest($4::text[], $5::text[], $6::text[]) AS cdr (country_code, party_id, key) ON cdr.key = named.key
WHERE r.tenant_id = $1 AND r.cdr_keys && $6::text[] AND r.integration_id IN ('', $2) AND r.delete_time IS NULL
    AND (r.integration_id <> '' OR r.recipient_id = $2)
    AND (r.integration_id <> $3 OR (r.country_code = cdr.country_code AND r.party_id = cdr.party_id))
GROUP BY cdr.country_code, cdr.party_id, cdr.key

-- name: reconciliation_sessions
-- A page of the sessions that ended well, with the payload of those that no CDR bills.
-- In OCPI 2.1.1 every CDR has an empty session_key, so that is no way to find one: hence an expression, which no index has, and a
-- span, since the planner would read the whole table for a key that is as frequent as that one.
SELECT
    s.start_time, s.country_code, s.party_id, s.key,
    (
        SELECT payload FROM session
        WHERE tenant_id = $1 AND integration_id = $3 AND country_code = s.country_code AND party_id = s.party_id
            AND key = s.key
            AND NOT EXISTS (
                SELECT FROM cdr
                WHERE tenant_id = $1 AND integration_id = $3 AND session_key BETWEEN s.key AND s.key AND country_code = s.country_code
                    AND party_id = s.party_id
            )
            AND NOT EXISTS (
                SELECT FROM cdr
                WHERE tenant_id = $1 AND integration_id = $3 AND start_time = s.start_time
                    AND country_code = s.country_code AND party_id = s.party_id AND session_key || '' = ''
                    AND token_key = s.token_key AND contract_key = s.contract_key
            )
    ) AS payload
FROM (
    SELECT start_time, country_code, party_id, key, token_key, contract_key
    FROM session
    WHERE tenant_id = $1 AND integration_id = $3 AND start_time >= $5 AND start_time < $6 AND status = 2
        AND (start_time, country_code, party_id, key) > ($7::timestamptz, $8::text, $9::text, $10::text)
        AND ($3 <> '' OR recipient_id = $2 OR recipient_id = '' AND token_party = ANY($4::text[]))
    ORDER BY start_time, country_code, party_id, key
    LIMIT $11
) AS s
ORDER BY s.start_time, s.country_code, s.party_id, s.key
