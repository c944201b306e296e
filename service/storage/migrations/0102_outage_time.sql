-- Since when the partner as a whole takes nothing; null once it answers, also if what it answers is about one object alone.
ALTER TABLE gate_pause ADD COLUMN outage_time timestamptz;
UPDATE gate_pause SET outage_time = begin_time WHERE scope = 0;
