-- Commands are watched: several statements change them, and none of them may forget the feed.
CREATE FUNCTION command_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed record := coalesce(NEW, OLD);
BEGIN
    INSERT INTO change (tenant_id, integration_id, object_kind, object_id, operation, key_id, etag)
    VALUES (
        changed.tenant_id, changed.integration_id, 15, changed.command_id,
        CASE TG_OP WHEN 'INSERT' THEN 'create' WHEN 'DELETE' THEN 'delete' ELSE 'update' END, '', ''
    );
    RETURN NULL;
END
$$;

CREATE TRIGGER command_made AFTER INSERT OR DELETE ON command
FOR EACH ROW EXECUTE FUNCTION command_changed();

CREATE TRIGGER command_changed AFTER UPDATE ON command
FOR EACH ROW WHEN (NEW.payload <> OLD.payload) EXECUTE FUNCTION command_changed();
