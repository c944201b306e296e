-- The export that a tenant was made of, and when: so that the same one is not read in twice.
ALTER TABLE tenant ADD COLUMN export_id uuid;
ALTER TABLE tenant ADD COLUMN import_time timestamptz;
