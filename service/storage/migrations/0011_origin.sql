-- Where objects of ours were imported from: the integration they are not delivered to. Empty for those made here.
ALTER TABLE tariff ADD COLUMN origin_integration_id text NOT NULL DEFAULT '';
ALTER TABLE location ADD COLUMN origin_integration_id text NOT NULL DEFAULT '';

CREATE INDEX location_origin ON location (tenant_id, origin_integration_id, country_code, party_id, key)
WHERE origin_integration_id <> '';

-- What a run was asked to do beside its kind: a serialized Run with those fields alone.
ALTER TABLE run ADD COLUMN options bytea NOT NULL DEFAULT '';

-- What a partner holds of the parts of an object, found by the object.
CREATE INDEX peer_object_parts ON peer_object (tenant_id, integration_id, split_part(object_id, E'\t', 1))
WHERE strpos(object_id, E'\t') > 0;
