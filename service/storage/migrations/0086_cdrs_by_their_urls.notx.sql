-- Which CDR (12) of ours a partner means that calls it by its URL there.
CREATE INDEX CONCURRENTLY IF NOT EXISTS peer_object_cdr_url ON peer_object (tenant_id, external_id)
    WHERE object_kind = 12 AND external_id <> '';
