-- When a rule next comes into force or ends, and partners have to be told; null when that is not going to happen.
ALTER TABLE publication_rule ADD COLUMN turn_time timestamptz;
CREATE INDEX publication_rule_turns ON publication_rule (turn_time) WHERE turn_time IS NOT NULL;
