-- Who listens for what one partner asks; '' for what all ask.
ALTER TABLE question ADD COLUMN integration_id text NOT NULL DEFAULT '';
ALTER TABLE listener ADD COLUMN integration_id text NOT NULL DEFAULT '';
