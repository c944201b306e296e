-- Who is connected to us through an integration: the names of a hub's clients, each with the number of its status.
ALTER TABLE integration ADD COLUMN hub_clients jsonb NOT NULL DEFAULT '{}';
