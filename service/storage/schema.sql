-- What the migrations make, to read and to compare. Written by `make schema`; nothing applies it.

CREATE FUNCTION command_changed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION delivery_changed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION integration_found() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO change (tenant_id, object_kind, object_id, operation, key_id, etag)
    VALUES (NEW.tenant_id, 2, NEW.integration_id, 'update', '', NEW.etag);
    RETURN NULL;
END
$$;

CREATE FUNCTION peer_object_from_part() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION peer_part_from_object() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE TABLE access_token (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    etag text NOT NULL,
    base_url text NOT NULL,
    sealed bytea NOT NULL,
    expire_time timestamp with time zone NOT NULL,
    ask_time timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL
);

CREATE TABLE api_key (
    tenant_id text NOT NULL,
    key_id text NOT NULL,
    name text NOT NULL,
    role smallint NOT NULL,
    digest bytea NOT NULL,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    revoke_time timestamp with time zone,
    services text[] DEFAULT '{}'::text[] NOT NULL,
    integrations text[] DEFAULT '{}'::text[] NOT NULL,
    calls_per_minute integer DEFAULT 0 NOT NULL,
    expire_time timestamp with time zone,
    use_time timestamp with time zone,
    CONSTRAINT api_key_role_check CHECK (((role >= 1) AND (role <= 3)))
);

CREATE TABLE audit_event (
    tenant_id text NOT NULL,
    event_id bigint NOT NULL,
    event_time timestamp with time zone NOT NULL,
    actor text NOT NULL,
    rpc text NOT NULL,
    object_id text NOT NULL,
    open boolean NOT NULL,
    digest bytea NOT NULL,
    payload bytea NOT NULL
);

CREATE SEQUENCE audit_event_id
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE audit_seal (
    tenant_id text NOT NULL,
    seal_id bigint NOT NULL,
    last_event_id bigint NOT NULL,
    event_count integer NOT NULL,
    events_hash bytea NOT NULL,
    previous bytea NOT NULL,
    digest bytea NOT NULL,
    anchor bytea,
    seal_time timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE cdr (
    tenant_id text NOT NULL,
    integration_id text DEFAULT ''::text NOT NULL,
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    currency text NOT NULL,
    session_key text NOT NULL,
    credited_key text NOT NULL,
    start_time timestamp with time zone NOT NULL,
    update_time timestamp with time zone NOT NULL,
    token_party text NOT NULL,
    token_key text NOT NULL,
    contract_key text NOT NULL,
    location_key text NOT NULL,
    recipient_id text NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    audit_state smallint DEFAULT 0 NOT NULL,
    audit_lease timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    audit_tariff text DEFAULT ''::text NOT NULL
);

CREATE TABLE change (
    tenant_id text NOT NULL,
    transaction_id xid8 DEFAULT pg_current_xact_id() NOT NULL,
    change_id bigint NOT NULL,
    object_kind smallint NOT NULL,
    object_id text NOT NULL,
    operation text NOT NULL,
    key_id text NOT NULL,
    etag text NOT NULL,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    integration_id text DEFAULT ''::text NOT NULL,
    CONSTRAINT change_operation_check CHECK ((operation = ANY (ARRAY['create'::text, 'update'::text, 'delete'::text])))
);

ALTER TABLE change ALTER COLUMN change_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME change_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE charger (
    tenant_id text NOT NULL,
    key text NOT NULL,
    site_id text NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL
);

CREATE TABLE command (
    tenant_id text NOT NULL,
    command_id uuid NOT NULL,
    integration_id text NOT NULL,
    "position" bigint NOT NULL,
    direction smallint NOT NULL,
    state smallint NOT NULL,
    payload bytea NOT NULL,
    response_url text NOT NULL,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    send_time timestamp with time zone,
    result_time timestamp with time zone
);

ALTER TABLE command ALTER COLUMN "position" ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME command_position_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE company (
    tenant_id text NOT NULL,
    company_id uuid NOT NULL,
    version integer NOT NULL,
    is_cpo boolean NOT NULL,
    is_emp boolean NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    delete_time timestamp with time zone
);

CREATE TABLE integration (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    type smallint NOT NULL,
    enabled boolean NOT NULL,
    status smallint NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    parties text[] DEFAULT '{}'::text[] NOT NULL,
    takes smallint[] DEFAULT '{}'::smallint[] NOT NULL,
    pause_time timestamp with time zone,
    pull_minutes integer DEFAULT 0 NOT NULL,
    pull_time timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    platform_integration_id text DEFAULT ''::text NOT NULL,
    platform_party text DEFAULT ''::text NOT NULL,
    token_parties text[] DEFAULT '{}'::text[] NOT NULL,
    delete_time timestamp with time zone,
    hub_clients jsonb DEFAULT '{}'::jsonb NOT NULL
);

CREATE VIEW deleted_integration AS
 SELECT tenant_id,
    integration_id
   FROM integration
  WHERE (delete_time IS NOT NULL);

CREATE TABLE delivery (
    tenant_id text NOT NULL,
    delivery_id uuid DEFAULT gen_random_uuid() NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    object_id text NOT NULL,
    state smallint DEFAULT 1 NOT NULL,
    generation bigint DEFAULT 1 NOT NULL,
    verify boolean DEFAULT false NOT NULL,
    overwrite boolean DEFAULT false NOT NULL,
    due_time timestamp with time zone DEFAULT now() NOT NULL,
    lease_token bigint DEFAULT 0 NOT NULL,
    lease_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    failed_attempts integer DEFAULT 0 NOT NULL,
    reason integer DEFAULT 0 NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    update_time timestamp with time zone DEFAULT now() NOT NULL,
    fail_time timestamp with time zone,
    pending_time timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE delivery_attempt (
    tenant_id text NOT NULL,
    delivery_id uuid NOT NULL,
    attempt_id bigint NOT NULL,
    start_time timestamp with time zone NOT NULL,
    duration interval NOT NULL,
    reason integer NOT NULL,
    description text NOT NULL,
    http_status integer NOT NULL,
    partner_code text NOT NULL,
    sent_version integer NOT NULL,
    integration_id text DEFAULT ''::text NOT NULL
);

ALTER TABLE delivery_attempt ALTER COLUMN attempt_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME delivery_attempt_attempt_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE gate_pause (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    failures integer NOT NULL,
    resume_time timestamp with time zone NOT NULL,
    scope smallint DEFAULT 0 NOT NULL,
    begin_time timestamp with time zone DEFAULT now() NOT NULL,
    outage_time timestamp with time zone
);

CREATE TABLE peer_object (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    object_id text NOT NULL,
    state smallint NOT NULL,
    external_id text DEFAULT ''::text NOT NULL,
    acknowledged_version integer DEFAULT 0 NOT NULL,
    acknowledged_hash bytea,
    acknowledge_time timestamp with time zone,
    sent_document bytea,
    tariff_keys text[] DEFAULT '{}'::text[] NOT NULL
);

CREATE VIEW delivery_whole AS
 SELECT d.tenant_id,
    d.delivery_id,
    d.integration_id,
    d.object_kind,
    d.object_id,
    d.state,
    d.reason,
    d.description,
    d.failed_attempts,
        CASE
            WHEN ((d.state = 1) AND (d.due_time < 'infinity'::timestamp with time zone)) THEN ( SELECT GREATEST(d.due_time, max(held.resume_time)) AS "greatest"
               FROM (integration i
                 LEFT JOIN gate_pause held USING (tenant_id, integration_id))
              WHERE ((i.tenant_id = d.tenant_id) AND (i.integration_id = d.integration_id) AND i.enabled AND (i.pause_time IS NULL))
              GROUP BY i.integration_id)
            ELSE NULL::timestamp with time zone
        END AS next_attempt_time,
    d.create_time,
    d.update_time,
    p.state AS peer_state,
    p.external_id,
    p.acknowledged_version,
    p.acknowledge_time
   FROM (delivery d
     LEFT JOIN peer_object p USING (tenant_id, integration_id, object_kind, object_id));

CREATE TABLE disclosure (
    tenant_id text NOT NULL,
    disclosure_id uuid DEFAULT gen_random_uuid() NOT NULL,
    "position" bigint NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    object_id text NOT NULL,
    method smallint NOT NULL,
    document_type text NOT NULL,
    hash bytea,
    first_time timestamp with time zone DEFAULT now() NOT NULL,
    latest_time timestamp with time zone DEFAULT now() NOT NULL,
    count integer DEFAULT 1 NOT NULL,
    reason smallint DEFAULT 0 NOT NULL,
    http_status smallint DEFAULT 0 NOT NULL,
    request_id text DEFAULT ''::text NOT NULL,
    correlation_id text DEFAULT ''::text NOT NULL
);

ALTER TABLE disclosure ALTER COLUMN "position" ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME disclosure_position_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE evse (
    tenant_id text NOT NULL,
    integration_id text DEFAULT ''::text NOT NULL,
    country_code text NOT NULL,
    party_id text NOT NULL,
    location_key text NOT NULL,
    key text NOT NULL,
    "position" integer NOT NULL,
    status smallint NOT NULL,
    status_time timestamp with time zone NOT NULL,
    last_updated timestamp with time zone NOT NULL,
    tariff_keys text[] NOT NULL,
    payload bytea NOT NULL
)
WITH (fillfactor='80');

CREATE TABLE exchange (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    exchange_id bigint NOT NULL,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    payload bytea NOT NULL
);

ALTER TABLE exchange ALTER COLUMN exchange_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME exchange_exchange_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE exchange_recording (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    end_time timestamp with time zone NOT NULL
);

CREATE TABLE gate_budget (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    period interval NOT NULL,
    used bigint NOT NULL,
    reset_time timestamp with time zone NOT NULL
);

CREATE TABLE gate_slot (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    slot smallint NOT NULL,
    holder uuid NOT NULL,
    lease_until timestamp with time zone NOT NULL
);

CREATE TABLE heartbeat (
    one boolean DEFAULT true NOT NULL,
    beat_time timestamp with time zone NOT NULL,
    ballast bytea,
    transaction_id xid8,
    CONSTRAINT heartbeat_one_check CHECK (one)
);
ALTER TABLE ONLY heartbeat ALTER COLUMN ballast SET STORAGE EXTERNAL;

CREATE TABLE hub_client (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    role smallint NOT NULL,
    status smallint NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL
);

CREATE TABLE idempotency (
    tenant_id text NOT NULL,
    method text NOT NULL,
    request_id uuid NOT NULL,
    digest bytea NOT NULL,
    answer bytea,
    create_time timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE invoice_reconciliation (
    tenant_id text NOT NULL,
    integration_id text DEFAULT ''::text NOT NULL,
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    invoice_key text NOT NULL,
    cdr_keys text[] NOT NULL,
    recipient_id text NOT NULL,
    update_time timestamp with time zone NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    delete_time timestamp with time zone
);

CREATE TABLE listener (
    tenant_id text NOT NULL,
    kind smallint NOT NULL,
    listener_id uuid NOT NULL,
    seen_time timestamp with time zone NOT NULL,
    integration_id text DEFAULT ''::text NOT NULL
);

CREATE TABLE location (
    tenant_id text NOT NULL,
    integration_id text DEFAULT ''::text NOT NULL,
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    latitude double precision NOT NULL,
    longitude double precision NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    last_updated timestamp with time zone NOT NULL,
    delete_time timestamp with time zone,
    origin_integration_id text DEFAULT ''::text NOT NULL
);

CREATE VIEW location_whole AS
 SELECT tenant_id,
    integration_id,
    country_code,
    party_id,
    key,
    latitude,
    longitude,
    (payload || COALESCE(( SELECT string_agg(e.payload, '\x'::bytea ORDER BY e."position") AS string_agg
           FROM evse e
          WHERE ((e.tenant_id = l.tenant_id) AND (e.integration_id = l.integration_id) AND (e.country_code = l.country_code) AND (e.party_id = l.party_id) AND (e.location_key = l.key))), '\x'::bytea)) AS payload,
    GREATEST(last_updated, ( SELECT max(e.last_updated) AS max
           FROM evse e
          WHERE ((e.tenant_id = l.tenant_id) AND (e.integration_id = l.integration_id) AND (e.country_code = l.country_code) AND (e.party_id = l.party_id) AND (e.location_key = l.key)))) AS last_updated,
    (octet_length(payload) + (COALESCE(( SELECT sum(octet_length(e.payload)) AS sum
           FROM evse e
          WHERE ((e.tenant_id = l.tenant_id) AND (e.integration_id = l.integration_id) AND (e.country_code = l.country_code) AND (e.party_id = l.party_id) AND (e.location_key = l.key))), (0)::bigint))::integer) AS size
   FROM location l
  WHERE (delete_time IS NULL);

CREATE TABLE marking (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    tariff text DEFAULT ''::text NOT NULL,
    redeliver boolean DEFAULT false NOT NULL,
    after text DEFAULT ''::text NOT NULL,
    slice_time timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE notified (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    external_id text NOT NULL,
    notify_time timestamp with time zone NOT NULL
);

CREATE TABLE notified_due (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    due_time timestamp with time zone,
    begin_time timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL
);

CREATE TABLE partner_document (
    tenant_id text NOT NULL,
    hash bytea NOT NULL,
    payload bytea NOT NULL
);

CREATE TABLE partner_object (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    "position" bigint NOT NULL,
    shown boolean NOT NULL,
    hash bytea,
    tariff_keys text[] NOT NULL,
    last_updated timestamp with time zone NOT NULL
);

ALTER TABLE partner_object ALTER COLUMN "position" ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME partner_object_position_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE partner_token (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    token_id bigint NOT NULL,
    initial boolean NOT NULL,
    confirmed boolean DEFAULT false NOT NULL,
    digest bytea NOT NULL,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    use_time timestamp with time zone,
    exchanges integer DEFAULT 0 NOT NULL
);

ALTER TABLE partner_token ALTER COLUMN token_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME partner_token_token_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE party (
    tenant_id text NOT NULL,
    country_code text NOT NULL,
    party_id text NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL
);

CREATE TABLE peer_part (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    object_id text NOT NULL,
    part_kind smallint NOT NULL,
    part_id text[] NOT NULL,
    state smallint NOT NULL,
    external_id text NOT NULL,
    acknowledge_time timestamp with time zone,
    sent_document bytea
);

CREATE TABLE publication_rule (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    rule_id text NOT NULL,
    priority integer NOT NULL,
    tariff_keys text[] NOT NULL,
    growing smallint NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    turn_time timestamp with time zone
);

CREATE TABLE pull (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    watermark timestamp with time zone,
    whole_time timestamp with time zone,
    run_id uuid NOT NULL,
    begin_time timestamp with time zone NOT NULL,
    whole boolean NOT NULL,
    next_link text DEFAULT ''::text,
    highest timestamp with time zone,
    complete boolean DEFAULT true NOT NULL,
    total bigint DEFAULT 0 NOT NULL,
    held bigint DEFAULT 0 NOT NULL,
    counts bigint[] DEFAULT '{}'::bigint[] NOT NULL,
    noted_link text DEFAULT ''::text NOT NULL
);

CREATE TABLE pull_unseen (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    object_id text NOT NULL
);

CREATE TABLE quarantine (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    key text NOT NULL,
    quarantine_id uuid DEFAULT gen_random_uuid() NOT NULL,
    "position" bigint NOT NULL,
    version text NOT NULL,
    run_id uuid NOT NULL,
    first_time timestamp with time zone DEFAULT now() NOT NULL,
    latest_time timestamp with time zone DEFAULT now() NOT NULL,
    count integer DEFAULT 1 NOT NULL,
    payload bytea NOT NULL,
    document text NOT NULL
);

ALTER TABLE quarantine ALTER COLUMN "position" ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME quarantine_position_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE question (
    tenant_id text NOT NULL,
    question_id uuid NOT NULL,
    kind smallint NOT NULL,
    payload bytea NOT NULL,
    answer bytea,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    expire_time timestamp with time zone NOT NULL,
    hand_time timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    integration_id text DEFAULT ''::text NOT NULL
);

CREATE TABLE read_object (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    list text NOT NULL,
    id bigint NOT NULL,
    payload bytea NOT NULL
);

CREATE TABLE read_page (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    list text NOT NULL,
    number integer NOT NULL,
    next_link text NOT NULL,
    payload bytea NOT NULL,
    rejects text NOT NULL
);

CREATE TABLE received_document (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    object_kind smallint NOT NULL,
    object_id text NOT NULL,
    part text NOT NULL,
    version text NOT NULL,
    last_updated timestamp with time zone NOT NULL,
    document text NOT NULL
);

CREATE TABLE repaired_answer (
    tenant_id text NOT NULL,
    integration_id text NOT NULL,
    operation text NOT NULL,
    answer_count bigint NOT NULL,
    value_count bigint NOT NULL,
    path text NOT NULL,
    description text NOT NULL,
    latest_time timestamp with time zone NOT NULL
);

CREATE TABLE run (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    integration_id text NOT NULL,
    kind smallint NOT NULL,
    state smallint DEFAULT 1 NOT NULL,
    key_id text NOT NULL,
    progress bytea DEFAULT '\x'::bytea NOT NULL,
    steps bytea DEFAULT '\x'::bytea NOT NULL,
    reason integer DEFAULT 0 NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    lease_token bigint DEFAULT 0 NOT NULL,
    lease_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    start_time timestamp with time zone,
    end_time timestamp with time zone,
    update_time timestamp with time zone DEFAULT now() NOT NULL,
    options bytea DEFAULT '\x'::bytea NOT NULL
);

CREATE TABLE run_finding (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    lease_token bigint NOT NULL,
    number integer NOT NULL,
    outcome smallint NOT NULL,
    payload bytea NOT NULL
);

CREATE TABLE schema_floor (
    one boolean DEFAULT true NOT NULL,
    name text NOT NULL,
    CONSTRAINT schema_floor_one_check CHECK (one)
);

CREATE TABLE schema_migration (
    name text NOT NULL,
    sha256 text NOT NULL,
    apply_time timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE secret (
    tenant_id text NOT NULL,
    resource text NOT NULL,
    field text NOT NULL,
    sealed bytea NOT NULL,
    update_time timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE session (
    tenant_id text NOT NULL,
    integration_id text DEFAULT ''::text NOT NULL,
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    status smallint NOT NULL,
    start_time timestamp with time zone NOT NULL,
    update_time timestamp with time zone NOT NULL,
    token_party text NOT NULL,
    token_key text NOT NULL,
    contract_key text NOT NULL,
    location_key text NOT NULL,
    recipient_id text NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL
);

CREATE TABLE tariff (
    tenant_id text NOT NULL,
    integration_id text DEFAULT ''::text NOT NULL,
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    type smallint NOT NULL,
    currency text NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    delete_time timestamp with time zone,
    origin_integration_id text DEFAULT ''::text NOT NULL,
    due_time timestamp with time zone DEFAULT '-infinity'::timestamp with time zone
);

CREATE TABLE tariff_revision (
    tenant_id text NOT NULL,
    integration_id text DEFAULT ''::text NOT NULL,
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    end_time timestamp with time zone NOT NULL,
    payload bytea NOT NULL
);

CREATE TABLE tenant (
    tenant_id text NOT NULL,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    change_floor xid8,
    export_id uuid,
    import_time timestamp with time zone,
    CONSTRAINT tenant_tenant_id_check CHECK ((tenant_id ~ '^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$'::text))
);

CREATE TABLE token (
    tenant_id text NOT NULL,
    integration_id text DEFAULT ''::text NOT NULL,
    country_code text NOT NULL,
    party_id text NOT NULL,
    key text NOT NULL,
    type smallint NOT NULL,
    contract_key text NOT NULL,
    group_key text NOT NULL,
    whitelist smallint NOT NULL,
    valid boolean NOT NULL,
    etag text NOT NULL,
    payload bytea NOT NULL,
    delete_time timestamp with time zone
);

ALTER TABLE ONLY access_token
    ADD CONSTRAINT access_token_pkey PRIMARY KEY (tenant_id, integration_id);

ALTER TABLE ONLY api_key
    ADD CONSTRAINT api_key_digest_key UNIQUE (digest);

ALTER TABLE ONLY api_key
    ADD CONSTRAINT api_key_pkey PRIMARY KEY (tenant_id, key_id);

ALTER TABLE ONLY audit_event
    ADD CONSTRAINT audit_event_pkey PRIMARY KEY (tenant_id, event_id);

ALTER TABLE ONLY audit_seal
    ADD CONSTRAINT audit_seal_pkey PRIMARY KEY (tenant_id, seal_id);

ALTER TABLE ONLY cdr
    ADD CONSTRAINT cdr_pkey PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key);

ALTER TABLE ONLY change
    ADD CONSTRAINT change_pkey PRIMARY KEY (tenant_id, transaction_id, change_id);

ALTER TABLE ONLY charger
    ADD CONSTRAINT charger_pkey PRIMARY KEY (tenant_id, key);

ALTER TABLE ONLY command
    ADD CONSTRAINT command_pkey PRIMARY KEY (tenant_id, command_id);

ALTER TABLE ONLY company
    ADD CONSTRAINT company_pkey PRIMARY KEY (tenant_id, company_id);

ALTER TABLE ONLY delivery_attempt
    ADD CONSTRAINT delivery_attempt_pkey PRIMARY KEY (tenant_id, delivery_id, attempt_id);

ALTER TABLE ONLY delivery
    ADD CONSTRAINT delivery_pkey PRIMARY KEY (tenant_id, delivery_id);

ALTER TABLE ONLY delivery
    ADD CONSTRAINT delivery_tenant_id_integration_id_object_kind_object_id_key UNIQUE (tenant_id, integration_id, object_kind, object_id);

ALTER TABLE ONLY disclosure
    ADD CONSTRAINT disclosure_pkey PRIMARY KEY (tenant_id, disclosure_id);

ALTER TABLE ONLY evse
    ADD CONSTRAINT evse_pkey PRIMARY KEY (tenant_id, integration_id, country_code, party_id, location_key, key);

ALTER TABLE ONLY exchange
    ADD CONSTRAINT exchange_pkey PRIMARY KEY (tenant_id, integration_id, exchange_id);

ALTER TABLE ONLY exchange_recording
    ADD CONSTRAINT exchange_recording_pkey PRIMARY KEY (tenant_id, integration_id);

ALTER TABLE ONLY gate_budget
    ADD CONSTRAINT gate_budget_pkey PRIMARY KEY (tenant_id, integration_id, period);

ALTER TABLE ONLY gate_pause
    ADD CONSTRAINT gate_pause_pkey PRIMARY KEY (tenant_id, integration_id, scope);

ALTER TABLE ONLY gate_slot
    ADD CONSTRAINT gate_slot_pkey PRIMARY KEY (tenant_id, integration_id, slot);

ALTER TABLE ONLY heartbeat
    ADD CONSTRAINT heartbeat_pkey PRIMARY KEY (one);

ALTER TABLE ONLY hub_client
    ADD CONSTRAINT hub_client_pkey PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key);

ALTER TABLE ONLY idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (tenant_id, method, request_id);

ALTER TABLE ONLY integration
    ADD CONSTRAINT integration_pkey PRIMARY KEY (tenant_id, integration_id);

ALTER TABLE ONLY invoice_reconciliation
    ADD CONSTRAINT invoice_reconciliation_pkey PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key);

ALTER TABLE ONLY listener
    ADD CONSTRAINT listener_pkey PRIMARY KEY (tenant_id, kind, listener_id);

ALTER TABLE ONLY location
    ADD CONSTRAINT location_pkey PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key);

ALTER TABLE ONLY marking
    ADD CONSTRAINT marking_pkey PRIMARY KEY (tenant_id, integration_id, object_kind, tariff);

ALTER TABLE ONLY notified_due
    ADD CONSTRAINT notified_due_pkey PRIMARY KEY (tenant_id, integration_id);

ALTER TABLE ONLY notified
    ADD CONSTRAINT notified_pkey PRIMARY KEY (tenant_id, integration_id, object_kind, external_id);

ALTER TABLE ONLY partner_document
    ADD CONSTRAINT partner_document_pkey PRIMARY KEY (tenant_id, hash);

ALTER TABLE ONLY partner_object
    ADD CONSTRAINT partner_object_pkey PRIMARY KEY (tenant_id, integration_id, object_kind, country_code, party_id, key);

ALTER TABLE ONLY partner_token
    ADD CONSTRAINT partner_token_pkey PRIMARY KEY (tenant_id, integration_id, token_id);

ALTER TABLE ONLY party
    ADD CONSTRAINT party_pkey PRIMARY KEY (tenant_id, country_code, party_id);

ALTER TABLE ONLY peer_object
    ADD CONSTRAINT peer_object_pkey PRIMARY KEY (tenant_id, integration_id, object_kind, object_id);

ALTER TABLE ONLY peer_part
    ADD CONSTRAINT peer_part_pkey PRIMARY KEY (tenant_id, integration_id, object_kind, object_id, part_kind, part_id);

ALTER TABLE ONLY publication_rule
    ADD CONSTRAINT publication_rule_pkey PRIMARY KEY (tenant_id, integration_id, rule_id);

ALTER TABLE ONLY pull
    ADD CONSTRAINT pull_pkey PRIMARY KEY (tenant_id, integration_id, object_kind);

ALTER TABLE ONLY pull_unseen
    ADD CONSTRAINT pull_unseen_pkey PRIMARY KEY (tenant_id, integration_id, object_kind, object_id);

ALTER TABLE ONLY quarantine
    ADD CONSTRAINT quarantine_pkey PRIMARY KEY (tenant_id, integration_id, object_kind, key);

ALTER TABLE ONLY quarantine
    ADD CONSTRAINT quarantine_tenant_id_quarantine_id_key UNIQUE (tenant_id, quarantine_id);

ALTER TABLE ONLY question
    ADD CONSTRAINT question_pkey PRIMARY KEY (tenant_id, question_id);

ALTER TABLE ONLY read_object
    ADD CONSTRAINT read_object_pkey PRIMARY KEY (tenant_id, run_id, list, id);

ALTER TABLE ONLY read_page
    ADD CONSTRAINT read_page_pkey PRIMARY KEY (tenant_id, run_id, list, number);

ALTER TABLE ONLY received_document
    ADD CONSTRAINT received_document_pkey PRIMARY KEY (tenant_id, integration_id, object_kind, object_id, part);

ALTER TABLE ONLY repaired_answer
    ADD CONSTRAINT repaired_answer_pkey PRIMARY KEY (tenant_id, integration_id, operation);

ALTER TABLE ONLY run_finding
    ADD CONSTRAINT run_finding_pkey PRIMARY KEY (tenant_id, run_id, lease_token, number);

ALTER TABLE ONLY run
    ADD CONSTRAINT run_pkey PRIMARY KEY (tenant_id, run_id);

ALTER TABLE ONLY schema_floor
    ADD CONSTRAINT schema_floor_pkey PRIMARY KEY (one);

ALTER TABLE ONLY schema_migration
    ADD CONSTRAINT schema_migration_pkey PRIMARY KEY (name);

ALTER TABLE ONLY secret
    ADD CONSTRAINT secret_pkey PRIMARY KEY (tenant_id, resource, field);

ALTER TABLE ONLY session
    ADD CONSTRAINT session_pkey PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key);

ALTER TABLE ONLY tariff
    ADD CONSTRAINT tariff_pkey PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key);

ALTER TABLE ONLY tariff_revision
    ADD CONSTRAINT tariff_revision_pkey PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key, end_time);

ALTER TABLE ONLY tenant
    ADD CONSTRAINT tenant_pkey PRIMARY KEY (tenant_id);

ALTER TABLE ONLY token
    ADD CONSTRAINT token_pkey PRIMARY KEY (tenant_id, integration_id, country_code, party_id, key);

CREATE INDEX audit_event_object ON audit_event USING btree (tenant_id, object_id, event_time, event_id) WHERE (object_id <> ''::text);

CREATE INDEX audit_event_open ON audit_event USING btree (tenant_id, event_time) WHERE open;

CREATE INDEX audit_event_page ON audit_event USING btree (tenant_id, event_time, event_id);

CREATE INDEX cdr_age ON cdr USING btree (update_time);

CREATE INDEX cdr_audit_due ON cdr USING btree (audit_lease) WHERE (audit_state = 1);

CREATE INDEX cdr_audited ON cdr USING btree (tenant_id, integration_id, audit_state, start_time) WHERE (audit_state <> 0);

CREATE INDEX cdr_contract ON cdr USING btree (tenant_id, contract_key);

CREATE INDEX cdr_credited ON cdr USING btree (tenant_id, integration_id, country_code, party_id, credited_key) WHERE (credited_key <> ''::text);

CREATE INDEX cdr_page ON cdr USING btree (tenant_id, integration_id, start_time, country_code, party_id, key);

CREATE INDEX cdr_personal ON cdr USING btree (update_time) WHERE (contract_key !~~ 'erased-%'::text);

CREATE INDEX cdr_session ON cdr USING btree (tenant_id, integration_id, session_key);

CREATE INDEX cdr_token ON cdr USING btree (tenant_id, integration_id, token_party);

CREATE INDEX cdr_token_named ON cdr USING btree (tenant_id, token_party, token_key);

CREATE INDEX cdr_updated ON cdr USING btree (tenant_id, integration_id, update_time);

CREATE INDEX cdr_wants_tariff ON cdr USING btree (tenant_id, integration_id, audit_tariff) WHERE ((audit_state = 4) AND (audit_tariff <> ''::text));

CREATE INDEX change_age ON change USING btree (create_time);

CREATE INDEX charger_site ON charger USING btree (tenant_id, site_id, key);

CREATE INDEX command_due ON command USING btree (send_time) WHERE (send_time IS NOT NULL);

CREATE INDEX command_newest ON command USING btree (tenant_id, "position");

CREATE INDEX delivery_attempt_age ON delivery_attempt USING btree (start_time);

CREATE INDEX delivery_attempt_recent ON delivery_attempt USING btree (tenant_id, integration_id, start_time);

CREATE INDEX delivery_failing ON delivery USING btree (tenant_id, integration_id, fail_time) WHERE (fail_time IS NOT NULL);

CREATE INDEX delivery_lacking ON delivery USING btree (tenant_id, integration_id, pending_time) WHERE (state = ANY (ARRAY[1, 2]));

CREATE INDEX delivery_next ON delivery USING btree (tenant_id, integration_id, due_time, object_kind, object_id) WHERE (state = ANY (ARRAY[1, 2]));

CREATE INDEX delivery_state ON delivery USING btree (tenant_id, integration_id, state, delivery_id);

CREATE INDEX disclosure_age ON disclosure USING btree (latest_time);

CREATE INDEX disclosure_document ON disclosure USING btree (tenant_id, hash);

CREATE INDEX disclosure_object ON disclosure USING btree (tenant_id, integration_id, object_id, "position");

CREATE INDEX disclosure_page ON disclosure USING btree (tenant_id, integration_id, "position");

CREATE INDEX evse_tariffs ON evse USING gin (tariff_keys);

CREATE INDEX exchange_age ON exchange USING btree (create_time);

CREATE INDEX idempotency_age ON idempotency USING btree (create_time);

CREATE INDEX integration_behind ON integration USING btree (tenant_id, platform_integration_id, platform_party) WHERE (platform_integration_id <> ''::text);

CREATE INDEX integration_hub_client ON integration USING gin (hub_clients) WITH (fastupdate=off);

CREATE INDEX integration_pulled ON integration USING btree (pull_time) WHERE (pull_minutes > 0);

CREATE INDEX integration_tombstone ON integration USING btree (delete_time) WHERE (delete_time IS NOT NULL);

CREATE INDEX invoice_reconciliation_age ON invoice_reconciliation USING btree (update_time);

CREATE INDEX invoice_reconciliation_cdrs ON invoice_reconciliation USING gin (cdr_keys);

CREATE INDEX invoice_reconciliation_invoice ON invoice_reconciliation USING btree (tenant_id, invoice_key);

CREATE INDEX invoice_reconciliation_tombstones ON invoice_reconciliation USING btree (delete_time) WHERE (delete_time IS NOT NULL);

CREATE INDEX location_origin ON location USING btree (tenant_id, origin_integration_id, country_code, party_id, key) WHERE (origin_integration_id <> ''::text);

CREATE INDEX location_point ON location USING gist (point(longitude, latitude)) WHERE (delete_time IS NULL);

CREATE INDEX marking_slice ON marking USING btree (slice_time);

CREATE INDEX notified_due_time ON notified_due USING btree (due_time) WHERE (due_time IS NOT NULL);

CREATE INDEX partner_object_age ON partner_object USING btree (last_updated) WHERE (NOT shown);

CREATE INDEX partner_object_document ON partner_object USING btree (tenant_id, hash);

CREATE INDEX partner_object_page ON partner_object USING btree (tenant_id, integration_id, object_kind, "position") WHERE (hash IS NOT NULL);

CREATE INDEX partner_object_updated ON partner_object USING btree (tenant_id, integration_id, object_kind, last_updated) WHERE (hash IS NOT NULL);

CREATE UNIQUE INDEX partner_token_digest ON partner_token USING btree (digest);

CREATE INDEX peer_object_cdr_url ON peer_object USING btree (tenant_id, external_id) WHERE ((object_kind = 12) AND (external_id <> ''::text));

CREATE INDEX peer_object_parts ON peer_object USING btree (tenant_id, integration_id, split_part(object_id, '	'::text, 1)) WHERE (strpos(object_id, '	'::text) > 0);

CREATE INDEX peer_object_tariffs ON peer_object USING gin (tariff_keys) WHERE (tariff_keys <> '{}'::text[]);

CREATE INDEX peer_part_external_id ON peer_part USING btree (tenant_id, integration_id, part_kind, external_id);

CREATE INDEX publication_rule_growing ON publication_rule USING btree (tenant_id, integration_id, growing) WHERE (growing <> 0);

CREATE INDEX publication_rule_order ON publication_rule USING btree (tenant_id, integration_id, priority, rule_id);

CREATE INDEX publication_rule_tariffs ON publication_rule USING gin (tariff_keys);

CREATE INDEX publication_rule_turns ON publication_rule USING btree (turn_time) WHERE (turn_time IS NOT NULL);

CREATE INDEX quarantine_age ON quarantine USING btree (latest_time);

CREATE INDEX quarantine_page ON quarantine USING btree (tenant_id, integration_id, "position");

CREATE INDEX question_open ON question USING btree (tenant_id, kind, create_time) WHERE (answer IS NULL);

CREATE INDEX run_age ON run USING btree (end_time);

CREATE INDEX run_integration ON run USING btree (tenant_id, integration_id, run_id);

CREATE UNIQUE INDEX run_under_way ON run USING btree (tenant_id, integration_id, kind) WHERE (state = ANY (ARRAY[1, 2, 3]));

CREATE INDEX session_age ON session USING btree (update_time);

CREATE INDEX session_contract ON session USING btree (tenant_id, contract_key);

CREATE INDEX session_page ON session USING btree (tenant_id, integration_id, start_time, country_code, party_id, key);

CREATE INDEX session_personal ON session USING btree (update_time) WHERE (contract_key !~~ 'erased-%'::text);

CREATE INDEX session_token ON session USING btree (tenant_id, integration_id, token_party);

CREATE INDEX session_token_named ON session USING btree (tenant_id, token_party, token_key);

CREATE INDEX session_updated ON session USING btree (tenant_id, integration_id, update_time);

CREATE INDEX tariff_due ON tariff USING btree (due_time) WHERE ((integration_id = ''::text) AND (delete_time IS NULL) AND (due_time IS NOT NULL));

CREATE INDEX tariff_revision_age ON tariff_revision USING btree (end_time);

CREATE INDEX token_contract ON token USING btree (tenant_id, contract_key);

CREATE INDEX token_named ON token USING btree (tenant_id, key);

CREATE TRIGGER command_changed AFTER UPDATE ON command FOR EACH ROW WHEN ((new.payload <> old.payload)) EXECUTE FUNCTION command_changed();

CREATE TRIGGER command_made AFTER INSERT OR DELETE ON command FOR EACH ROW EXECUTE FUNCTION command_changed();

CREATE TRIGGER delivery_changed AFTER UPDATE ON delivery FOR EACH ROW WHEN (((new.state <> old.state) AND (new.state <> 2))) EXECUTE FUNCTION delivery_changed();

CREATE TRIGGER delivery_made AFTER INSERT OR DELETE ON delivery FOR EACH ROW EXECUTE FUNCTION delivery_changed();

CREATE TRIGGER integration_found AFTER UPDATE ON integration FOR EACH ROW WHEN (((new.payload <> old.payload) AND (new.etag = old.etag))) EXECUTE FUNCTION integration_found();

CREATE TRIGGER peer_object_from_part AFTER INSERT OR UPDATE ON peer_part FOR EACH ROW WHEN ((pg_trigger_depth() = 0)) EXECUTE FUNCTION peer_object_from_part();

CREATE TRIGGER peer_part_from_object AFTER INSERT OR UPDATE ON peer_object FOR EACH ROW WHEN (((strpos(new.object_id, '	'::text) > 0) AND (pg_trigger_depth() = 0))) EXECUTE FUNCTION peer_part_from_object();

ALTER TABLE ONLY access_token
    ADD CONSTRAINT access_token_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY api_key
    ADD CONSTRAINT api_key_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY cdr
    ADD CONSTRAINT cdr_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY charger
    ADD CONSTRAINT charger_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY command
    ADD CONSTRAINT command_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY command
    ADD CONSTRAINT command_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY company
    ADD CONSTRAINT company_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY delivery_attempt
    ADD CONSTRAINT delivery_attempt_tenant_id_delivery_id_fkey FOREIGN KEY (tenant_id, delivery_id) REFERENCES delivery(tenant_id, delivery_id) ON DELETE CASCADE;

ALTER TABLE ONLY delivery
    ADD CONSTRAINT delivery_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY disclosure
    ADD CONSTRAINT disclosure_tenant_id_hash_fkey FOREIGN KEY (tenant_id, hash) REFERENCES partner_document(tenant_id, hash);

ALTER TABLE ONLY disclosure
    ADD CONSTRAINT disclosure_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY evse
    ADD CONSTRAINT evse_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY evse
    ADD CONSTRAINT evse_tenant_id_integration_id_country_code_party_id_locati_fkey FOREIGN KEY (tenant_id, integration_id, country_code, party_id, location_key) REFERENCES location(tenant_id, integration_id, country_code, party_id, key) ON DELETE CASCADE;

ALTER TABLE ONLY exchange_recording
    ADD CONSTRAINT exchange_recording_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY exchange
    ADD CONSTRAINT exchange_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY gate_budget
    ADD CONSTRAINT gate_budget_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY gate_pause
    ADD CONSTRAINT gate_pause_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY gate_slot
    ADD CONSTRAINT gate_slot_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY hub_client
    ADD CONSTRAINT hub_client_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY idempotency
    ADD CONSTRAINT idempotency_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY integration
    ADD CONSTRAINT integration_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY invoice_reconciliation
    ADD CONSTRAINT invoice_reconciliation_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY listener
    ADD CONSTRAINT listener_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY location
    ADD CONSTRAINT location_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY marking
    ADD CONSTRAINT marking_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY notified_due
    ADD CONSTRAINT notified_due_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY notified
    ADD CONSTRAINT notified_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY partner_object
    ADD CONSTRAINT partner_object_tenant_id_hash_fkey FOREIGN KEY (tenant_id, hash) REFERENCES partner_document(tenant_id, hash);

ALTER TABLE ONLY partner_object
    ADD CONSTRAINT partner_object_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY partner_token
    ADD CONSTRAINT partner_token_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY party
    ADD CONSTRAINT party_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY peer_object
    ADD CONSTRAINT peer_object_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY peer_part
    ADD CONSTRAINT peer_part_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY publication_rule
    ADD CONSTRAINT publication_rule_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY pull
    ADD CONSTRAINT pull_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY pull_unseen
    ADD CONSTRAINT pull_unseen_tenant_id_integration_id_object_kind_fkey FOREIGN KEY (tenant_id, integration_id, object_kind) REFERENCES pull(tenant_id, integration_id, object_kind) ON DELETE CASCADE;

ALTER TABLE ONLY quarantine
    ADD CONSTRAINT quarantine_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY question
    ADD CONSTRAINT question_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY read_object
    ADD CONSTRAINT read_object_tenant_id_run_id_fkey FOREIGN KEY (tenant_id, run_id) REFERENCES run(tenant_id, run_id) ON DELETE CASCADE;

ALTER TABLE ONLY read_page
    ADD CONSTRAINT read_page_tenant_id_run_id_fkey FOREIGN KEY (tenant_id, run_id) REFERENCES run(tenant_id, run_id) ON DELETE CASCADE;

ALTER TABLE ONLY received_document
    ADD CONSTRAINT received_document_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY repaired_answer
    ADD CONSTRAINT repaired_answer_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY run_finding
    ADD CONSTRAINT run_finding_tenant_id_run_id_fkey FOREIGN KEY (tenant_id, run_id) REFERENCES run(tenant_id, run_id) ON DELETE CASCADE;

ALTER TABLE ONLY run
    ADD CONSTRAINT run_tenant_id_integration_id_fkey FOREIGN KEY (tenant_id, integration_id) REFERENCES integration(tenant_id, integration_id) ON DELETE CASCADE;

ALTER TABLE ONLY secret
    ADD CONSTRAINT secret_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY session
    ADD CONSTRAINT session_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY tariff_revision
    ADD CONSTRAINT tariff_revision_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY tariff
    ADD CONSTRAINT tariff_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);

ALTER TABLE ONLY token
    ADD CONSTRAINT token_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id);
