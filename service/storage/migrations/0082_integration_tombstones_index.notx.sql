CREATE INDEX CONCURRENTLY IF NOT EXISTS integration_tombstone ON integration (delete_time) WHERE delete_time IS NOT NULL
