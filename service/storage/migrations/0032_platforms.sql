-- Which platform's integration an OCPI party is reached through, and who it is there: country code and party id, together.
-- Both stand in payloads, which are beyond SQL, so service.storage.steps reads them, in the transaction of this file.
ALTER TABLE integration
    ADD COLUMN platform_integration_id text NOT NULL DEFAULT '',
    ADD COLUMN platform_party text NOT NULL DEFAULT '';
CREATE INDEX integration_behind ON integration (tenant_id, platform_integration_id, platform_party)
WHERE platform_integration_id <> '';

-- step: platforms
