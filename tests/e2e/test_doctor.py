"""`evbridge doctor` as a command: what it finds, what it says to do, and its exit status."""

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from evbridge.v1.party_pb2 import CreatePartyRequest

from service.app import Evbridge, evbridge
from service.resources.audit import Sealer, chain_verified
from service.storage.statements import Statement
from tests.conftest import Tenant, created, tenant_of
from tests.front_door import a_party, command, environment, settings

TAMPERED = Statement("tampering", "DELETE FROM audit_event WHERE tenant_id = $1")


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


async def test_a_tampered_audit_chain_is_found(audited: tuple[Evbridge, Tenant, dict[str, str]]) -> None:
    server, tenant, environ = audited
    code, found = await examined(environ)
    assert code == 1  # the tests' settings let it call this machine
    assert {id for id, each in found.items() if each["outcome"] == "FAIL"} == set()
    for id in ("database.server", "database.migrations", "work.parked", "audit.chain", "audit.unsealed"):
        assert found[id]["outcome"] == "PASS", found[id]
    await server.database.run(TAMPERED, tenant.name)
    code, found = await examined(environ)
    assert code == 2
    assert {id for id, each in found.items() if each["outcome"] == "FAIL"} == {"audit.chain"}
    assert tenant.name in found["audit.chain"]["seen"]
    assert found["audit.chain"]["advice"]


async def test_without_its_database_it_says_all_that_it_can(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound and not listened to: nobody answers there
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://somebody:sesame@127.0.0.1:{taken.getsockname()[1]}/evbridge"
        environ = environment(url, SECRETS_KEYS="", SECRETS_KEYS_FILE=str(tmp_path / "none"), BURTS_S="1")
        ended = await command(environ, "doctor")
    assert ended.code == 2
    assert "FAIL     settings.values" in ended.out
    assert "EVBRIDGE_BURTS_S is not a setting" in ended.out
    assert "FAIL     keys.secrets" in ended.out
    assert "FAIL     database.server     the database cannot be reached" in ended.out
    assert "and up to audit.unsealed: the database could not be asked" in ended.out
    assert "sesame" not in ended.out + ended.err


async def test_it_makes_nothing(tmp_path: Path) -> None:
    environ = environment("", SECRETS_KEYS="", DATA_DIR=str(tmp_path / "data"))
    code, found = await examined(environ)
    assert code == 2
    assert found["database.server"]["seen"].endswith("the first start makes it")
    assert [*tmp_path.iterdir()] == []
