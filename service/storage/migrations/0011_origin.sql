-- Where objects of ours were imported from: the integration they are not delivered to. Empty for those made here.
ALTER TABLE tariff ADD COLUMN origin_integration_id text NOT NULL DEFAULT '';
ALTER TABLE location ADD COLUMN origin_integration_id text NOT NULL DEFAULT '';

CREATE INDEX location_origin ON location (tenant_id, origin_integration_id, country_code, party_id, key)
WHERE origin_integration_id <> '';

-- What a run was asked to do beside its kind: a serialized Run with those fields alone.
ALTER TABLE run ADD COLUMN options bytea NOT NULL DEFAULT '';
