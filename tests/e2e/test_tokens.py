"""Tokens in a process of its own: they come out nowhere, and the exchange of a killed worker is done again."""

import asyncio
import base64
from collections.abc import AsyncIterator

import grpc
import pytest
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_CONNECTING,
    INTEGRATION_STATUS_PENDING,
    CreateIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    ListIntegrationsRequest,
    UpdateIntegrationRequest,
)
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_SENDER, OcpiConnection
from evbridge.v1.party_pb2 import CreatePartyRequest, PartyKey
from evbridge.v1.run_pb2 import (
    RUN_KIND_CREDENTIALS,
    RUN_KIND_DIAGNOSE,
    RUN_KIND_TOKEN_EXCHANGE,
    RUN_STATE_CANCELLED,
    RUN_STATE_CANCELLING,
    RUN_STATE_RUNNING,
    RUN_STATE_SUCCEEDED,
    CancelRunRequest,
    GetRunRequest,
    ListRunsRequest,
    Run,
    StartRunRequest,
    WaitRunRequest,
)
from evbridge.v1.salesforce_connection_pb2 import SalesforceConnection

from service.storage.api_key import api_key_create
from service.storage.embedded import EmbeddedPostgres
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.statements import Statement
from tests.e2e.test_secrets import Told, bearer, dumped, finds, made_keys
from tests.front_door import Client, a_party, an_integration_of, collecting, data_directory, environment, serving
from tests.partners import OcpiPartner, TokenPartner
from tests.rpc.test_run import LONG

STAMP = "pl4nta8b3f6027ce1"
"""In every secret and every token."""
MARKER = "marker-3d51b8e6f09a"
"""No secret: wherever it is found, the search works."""
PLACES = ("replies", "log", "traces", "metrics", "rows", "files")


def salesforce(url: str, secret: str, id: str = MARKER) -> Integration:
    connection = SalesforceConnection(endpoint_url=url, client_id="evbridge", client_secret=secret)
    return an_integration_of("salesforce", secret, id=id, salesforce=connection)


def ocpi(url: str, token: str) -> Integration:
    connection = OcpiConnection(
        endpoint_url=f"{url}/ocpi/versions", initial_role=INTERFACE_ROLE_SENDER, initial_token=token
    )
    parties = [PartyKey(country_code="DE", party_id="ABC")]
    return an_integration_of("ocpi", token, id="roaming", parties=parties, ocpi=connection)


async def tell(told: Told, key: tuple[str, str], crm: TokenPartner, party: OcpiPartner) -> None:
    """Exchanges that succeed, and that fail in ways in which the partner repeats what it was told."""

    async def run(id: str, kind: int) -> None:
        started = Run.FromString(await told.call(StartRunRequest(integration_id=id, kind=kind), key))
        await told.call(WaitRunRequest(id=started.id), key)
        await told.call(GetRunRequest(id=started.id), key)
        await told.call(GetIntegrationRequest(id=id), key)

    create = CreateIntegrationRequest(integration=salesforce(crm.url, crm.secret), activate_connection=True)
    created = Integration.FromString(await told.call(create, key))
    await told.call(WaitRunRequest(id=created.latest_run_id), key)
    echo = b'{"error": "%b", "error_description": "%b"}' % (crm.secret.encode(), crm.secret.encode())
    for status, body, answer in (
        (200, None, {"instance_url": f"http://elsewhere.example/{crm.secret}?token={crm.secret}"}),
        (200, None, {"token_type": crm.secret, crm.secret: crm.secret}),
        (200, echo, {}),
        (400, echo, {}),
        (500, echo, {}),
        (503, crm.secret.encode(), {}),
        (200, None, {}),
    ):
        crm.status, crm.body, crm.answer = status, body, answer
        for kind in (RUN_KIND_DIAGNOSE, RUN_KIND_TOKEN_EXCHANGE):
            await run(MARKER, kind)
    wrong = salesforce(crm.url, f"{STAMP}-wrong")
    await told.call(UpdateIntegrationRequest(integration=wrong, activate_connection=False), key)
    await run(MARKER, RUN_KIND_TOKEN_EXCHANGE)
    await told.call(UpdateIntegrationRequest(integration=salesforce(crm.url, crm.secret)), key)
    await run(MARKER, RUN_KIND_TOKEN_EXCHANGE)

    await told.call(CreatePartyRequest(party=a_party()), key)
    await told.call(CreateIntegrationRequest(integration=ocpi(party.url, f"{STAMP}-a")), key)
    said = f"{STAMP}-a"
    for answer in (None, {"status_code": 2001, "status_message": said, said: said}, {"data": said}, [said]):
        party.own = {} if answer is None else {"/ocpi/versions": answer}
        for kind in (RUN_KIND_DIAGNOSE, RUN_KIND_CREDENTIALS):
            await run("roaming", kind)
    await told.call(UpdateIntegrationRequest(integration=ocpi(party.url, f"{STAMP}-b")), key)
    await run("roaming", RUN_KIND_CREDENTIALS)
    for listing in (ListIntegrationsRequest, ListRunsRequest):
        await told.call(listing(page_size=1000), key)


@pytest.fixture(scope="module")
async def let_out() -> AsyncIterator[dict[str, bytes]]:
    """What is in each of PLACES afterwards."""
    authorization = "Token " + base64.b64encode(f"{STAMP}-a".encode()).decode()
    with data_directory() as data_dir:
        environ = environment("", DATA_DIR=data_dir, SECRETS_KEYS="", LOG_LEVEL="DEBUG")
        async with (
            TokenPartner(secret=f"{STAMP}-secret", stamp=STAMP).listening() as crm,
            OcpiPartner(authorization=authorization).listening() as party,
            collecting() as (collector, bodies),
            serving(environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector}) as server,
        ):
            url = EmbeddedPostgres(data_dir / "postgres").dsn()
            keys = await made_keys(url, Keyring.load(data_dir / "secrets.keys"))
            async with grpc.aio.insecure_channel(server.address) as channel:
                told = Told(channel)
                await tell(told, bearer(keys["admin"]), crm, party)
            rows = await dumped(url)
        assert len(crm.asked) >= 10 and len(party.requests) >= 10
        yield {
            "replies": told.words,
            "log": server.log.encode(),
            "traces": b"".join(body for body in bodies if body.startswith(b"/v1/traces")),
            "metrics": b"".join(body for body in bodies if body.startswith(b"/v1/metrics")),
            "rows": rows,
            "files": b"".join(path.read_bytes() for path in data_dir.rglob("*") if path.is_file()),
        }


@pytest.mark.parametrize("place", PLACES)
async def test_no_token_and_no_secret_comes_out(let_out: dict[str, bytes], place: str) -> None:
    assert not finds(let_out[place], STAMP)


@pytest.mark.parametrize("place", [place for place in PLACES if place != "metrics"])
async def test_a_control_what_is_no_secret_is_found(let_out: dict[str, bytes], place: str) -> None:
    assert finds(let_out[place], MARKER)


async def test_the_exchange_of_a_killed_worker_is_done_again_by_another(
    database_url: str, database: Database, keyring: Keyring
) -> None:
    async with database.transaction() as conn:
        key = (await api_key_create(conn, keyring, "acme", "", 3)).reveal()
    environ = environment(database_url)
    async with TokenPartner().listening() as partner:
        partner.thinking.clear()
        async with serving(environ) as server, grpc.aio.insecure_channel(server.address) as channel:
            integration = salesforce(partner.url, "partner-key", "crm")
            request = CreateIntegrationRequest(integration=integration, activate_connection=True)
            created = await Client(channel, key).integrations.CreateIntegration(request)
            while not partner.asked:
                await asyncio.sleep(0.01)
            server.process.kill()
            await server.process.wait()
        partner.thinking.set()
        await database.run(LONG)
        async with serving(environ) as server, grpc.aio.insecure_channel(server.address) as channel:
            client = Client(channel, key)
            assert (await client.runs.GetRun(GetRunRequest(id=created.latest_run_id))).state == RUN_STATE_RUNNING
            await database.run(Statement("time passes", "UPDATE run SET lease_until = now()"))
            ended = await client.runs.WaitRun(WaitRunRequest(id=created.latest_run_id))
        assert ended.state == RUN_STATE_SUCCEEDED
        assert len(partner.asked) == 2
    kept = Statement("kept", "SELECT count(*) FROM access_token WHERE tenant_id = $1")
    assert await database.value(kept, "acme") == 1


# Serves without what is under test.
CONTROL = (
    "-c",
    """
import service.runs.worker as runs
from service.__main__ import main

async def nothing(*_):
    pass

runs.connecting_ended = nothing
main()
""",
)


async def test_the_exchange_of_a_killed_worker_that_ends_unfinished_leaves_nothing_connecting(
    database_url: str, database: Database, keyring: Keyring
) -> None:
    async with database.transaction() as conn:
        key = (await api_key_create(conn, keyring, "acme", "", 3)).reveal()
    environ = environment(database_url)
    async with TokenPartner().listening() as partner:
        partner.thinking.clear()
        runs = {}
        async with serving(environ) as server, grpc.aio.insecure_channel(server.address) as channel:
            for id in ("control", "crm"):
                integration = salesforce(partner.url, "partner-key", id)
                request = CreateIntegrationRequest(integration=integration, activate_connection=True)
                created = await Client(channel, key).integrations.CreateIntegration(request)
                runs[id] = created.latest_run_id
            while len(partner.asked) < len(runs):
                await asyncio.sleep(0.01)
            server.process.kill()
            await server.process.wait()
    await database.run(LONG)
    statuses = {}
    for id, program in (("control", CONTROL), ("crm", ("-m", "service"))):
        async with serving(environ, program=program) as server, grpc.aio.insecure_channel(server.address) as channel:
            client = Client(channel, key)
            assert (await client.runs.CancelRun(CancelRunRequest(id=runs[id]))).state == RUN_STATE_CANCELLING
            passes = Statement("time passes", "UPDATE run SET lease_until = now() WHERE integration_id = $1")
            await database.run(passes, id)
            assert (await client.runs.WaitRun(WaitRunRequest(id=runs[id]))).state == RUN_STATE_CANCELLED
            statuses[id] = (await client.integrations.GetIntegration(GetIntegrationRequest(id=id))).status
    assert statuses == {"control": INTEGRATION_STATUS_CONNECTING, "crm": INTEGRATION_STATUS_PENDING}
