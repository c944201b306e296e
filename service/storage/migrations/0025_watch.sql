-- What watchers need of the change feed.

-- The integration that a received object, or a delivery, belongs to; '' for what is ours.
ALTER TABLE change ADD COLUMN integration_id text NOT NULL DEFAULT '';

-- The last transaction whose changes are no longer kept; null while all are.
ALTER TABLE tenant ADD COLUMN change_floor xid8;

-- The transaction of the last beat. Its number is on the disk, and so are those before it: no crash gives them out again.
ALTER TABLE heartbeat ADD COLUMN transaction_id xid8;

-- A dozen statements change deliveries, and none of them may forget the feed. An attempt that begins is no news.
CREATE FUNCTION delivery_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed record := coalesce(NEW, OLD);
BEGIN
    INSERT INTO change (tenant_id, integration_id, object_kind, object_id, operation, key_id, etag)
    VALUES (
        changed.tenant_id, changed.integration_id, 10, changed.delivery_id,
        CASE TG_OP WHEN 'INSERT' THEN 'create' WHEN 'DELETE' THEN 'delete' ELSE 'update' END, '', ''
    );
    RETURN NULL;
END
$$;

CREATE TRIGGER delivery_made AFTER INSERT OR DELETE ON delivery
FOR EACH ROW EXECUTE FUNCTION delivery_changed();

CREATE TRIGGER delivery_changed AFTER UPDATE ON delivery
FOR EACH ROW WHEN (NEW.state <> OLD.state AND NEW.state <> 2) EXECUTE FUNCTION delivery_changed();

-- What workers find out about an integration; callers' changes have another etag, and are recorded with their key.
CREATE FUNCTION integration_found() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO change (tenant_id, object_kind, object_id, operation, key_id, etag)
    VALUES (NEW.tenant_id, 2, NEW.integration_id, 'update', '', NEW.etag);
    RETURN NULL;
END
$$;

CREATE TRIGGER integration_found AFTER UPDATE ON integration
FOR EACH ROW WHEN (NEW.payload <> OLD.payload AND NEW.etag = OLD.etag) EXECUTE FUNCTION integration_found();
