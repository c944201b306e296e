-- Which kinds of objects are delivered through an integration: what a partner takes, its declaration says.
ALTER TABLE integration ADD COLUMN takes smallint[] NOT NULL DEFAULT '{}';
