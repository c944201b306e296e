-- Who sees what: the rules of each integration.

-- `tariff_keys` are the tariffs it names, each as country code, party id and folded id in one text. `growing` is the kind of
-- objects that publish_to adds to it, 0 for none.
CREATE TABLE publication_rule (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    rule_id text NOT NULL,
    priority integer NOT NULL,
    tariff_keys text[] NOT NULL,
    growing smallint NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (tenant_id, integration_id, rule_id),
    FOREIGN KEY (tenant_id, integration_id) REFERENCES integration ON DELETE CASCADE
);
CREATE INDEX publication_rule_order ON publication_rule (tenant_id, integration_id, priority, rule_id);
CREATE INDEX publication_rule_growing ON publication_rule (tenant_id, integration_id, growing) WHERE growing <> 0;
CREATE INDEX publication_rule_tariffs ON publication_rule USING gin (tariff_keys);
