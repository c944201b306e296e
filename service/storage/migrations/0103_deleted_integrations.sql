-- What was received through these is still there for a while, and no caller sees it.
CREATE VIEW deleted_integration AS SELECT tenant_id, integration_id FROM integration WHERE delete_time IS NOT NULL;
