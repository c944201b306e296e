-- When a tariff of ours ends and partners have to be told; null when that is not going to happen, or has been done. Of
-- tariffs that are there, and that the previous version still writes, it is not known: they are looked at once.
ALTER TABLE tariff ADD COLUMN due_time timestamptz DEFAULT '-infinity';
CREATE INDEX tariff_due ON tariff (due_time)
WHERE integration_id = '' AND delete_time IS NULL AND due_time IS NOT NULL;

-- Objects that are still to be marked for an integration, a slice at a time: those behind `after`. `tariff`: only the
-- locations that name it in the integration's view; `redeliver`: whatever the partner is known to hold.
CREATE TABLE marking (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    tariff text NOT NULL DEFAULT '',
    redeliver boolean NOT NULL DEFAULT false,
    after text NOT NULL DEFAULT '',
    slice_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, integration_id, object_kind, tariff),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);
CREATE INDEX marking_slice ON marking (slice_time);
