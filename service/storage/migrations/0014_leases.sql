-- An outage is told from an object that a partner will not take by what else failed and succeeded there.

-- When the failures in a row began.
ALTER TABLE gate_pause ADD COLUMN begin_time timestamptz NOT NULL DEFAULT now();

-- When the partner last made an attempt fail; null once the object arrived or is known to be at fault itself.
ALTER TABLE delivery ADD COLUMN fail_time timestamptz;
CREATE INDEX delivery_failing ON delivery (tenant_id, integration_id, fail_time) WHERE fail_time IS NOT NULL;

-- When the token was asked for: one that was asked for earlier never takes the place of a later one.
ALTER TABLE access_token ADD COLUMN ask_time timestamptz NOT NULL DEFAULT '-infinity';
