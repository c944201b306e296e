"""A tenant moves to another database, with `evbridge export DIR` and `evbridge import DIR`."""

import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from evbridge.v1.api_key_pb2 import ListKeysResponse
from evbridge.v1.charger_pb2 import CreateChargerRequest
from evbridge.v1.company_pb2 import ListCompaniesRequest, UpsertCompanyRequest
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CDR, RedeliverAllRequest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest, GetIntegrationRequest
from evbridge.v1.location_pb2 import EVSE_STATUS_CHARGING, EvseStatusReport, LocationKey, ReportEvseStatusRequest
from evbridge.v1.registration_pb2 import ListPartnerTokensResponse
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from service.app import evbridge
from service.storage import tenant as rows
from service.storage.integration import secrets_get
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.tenant import LEFT_BEHIND, TABLES
from tests.conftest import Tenant
from tests.front_door import (
    Client,
    Ended,
    a_charger,
    a_company,
    an_integration,
    at_rest,
    command,
    environment,
    settings,
)
from tests.rpc.test_access import METHODS
from tests.rpc.test_ocpi_charged import bill, charging, tell
from tests.rpc.test_ocpi_push import HERS, pushed
from tests.rpc.test_registration import ID, Side, Sides, sides

__all__ = ["sides"]
NewDatabase = Callable[[], Awaitable[str]]
LISTS = [
    each
    for each in METHODS
    if each.full_name.startswith("evbridge.v1.") and each.name.startswith("List") and each.name != "ListAuditEvents"
]
"""What lists, but for the audit: it stays where it was written."""
OTHER_KEYS = f"other:{'B' * 43}="
CHARGEPRICE = "chargeprice"
PUSHED = {"push_location": True, "push_tariff": True, "push_session": True, "push_cdr": True}


async def ended(url: str, *arguments: Any, **changes: Any) -> Ended:
    return await command(environment(url, **changes), *map(str, arguments))


async def fill(cpo: Side, emsp: Side) -> None:
    """Something of most that a tenant may have; its partner holds what it is to hold."""
    client = cpo.client
    await tell(cpo)
    await bill(cpo)
    await client.companies.UpsertCompany(UpsertCompanyRequest(company=a_company()))
    await client.chargers.CreateCharger(CreateChargerRequest(charger=a_charger()))
    integration = an_integration(id=CHARGEPRICE, enabled=False)
    await client.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    assert ("POST", "cdrs") in await pushed(cpo, emsp)


async def listed(address: str, key: str) -> dict[str, Any]:
    """What each rpc that lists answers: for all integrations, and for each."""
    found: dict[str, Any] = {}
    async with grpc.aio.insecure_channel(address) as channel:
        for method in LISTS:
            call = channel.unary_unary(
                f"/{method.containing_service.full_name}/{method.name}",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            filters = [{}, {"integration_id": ID}, {"integration_id": CHARGEPRICE}]
            for given in filters if "integration_id" in method.input_type.fields_by_name else filters[:1]:
                name = " ".join((method.name, *given.values()))
                try:
                    request = GetMessageClass(method.input_type)(**given)
                    found[name] = numbered(await call(request, metadata=[("authorization", f"Bearer {key}")]))
                except grpc.aio.AioRpcError as error:
                    found[name] = error.code()
    return found


def numbered(answer: Message) -> Message:
    """Without the ids of tokens, which each database numbers for itself, and the last use of keys, which this is."""
    for token in answer.tokens if isinstance(answer, ListPartnerTokensResponse) else ():
        token.ClearField("id")
    for key in answer.keys if isinstance(answer, ListKeysResponse) else ():
        key.ClearField("last_use_time")
    return answer


@asynccontextmanager
async def served(url: str, key: str) -> AsyncIterator[tuple[str, Client]]:
    async with evbridge(settings(url)) as running, grpc.aio.insecure_channel(running.address) as channel:
        yield running.address, Client(channel, key)


async def test_every_list_answers_as_before_and_deliveries_go_on(
    sides: Sides, new_database: NewDatabase, tmp_path: Path
) -> None:
    async with charging(sides, **PUSHED) as (cpo, emsp):
        await fill(cpo, emsp)
        for side, least in ((cpo, 15), (emsp, 8)):
            before = await listed(side.running.address, side.key)
            assert len([each for each in before.values() if isinstance(each, Message) and each.ListFields()]) >= least
            folder, key, url = tmp_path / str(least), tmp_path / "move.key", await new_database()
            exported = await ended(side.database_url, "export", folder, "--tenant", "acme", "--secrets-key", key)
            assert (exported.code, exported.err, exported.out.count("left out")) == (0, "", 0)
            imported = await ended(url, "import", folder, "--secrets-key", key)
            assert (imported.code, imported.err, imported.out) == (0, "", "imported: the tenant acme\n")
            emsp.wire.carried.clear()
            async with served(url, side.key) as (address, client):
                assert await listed(address, side.key) == before
                await at_rest(client, ID)
                assert emsp.wire.carried == []
                if side is cpo:
                    await goes_on(client, emsp)
                    await controlled(client, emsp, url)
                    assert before != await listed(address, side.key)


async def goes_on(client: Client, emsp: Side) -> None:
    """What changes now reaches the partner, as a change of what it has."""
    reports = [EvseStatusReport(location=LocationKey(**HERS, id="L1"), evse_uid="E0", status=EVSE_STATUS_CHARGING)]
    await client.locations.ReportEvseStatus(ReportEvseStatusRequest(reports=reports))
    await at_rest(client, ID)
    assert [method for method, _ in emsp.wire.carried] == ["PATCH"]


async def controlled(client: Client, emsp: Side, url: str) -> None:
    """A CDR of which it is not known that the partner holds it is sent, and that is seen."""
    connection = await asyncpg.connect(url)
    await connection.execute("DELETE FROM peer_object WHERE object_kind = $1", OBJECT_KIND_CDR)
    await connection.close()
    again = RedeliverAllRequest(integration_id=ID, object_kind=OBJECT_KIND_CDR)
    await client.deliveries.RedeliverAll(again)
    await at_rest(client, ID)
    assert "POST" in [method for method, _ in emsp.wire.carried]


@pytest.fixture
async def exported(shared_database_url: str, tenant: Tenant, tmp_path: Path) -> Path:
    """A tenant with a secret, without a key to move that."""
    integration = an_integration(id=CHARGEPRICE, enabled=False)
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    await tenant.admin.companies.UpsertCompany(UpsertCompanyRequest(company=a_company()))
    done = await ended(shared_database_url, "export", tmp_path / "out", "--tenant", tenant.name)
    assert (done.code, done.err) == (0, "")
    assert "left out: the secrets of chargeprice: give them again with UpdateIntegration\n" in done.out
    assert "left out: the API keys admin, reader, writer: make others with `evbridge keys create`\n" in done.out
    return tmp_path / "out"


async def test_secrets_stay_where_they_are_without_a_key_of_their_own(
    exported: Path, tenant: Tenant, database_url: str
) -> None:
    """And no file holds one, nor what was made of it."""
    texts = {path.name: path.read_text() for path in exported.iterdir()}
    assert not {"secret.jsonl", "api_key.jsonl", "partner_token.jsonl"} & texts.keys()
    assert all("partner-key" not in text and tenant.keys["admin"] not in text for text in texts.values())
    assert oct(exported.stat().st_mode)[-3:] == "700"
    done = await ended(database_url, "import", exported)
    assert "left out: the secrets of chargeprice" in done.out
    made = await ended(database_url, "keys", "create", "--tenant", tenant.name, "--role", "admin")
    async with served(database_url, made.out.strip()) as (_, client):
        integration = await client.integrations.GetIntegration(GetIntegrationRequest(id=CHARGEPRICE))
        assert integration.id == CHARGEPRICE
        assert len((await client.companies.ListCompanies(ListCompaniesRequest())).companies) == 1


async def test_an_import_is_whole_or_nothing_and_happens_once(
    exported: Path, tenant: Tenant, database_url: str
) -> None:
    broken = broken_in_the_middle(exported)
    done = await ended(database_url, "import", broken)
    assert (done.code, done.out) == (1, "")
    assert "nothing was imported: " in done.err and "company.jsonl:2 is not what an export writes" in done.err
    assert await rows_of(database_url, tenant.name) == 0
    assert (await ended(database_url, "import", exported)).code == 0
    stored = await rows_of(database_url, tenant.name)
    assert stored >= 3
    again = await ended(database_url, "import", exported)
    assert again.code == 0 and "was made of this export" in again.out and "nothing was changed" in again.out
    assert await rows_of(database_url, tenant.name) == stored
    over = await ended(database_url, "import", broken, "--tenant", tenant.name)
    assert over.code == 1 and "is in use: import as another one" in over.err
    assert (await ended(database_url, "import", exported, "--tenant", "another")).code == 0
    assert await rows_of(database_url, "another") == stored


async def test_an_export_that_did_not_end_or_was_altered_is_refused(exported: Path, database_url: str) -> None:
    with (exported / "company.jsonl").open("a") as file:
        file.write("{}\n")
    altered = await ended(database_url, "import", exported)
    assert altered.code == 1 and "company.jsonl is not as it was exported" in altered.err
    (exported / "manifest.json").unlink()
    half = await ended(database_url, "import", exported)
    assert half.code == 1 and "did not end" in half.err
    again = await ended(database_url, "export", exported)
    assert again.code == 1


async def test_other_secrets_keys_and_another_export_key(
    shared_database_url: str, exported: Path, tenant: Tenant, database_url: str, tmp_path: Path
) -> None:
    """Secrets are sealed anew; hashes, which nobody could use, are left out and that is said."""
    key, folder = tmp_path / "move.key", tmp_path / "sealed"
    done = await ended(shared_database_url, "export", folder, "--tenant", tenant.name, "--secrets-key", key)
    assert done.code == 0
    assert "partner-key" not in (folder / "secret.jsonl").read_text()
    (tmp_path / "wrong.key").write_text(OTHER_KEYS)
    (tmp_path / "wrong.key").chmod(0o600)
    for given in ([], ["--secrets-key", tmp_path / "wrong.key"]):
        refused = await ended(database_url, "import", folder, *given, SECRETS_KEYS=OTHER_KEYS)
        assert refused.code == 1 and "secrets" in refused.err
    moved = await ended(database_url, "import", folder, "--secrets-key", key, SECRETS_KEYS=OTHER_KEYS)
    assert moved.code == 0 and "left out: API keys" in moved.out
    assert (await ended(database_url, "keys", "list")).out == ""
    pool = Database(database_url)
    await pool.open()
    async with pool.connection() as conn:
        (secret,) = (await secrets_get(conn, Keyring.parse(OTHER_KEYS), tenant.name, CHARGEPRICE)).values()
    await pool.close()
    assert secret.reveal() == "partner-key"


async def test_every_table_of_a_tenant_moves_or_is_said_to_stay(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    tables = await connection.fetch(
        """
        SELECT c.relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
        WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
        """
    )
    assert {row["relname"] for row in tables} - {"tenant"} == {*TABLES} | LEFT_BEHIND
    for table in TABLES:
        columns = await connection.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_name = $1 AND is_identity = 'NO'", table
        )
        statement = await connection.prepare(getattr(rows.sql, f"tenant_{table}").text)
        moved = {attribute.name for attribute in statement.get_attributes()}
        assert {row["column_name"] for row in columns} == moved | {"tenant_id"}, table
    await connection.close()


def broken_in_the_middle(folder: Path) -> Path:
    """An export whose hashes are right and whose last line of a file is none."""
    broken = folder.with_name("broken")
    shutil.copytree(folder, broken)
    path, manifest = broken / "company.jsonl", json.loads((broken / "manifest.json").read_text())
    path.write_text(path.read_text() + '{"company_id": 1}\n')
    manifest["files"]["company"] = [2, hashlib.sha256(path.read_bytes()).hexdigest()]
    manifest["export_id"] = str(uuid4())
    (broken / "manifest.json").write_text(json.dumps(manifest))
    return broken


async def rows_of(url: str, tenant_id: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        counts = [
            await connection.fetchval(f"SELECT count(*) FROM {each} WHERE tenant_id = $1", tenant_id) for each in TABLES
        ]
        return sum(counts)
    finally:
        await connection.close()
