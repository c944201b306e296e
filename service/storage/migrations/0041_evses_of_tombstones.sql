-- The EVSEs of a deleted location are REMOVED, so that a report on one need not look at the location. One that the previous
-- version deletes meanwhile can be reported on as if it were there, until it is deleted again: nobody is shown it.
UPDATE evse AS e SET status = 7
FROM location AS l
WHERE l.delete_time IS NOT NULL AND e.status <> 7 AND e.tenant_id = l.tenant_id AND e.integration_id = l.integration_id
    AND e.country_code = l.country_code AND e.party_id = l.party_id AND e.location_key = l.key;
