-- What a partner holds of an object that it has as several, part by part: of a location the EVSE {e1}, its connector {e1,1}.
CREATE TABLE peer_part (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    object_id text NOT NULL,
    part_kind smallint NOT NULL,
    part_id text[] NOT NULL,
    state smallint NOT NULL,
    external_id text NOT NULL,
    acknowledge_time timestamptz,
    sent_document bytea,
    PRIMARY KEY (tenant_id, integration_id, object_kind, object_id, part_kind, part_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);

-- The previous version keeps them in peer_object, under ids joined by tabs. While both run, each sees what the other
-- writes; a later migration drops these two triggers, and those rows.
CREATE FUNCTION peer_part_from_object() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO peer_part
    VALUES (
        NEW.tenant_id, NEW.integration_id, CASE NEW.object_kind WHEN 4 THEN 4 ELSE 5 END,
        split_part(NEW.object_id, E'\t', 1), NEW.object_kind, (string_to_array(NEW.object_id, E'\t'))[2:],
        NEW.state, NEW.external_id, NEW.acknowledge_time, NEW.sent_document
    )
    ON CONFLICT (tenant_id, integration_id, object_kind, object_id, part_kind, part_id) DO UPDATE
    SET state = EXCLUDED.state, external_id = EXCLUDED.external_id, acknowledge_time = EXCLUDED.acknowledge_time,
        sent_document = EXCLUDED.sent_document;
    RETURN NULL;
END
$$;

CREATE FUNCTION peer_object_from_part() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO peer_object
        (tenant_id, integration_id, object_kind, object_id, state, external_id, acknowledge_time, sent_document)
    VALUES (
        NEW.tenant_id, NEW.integration_id, NEW.part_kind, array_to_string(NEW.object_id || NEW.part_id, E'\t'),
        NEW.state, NEW.external_id, NEW.acknowledge_time, NEW.sent_document
    )
    ON CONFLICT (tenant_id, integration_id, object_kind, object_id) DO UPDATE
    SET state = EXCLUDED.state, external_id = EXCLUDED.external_id, acknowledge_time = EXCLUDED.acknowledge_time,
        sent_document = EXCLUDED.sent_document;
    RETURN NULL;
END
$$;

CREATE TRIGGER peer_part_from_object AFTER INSERT OR UPDATE ON peer_object FOR EACH ROW
WHEN (strpos(NEW.object_id, E'\t') > 0 AND pg_trigger_depth() = 0) EXECUTE FUNCTION peer_part_from_object();

CREATE TRIGGER peer_object_from_part AFTER INSERT OR UPDATE ON peer_part FOR EACH ROW
WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION peer_object_from_part();

INSERT INTO peer_part
SELECT
    tenant_id, integration_id, CASE object_kind WHEN 4 THEN 4 ELSE 5 END, split_part(object_id, E'\t', 1), object_kind,
    (string_to_array(object_id, E'\t'))[2:], state, external_id, acknowledge_time, sent_document
FROM peer_object
WHERE strpos(object_id, E'\t') > 0;
