"""`evbridge doctor` as a command: what it finds, what it says to do, and its exit status."""

import json
import os
import re
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import grpc
import pytest
from evbridge.v1.company_pb2 import UpsertCompanyRequest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from evbridge.v1.party_pb2 import CreatePartyRequest

from service.app import Evbridge, evbridge
from service.resources.audit import Sealer, chain_verified
from service.storage.statements import Statement
from tests.conftest import Tenant, created, tenant_of
from tests.front_door import a_company, a_party, an_integration, command, data_directory, environment, settings
from tests.postgres import Server

TAMPERED = Statement("tampering", "UPDATE audit_event SET actor = 'somebody' WHERE tenant_id = $1")
LATE = Statement("late", "UPDATE delivery SET due_time = due_time - interval '6 minutes' WHERE tenant_id = $1")
SKIPPED = {"settings.public-url", "tls.certificates", "database.pgbouncer"}
TOLD_OF_TESTS = {
    *("settings.public-url", "settings.egress", "keys.secrets"),
    *([] if os.environ.get("EVBRIDGE_TEST_DATABASE_URL") else ["database.durability"]),
}


@pytest.fixture(scope="module")
async def audited(postgres: str, template_database: str) -> AsyncIterator[tuple[Evbridge, Tenant, dict[str, str]]]:
    """A server that delivers nothing by itself, a tenant whose only event is sealed, and a command's variables."""
    async with (
        created(postgres, template_database) as url,
        evbridge(settings(url, delivery=False)) as started,
        grpc.aio.insecure_channel(started.address) as channel,
    ):
        tenant = await tenant_of(started, channel)
        await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
        sealer = Sealer(started.database, started.keyring)
        while (await chain_verified(started.database, started.keyring, tenant.name)).unsealed:
            await sealer.due()
        yield started, tenant, environment(url)


async def examined(environ: dict[str, str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status, and what was found by check."""
    ended = await command(environ, "doctor", "--json")
    return ended.code, {each["check"]: each for each in json.loads(ended.out)}


@pytest.fixture(scope="module")
async def embedded() -> AsyncIterator[tuple[Server, dict[str, str]]]:
    """A database that keeps what it acknowledges, and the variables of a process that works on it."""
    with data_directory() as directory:
        server = Server(directory / "postgres")
        changes = {"SECRETS_KEYS": "", "OCPI_LISTEN": "", "EGRESS_ALLOW_LOOPBACK": "", "EGRESS_ALLOW_HTTP": ""}
        environ = environment("", **{**changes, "DATA_DIR": str(directory)})
        environ = {name: text for name, text in environ.items() if text}
        try:
            await server.start()
            assert (await command(environ, "keys", "create", "--tenant", "acme", "--role", "reader")).code == 0
            yield server, environ
        finally:
            await server.stop()


async def test_a_healthy_server_has_nothing_to_do(embedded: tuple[Server, dict[str, str]]) -> None:
    code, found = await examined(embedded[1])
    assert [each for each in found.values() if each["outcome"] not in ("PASS", "SKIPPED")] == []
    assert {id for id, each in found.items() if each["outcome"] == "SKIPPED"} == SKIPPED
    assert code == 0


async def test_an_api_key_that_ends_soon_is_a_warning(embedded: tuple[Server, dict[str, str]]) -> None:
    _, environ = embedded
    ends = f"{datetime.now(UTC) + timedelta(days=9):%Y-%m-%d}"
    made = await command(environ, "keys", "create", "--tenant", "acme", "--role", "reader", "--expires", ends)
    id = made.out.split("_")[1]
    code, found = await examined(environ)
    assert found["keys.api"]["seen"] == f"{id} of acme ends {ends} 00:00 UTC"
    assert (found["keys.api"]["outcome"], code) == ("WARN", 0)
    await command(environ, "keys", "revoke", "--tenant", "acme", id)
    assert (await examined(environ))[1]["keys.api"]["outcome"] == "PASS"


@pytest.mark.parametrize(
    ("setting", "outcome", "seen"),
    [
        ("synchronous_commit = off", "WARN", "acknowledged in the last moment before a crash is lost"),
        ("synchronous_standby_names = '*'", "FAIL", r"every write waits for standbys \(\*\), and none is there"),
    ],
)
async def test_a_database_that_loses_or_holds_up_writes_is_found(
    embedded: tuple[Server, dict[str, str]], setting: str, outcome: str, seen: str
) -> None:
    server, environ = embedded
    await server.run(f"ALTER SYSTEM SET {setting}", "SELECT pg_reload_conf()")
    try:
        code, found = await examined(environ)
    finally:
        await server.run(f"ALTER SYSTEM RESET {setting.split()[0]}", "SELECT pg_reload_conf()")
    assert found["database.durability"]["outcome"] == outcome
    assert re.search(seen, found["database.durability"]["seen"])
    assert code == (outcome == "FAIL")


async def test_a_tampered_audit_chain_is_found(audited: tuple[Evbridge, Tenant, dict[str, str]]) -> None:
    server, tenant, environ = audited
    code, found = await examined(environ)
    assert code == 0
    assert {id for id, each in found.items() if each["outcome"] == "WARN"} == TOLD_OF_TESTS
    for id in ("database.server", "database.migrations", "work.parked", "audit.chain", "audit.unsealed"):
        assert found[id]["outcome"] == "PASS", found[id]
    await server.database.run(TAMPERED, tenant.name)
    code, found = await examined(environ)
    assert code == 1
    assert {id for id, each in found.items() if each["outcome"] == "FAIL"} == {"audit.chain"}
    assert re.search(f"{tenant.name}: event .* is not as it was written", found["audit.chain"]["seen"])
    assert found["audit.chain"]["advice"]


async def test_deliveries_that_nobody_takes_are_found(audited: tuple[Evbridge, Tenant, dict[str, str]]) -> None:
    server, tenant, environ = audited
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=an_integration(id="cp")))
    await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=a_company()))
    for late in (False, True):
        if late:
            await server.database.run(LATE, tenant.name)
        _, found = await examined(environ)
        assert found["work.untaken"]["outcome"] == ("WARN" if late else "PASS")
        said = (await command(environ, "status", "--tenant", tenant.name)).out
        assert ("no process takes its deliveries: 1 is due, for 6 minutes\n" in said) == late
        assert ("NOW " in said) == late


async def test_without_its_database_it_says_all_that_it_can(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound and not listened to: nobody answers there
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://somebody:sesame@127.0.0.1:{taken.getsockname()[1]}/evbridge"
        environ = environment(url, SECRETS_KEYS="", SECRETS_KEYS_FILE=str(tmp_path / "none"), BURTS_S="1")
        ended = await command(environ, "doctor")
    assert ended.code == 1
    assert "FAIL     settings.values" in ended.out
    assert "EVBRIDGE_BURTS_S is not a setting" in ended.out
    assert "FAIL     keys.secrets" in ended.out
    assert "FAIL     database.server     the database cannot be reached" in ended.out
    assert "and up to audit.unsealed: the database could not be asked" in ended.out
    assert "sesame" not in ended.out + ended.err


async def test_a_standby_that_nobody_promoted_is_told_in_one_line(postgres: str) -> None:
    said = "no server of the database takes writes at the moment"
    async with created(postgres) as url:
        connection = await asyncpg.connect(url)
        await connection.execute(f"ALTER DATABASE {urlsplit(url).path[1:]} SET default_transaction_read_only = on")
        await connection.close()
        environ = environment(f"{url}{'&' if '?' in url else '?'}target_session_attrs=read-write")
        examined, asked = [await command(environ, name) for name in ("doctor", "status")]
    assert examined.code == 1
    assert f"FAIL     database.server     {said}" in examined.out
    assert (asked.code, asked.err) == (1, f"evbridge: {said}\n")


async def test_it_makes_nothing(tmp_path: Path) -> None:
    environ = environment("", SECRETS_KEYS="", DATA_DIR=str(tmp_path / "data"))
    code, found = await examined(environ)
    assert code == 1
    assert found["database.server"]["seen"].endswith("the first start makes it")
    assert [*tmp_path.iterdir()] == []
