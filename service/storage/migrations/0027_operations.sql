-- What operators do with deliveries.

-- Since when the integration is paused; null when it is not.
ALTER TABLE integration ADD COLUMN pause_time timestamptz;

-- Since when the partner lacks the object's current state.
ALTER TABLE delivery ADD COLUMN pending_time timestamptz NOT NULL DEFAULT now();
