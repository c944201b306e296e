"""All SQL against the migrated schema: it prepares, it binds the tenant, and it finds its rows by an index."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from service.storage.statements import Statement, all_statements

STATEMENTS = all_statements()
_EXEMPT = re.compile(r"^-- tenant: any, because \w", re.MULTILINE)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


async def test_every_statement_prepares_against_the_schema(connection: asyncpg.Connection) -> None:
    for statement in STATEMENTS:
        try:
            await connection.prepare(statement.text)
        except asyncpg.PostgresError as error:
            error.add_note(statement.name)
            raise


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.name)
def test_every_statement_binds_the_tenant_or_says_why_not(statement: Statement) -> None:
    assert "tenant_id" in statement.text or _EXEMPT.search(statement.text)
    if not _EXEMPT.search(statement.text):
        assert re.search(r"tenant_id = \$1|\(tenant_id.*VALUES \(\$1|SELECT \$1,", statement.text, re.DOTALL)


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.name)
def test_no_statement_selects_a_star(statement: Statement) -> None:
    assert not re.search(r"SELECT\s+(\w+\.)?\*", statement.text, re.IGNORECASE)


async def test_every_key_begins_with_the_tenant(connection: asyncpg.Connection) -> None:
    keys = await connection.fetch(
        """
        SELECT c.conrelid::regclass::text AS table_name, a.attname AS first_column
        FROM pg_constraint AS c JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
        WHERE c.contype = 'p' AND c.connamespace = 'public'::regnamespace
        """
    )
    without = {row["table_name"] for row in keys if row["first_column"] != "tenant_id"}
    assert without == {"heartbeat", "schema_floor", "schema_migration"}


HOT = [
    "company_get",
    "company_page",
    "delivery_claim",
    "peer_parts",
    "view_get",
    "view_look",
    "view_put",
    "peer_delivered",
    "disclosure_sending",
    "integration_target",
    "view_page",
    "view_count",
    "api_key_find",
    "gate_slot_take",
    "gate_slot_give",
    "gate_budget_take",
    "exchange_insert",
    "exchange_page",
    "integration_get",
    "access_token_get",
    "tariff_hold",
    "tariff_at",
    "tariff_locations",
    "tariff_rules",
    "location_get",
    "location_get_many",
    "location_page",
    "location_known",
    "location_imported",
    "location_naming",
    "location_near",
    "location_box",
    "location_lock",
    "location_replace",
    "tariff_replace",
    "tariff_keep",
    "evse_forget",
    "evse_lock",
    "evse_lock_each",
    "evse_report",
    "evse_put",
    "charger_get",
    "charger_page",
    "charger_lock_site",
    "run_get",
    "run_page",
    "run_claim",
    "publication_rules_now",
    "publication_rule_growing",
    "publication_rule_page",
]


@pytest.mark.parametrize("name", HOT)
async def test_a_hot_statement_reads_no_whole_table(name: str, connection: asyncpg.Connection) -> None:
    plan = await _plan(connection, name, "SET LOCAL enable_seqscan = off")
    assert "Seq Scan" not in plan, plan


@pytest.mark.parametrize("name", ["location_near", "location_box"])
async def test_a_search_looks_in_the_index_of_points(name: str, connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        INSERT INTO tenant VALUES ('acme');
        INSERT INTO location (
            tenant_id, country_code, party_id, key, latitude, longitude, etag, payload, last_updated
        )
        SELECT 'acme', 'DE', 'ABC', n, 47 + n % 50 * 0.1, 6 + n / 50 * 0.1, '', '', now()
        FROM generate_series(1, 3000) AS n;
        ANALYZE location
        """
    )
    plan = await _plan(connection, name)
    assert re.search("Index Scan (on|using) location_point", plan), plan
    assert "Seq Scan" not in plan, plan


async def test_what_a_later_commit_vouches_for_waits_for_no_disk_and_all_else_does(
    connection: asyncpg.Connection,
) -> None:
    """See decisions 136 and 141. The setting ends with the statement's transaction."""
    hasty = [each.name for each in STATEMENTS if "synchronous_commit', 'off'" in each.text]
    text = {each.name: each.text for each in STATEMENTS}
    question, holder, a_minute = uuid4(), uuid4(), timedelta(minutes=1)
    await connection.execute(
        """
        INSERT INTO tenant VALUES ('acme');
        INSERT INTO integration (tenant_id, integration_id, type, enabled, status, etag, payload)
        VALUES ('acme', 'cp', 1, true, 2, '', '');
        INSERT INTO delivery (tenant_id, integration_id, object_kind, object_id, state)
        VALUES ('acme', 'cp', 12, 'DEABC1', 1);
        SET synchronous_commit = on
        """
    )
    claim = await connection.fetchrow(text["delivery_claim"], "acme", "cp", a_minute)
    fence = (claim["delivery_id"], claim["lease_token"])
    peer, document = ("acme", "cp", 12, "DEABC1"), (b"hash", b"payload")
    held = ("", 0, None, b"", [])
    sending = (text["disclosure_sending"], *peer, *fence, a_minute, *held, 12, "DEABC1", "Cdr", *document, 0)
    disclosure = await connection.fetchval(*sending)
    calls: dict[str, tuple[Any, ...]] = {
        "listener_seen": ("acme", 1, uuid4(), ""),
        "question_ask": ("acme", question, 1, "cp", b"", a_minute, a_minute),
        "question_take": ("acme", 1, timedelta(0), 1, ""),
        "question_answer": ("acme", question, 1, b"yes"),
        "delivery_renew": ("acme", *fence, a_minute),
        "view_put": ("acme", "cp", *fence, 12, "DE", "ABC", "1", True, b"hash", [], True, b"payload"),
        "gate_slot_take": ("acme", "cp", 1, holder, a_minute, 3),
        "gate_slot_give": ("acme", "cp", holder),
        "disclosure_end": ("acme", disclosure, 0, 201),
        "peer_delivered": (*peer, *fence, 1, None, True, *held, timedelta(0), "", 1),
    }
    assert {*hasty} < {*calls}
    for name, arguments in calls.items():
        async with connection.transaction():
            status = await connection.execute(text[name], *arguments)
            during = await connection.fetchval("SHOW synchronous_commit")
        assert (status[-1], during) == ("1", "off" if name in hasty else "on"), name
        assert await connection.fetchval("SHOW synchronous_commit") == "on"


async def test_one_due_delivery_is_enough_to_know_that_something_waits(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        INSERT INTO tenant VALUES ('acme');
        INSERT INTO integration (tenant_id, integration_id, type, enabled, status, etag, payload)
        VALUES ('acme', 'cp', 1, true, 2, '', '');
        INSERT INTO delivery (tenant_id, integration_id, object_kind, object_id, state, due_time)
        SELECT 'acme', 'cp', 5, n, 1, now() FROM generate_series(1, 3000) AS n;
        ANALYZE delivery
        """
    )
    plan = await _plan(connection, "delivery_waiting")
    assert re.search("Limit.*\n *->  Index Scan using delivery_next", plan), plan


async def test_how_a_party_is_connected_is_not_looked_for_in_every_integration(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        INSERT INTO tenant VALUES ('acme');
        INSERT INTO integration (tenant_id, integration_id, type, enabled, status, etag, payload, parties, hub_clients)
        SELECT 'acme', n, 1, true, 2, '', '', '{NLHUB}', jsonb_build_object('DE' || n || 'CPO', 1)
        FROM generate_series(1, 1000) AS n;
        ANALYZE integration
        """
    )
    plan = await _plan(connection, "hub_client_statuses")
    assert "Bitmap Index Scan on integration_hub_client" in plan, plan


BY_KEYS = [
    "location_get_many",
    "location_known",
    "location_lock",
    "location_replace",
    "tariff_replace",
    "tariff_keep",
    "evse_forget",
    "evse_lock",
    "evse_lock_each",
    "evse_report",
    "evse_put",
    "tariff_get_many",
    "tariff_hold",
    "tariff_lock",
]


@pytest.mark.parametrize("name", BY_KEYS)
async def test_what_many_keys_name_is_found_by_its_key_in_a_table_that_was_never_analysed(
    name: str, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        """
        INSERT INTO tenant VALUES ('acme');
        INSERT INTO tariff (tenant_id, country_code, party_id, key, type, currency, etag, payload)
        SELECT 'acme', 'DE', 'ABC', n, 0, 'EUR', '', '' FROM generate_series(1, 3000) AS n;
        INSERT INTO location (
            tenant_id, country_code, party_id, key, latitude, longitude, etag, payload, last_updated
        )
        SELECT 'acme', 'DE', 'ABC', n, 0, 0, '', '', now() FROM generate_series(1, 3000) AS n;
        INSERT INTO evse (
            tenant_id, country_code, party_id, location_key, key, position, status, status_time, last_updated,
            tariff_keys, payload
        )
        SELECT 'acme', 'DE', 'ABC', n, '1', 0, 1, now(), now(), '{}', '' FROM generate_series(1, 3000) AS n
        """
    )
    plan = await _plan(connection, name)
    assert not re.search("(Seq|Bitmap Heap) Scan|Merge|Hash", plan), plan
    # Every row by what is wanted: a plan that reads all rows of the tenant has a shorter condition, and filters.
    conditions = re.findall(r"Index Cond: .*= \w+\.(?:location_)?key\)", plan)
    indexes = plan.count("_pkey") - plan.count(" integration_pkey ")  # by which a deleted integration is found
    assert "Conflict Arbiter Indexes: evse_pkey" in plan or len(conditions) == indexes, plan


async def _plan(connection: asyncpg.Connection, name: str, *settings: str) -> str:
    """As it is made for any arguments."""
    statement = next(statement for statement in STATEMENTS if statement.name == name)
    prepared = await connection.prepare(statement.text)
    nulls = ", ".join(["NULL"] * len(prepared.get_parameters()))
    arguments = f"({nulls})" if nulls else ""
    async with connection.transaction():
        await connection.execute("; ".join(["SET LOCAL plan_cache_mode = force_generic_plan", *settings]))
        await connection.execute(f"PREPARE hot AS {statement.text}")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE hot{arguments}"))
        await connection.execute("DEALLOCATE hot")
    return plan
