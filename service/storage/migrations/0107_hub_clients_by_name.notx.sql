-- How a party is connected to a hub is looked up once for each of the hub's partners.
CREATE INDEX CONCURRENTLY IF NOT EXISTS integration_hub_client ON integration USING gin (hub_clients)
    WITH (fastupdate = off);
