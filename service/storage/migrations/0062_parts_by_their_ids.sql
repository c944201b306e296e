-- Which object a partner means by its id of a part: an EVSE or a connector where somebody charges.
CREATE INDEX peer_part_external_id ON peer_part (tenant_id, integration_id, part_kind, external_id);
