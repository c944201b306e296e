-- The tariffs that a location names at the partner, or may name there: "DEABCt1". One is deleted there when none does. What an
-- older version sent is known once it is sent again.
ALTER TABLE peer_object ADD COLUMN tariff_keys text[] NOT NULL DEFAULT '{}';
CREATE INDEX peer_object_tariffs ON peer_object USING gin (tariff_keys) WHERE tariff_keys <> '{}';
