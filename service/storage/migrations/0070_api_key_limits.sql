-- What a key is limited to beside its role, and when it was last used. A release before this one does not know the
-- limits: make limited keys once no process of it runs any more.
ALTER TABLE api_key
    ADD COLUMN services text[] NOT NULL DEFAULT '{}',
    ADD COLUMN integrations text[] NOT NULL DEFAULT '{}',
    ADD COLUMN calls_per_minute integer NOT NULL DEFAULT 0,
    ADD COLUMN expire_time timestamptz,
    ADD COLUMN use_time timestamptz;
