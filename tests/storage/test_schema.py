"""The schema that people read is the one that databases have."""

import re
from pathlib import Path

import asyncpg

import service.storage
from tools.schema import SCHEMA, dump


async def test_the_schema_that_is_read_is_the_one_that_the_migrations_make(database_url: str) -> None:
    migrated = await dump(database_url)
    connection = await asyncpg.connect(database_url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.execute(SCHEMA.read_text(encoding="utf-8"))
    await connection.close()
    assert await dump(database_url) == migrated, "run `make schema` and look at the difference"


# Tables that are not swept, or not all of them, and what bounds them.
BOUNDED = {
    "access_token": "one of an integration",
    "api_key": "made by hand; a revoked one still says whose changes were whose",
    "charger": "what callers store, until they delete it",
    "evse": "goes with its location",
    "exchange_recording": "one of an integration",
    "gate_budget": "one of an integration and period",
    "gate_pause": "one of an integration and scope",
    "gate_slot": "one of an integration and request in flight",
    "heartbeat": "one row",
    "hub_client": "one of a hub, party and role, as long as the integration is there",
    "integration": "what callers store, until they delete it",
    "notified": "one of an object that its partner told us of, until it is read: 10,000 of an integration",
    "notified_due": "one of an integration",
    "marking": "one of an integration, kind and tariff, until all is marked",
    "partner_token": "the tokens of an integration that are valid; older ones go as newer ones are used",
    "party": "what callers store, until they delete it",
    "peer_object": "one of an object that the partner holds; it must be known there as long as the partner keeps it",
    "peer_part": "as peer_object",
    "publication_rule": "at most 100 of an integration",
    "pull": "one of an integration and kind",
    "pull_unseen": "at most what is held of the integration; empty after a whole reading",
    "read_object": "as read_page",
    "read_page": "of runs under way; go with their run, and when it ends",
    "received_document": "goes with the received object",
    "repaired_answer": "one of an integration and operation",
    "run_finding": "goes with its run",
    "schema_floor": "one row",
    "schema_migration": "one of a migration",
    "secret": "one of an integration and field",
    "tenant": "made by hand",
}


def test_every_table_is_swept_or_bounded() -> None:
    """A table that is new has to say which."""
    tables = {*re.findall(r"^CREATE TABLE (\w+)", SCHEMA.read_text(encoding="utf-8"), re.MULTILINE)}
    folder = Path(service.storage.__file__).parent
    sweeps = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.sql"))
    named = re.findall(r"^-- name: (?:retention_\w+|\w+_sweep)$(.*?)(?=^-- name|\Z)", sweeps, re.MULTILINE | re.DOTALL)
    swept = {table for text in named for table in re.findall(r"\bDELETE FROM (\w+)", text)}
    assert swept | BOUNDED.keys() == tables
