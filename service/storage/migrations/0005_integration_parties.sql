-- Which parties an integration speaks for, so that none of them is deleted: country code and party id, together.

ALTER TABLE integration ADD COLUMN parties text[] NOT NULL DEFAULT '{}';
