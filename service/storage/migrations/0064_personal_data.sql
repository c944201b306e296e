-- Whose sessions and CDRs lead to drivers: by the token, and by how long ago they last changed.
CREATE INDEX session_token_named ON session (tenant_id, token_party, token_key);
CREATE INDEX cdr_token_named ON cdr (tenant_id, token_party, token_key);
CREATE INDEX session_personal ON session (update_time) WHERE contract_key NOT LIKE 'erased-%';
CREATE INDEX cdr_personal ON cdr (update_time) WHERE contract_key NOT LIKE 'erased-%';
