"""AuditService: every call that changes something is written down, and what is done to the rows is found out."""

import base64
import getpass
import json
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import grpc
import pytest
from evbridge.options.v1.options_pb2 import ROLE_WRITER
from evbridge.partner.chargeprice.v1.company_pb2 import DeleteCompanyRequest as DeleteAtPartner
from evbridge.partner.chargeprice.v1.company_pb2 import ListCompaniesRequest as ListAtPartner
from evbridge.partner.chargeprice.v1.company_pb2 import UpsertCompanyRequest as UpsertAtPartner
from evbridge.partner.chargeprice.v1.company_pb2_grpc import CompanyServiceStub
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.audit_pb2 import AuditEvent, ListAuditEventsRequest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from evbridge.v1.location_pb2 import CreateLocationRequest, UpdateLocationRequest
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.token_pb2 import CreateTokenRequest

from service.app import Evbridge, evbridge
from service.domain.caller import Caller
from service.partners.chargeprice.mapping import document
from service.partners.chargeprice.simulator import Simulator
from service.resources.audit import Chain, Sealer, audit_call, audit_sweep, audited, chain_verified
from service.storage.audit import Unsealed, audit_place, audit_unsealed
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.statements import Statement
from tests.changes import CHANGING, every_change
from tests.conftest import Tenant, created, tenant_of
from tests.e2e.test_files import EXAMPLES
from tests.front_door import (
    KEYS,
    a_company,
    a_location,
    a_party,
    a_token,
    an_integration,
    command,
    environment,
    fails,
    settings,
)
from tests.ocpi.door import ID, Ask, Partner, ask, partner

__all__ = ["ask", "partner"]

AGE = "UPDATE audit_seal SET seal_time = seal_time - interval '401 days' WHERE tenant_id = $1 AND seal_id <= $2"


@pytest.fixture(scope="module")
async def idle(postgres: str, template_database: str) -> AsyncIterator[Evbridge]:
    """A server that delivers and seals nothing by itself."""
    async with (
        created(postgres, template_database) as url,
        evbridge(settings(url, delivery=False)) as started,
    ):
        yield started


@pytest.fixture
async def owner(idle: Evbridge) -> AsyncIterator[Tenant]:
    """A tenant there, with a party."""
    async with grpc.aio.insecure_channel(idle.address) as channel:
        tenant = await tenant_of(idle, channel)
        await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
        yield tenant


async def events(tenant: Tenant, **filters: Any) -> list[AuditEvent]:
    """All of them, page by page, the newest first."""
    request, found = ListAuditEventsRequest(**{"page_size": 1000, **filters}), []
    while True:
        page = await tenant.admin.audit.ListAuditEvents(request)
        found += page.audit_events
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def sealed(idle: Evbridge, tenant: Tenant) -> Chain:
    """The tenant's chain, once all that was written is sealed."""
    sealer = Sealer(idle.database, idle.keyring)
    while (chain := await chain_verified(idle.database, idle.keyring, tenant.name)).unsealed:
        await sealer.due()
    return chain


async def test_every_change_of_every_kind_is_one_event(
    idle: Evbridge, owner: Tenant, soak: Callable[[int], int]
) -> None:
    rounds = soak(20)
    for _ in range(rounds):
        await every_change(owner, idle)
    found = await events(owner)
    counts = Counter(event.rpc for event in found)
    counts["evbridge.v1.PartyService/CreateParty"] -= 1  # the fixture's
    assert {rpc for rpc, count in counts.items() if count} == CHANGING
    twice = {"IntegrationService/CreateIntegration": 2, "IntegrationService/DeleteIntegration": 2}
    often = {f"evbridge.v1.{rpc}": count for rpc, count in (twice | {"RunService/CancelRun": 4}).items()}
    assert {rpc: count / rounds for rpc, count in counts.items()} == {rpc: often.get(rpc, 1) for rpc in CHANGING}
    assert {(event.actor, event.address) for event in found} == {(owner.keys["admin"].split("_")[1], "127.0.0.1")}
    chain = await sealed(idle, owner)
    assert (chain.events, chain.problems) == (len(found), [])


async def test_an_event_says_who_what_and_which_fields_and_no_value(idle: Evbridge, owner: Tenant) -> None:
    await every_change(owner, idle)
    found = {event.rpc.rpartition("/")[2]: event for event in reversed(await events(owner))}

    def told(method: str) -> tuple[str, int, int, list[str]]:
        event = found[method]
        return event.object_type, event.object_count, event.refused_count, [*event.fields]

    assert told("UpdateLocation") == ("location", 1, 0, ["name"])
    assert re.fullmatch(r"DE\*ABC\*[0-9a-f-]{36}", found["UpdateLocation"].object_ids[0])
    assert told("BatchUpsertLocations")[:3] == ("location", 0, 1)
    assert told("ReportEvseStatus")[:3] == ("evse", 2, 1)
    assert [id[-3:] for id in found["ReportEvseStatus"].object_ids] == ["/e1", "/e2"]
    assert told("UpdateIntegration") == (
        *("integration", 1, 0),
        ["chargeprice.base_url", "chargeprice.api_key"],
    )
    assert told("RetryDelivery") == ("delivery", 1, 0, [])
    assert told("RotateCredentials")[:2] == ("integration", 1)
    assert told("StartRun") == ("integration", 1, 0, ["kind"])
    assert found["SendCommand"].reason != reasons.ERROR_REASON_UNSPECIFIED
    text = "".join(map(str, found.values()))
    assert "chargeprice.api_key" in text
    for value in ("another-secret", "127.0.0.1:10", "Harbour", "maintenance", "Wattwerk", "C12345678"):
        assert value not in text


async def test_what_was_refused_rehearsed_or_repeated_is_no_event(owner: Tenant) -> None:
    request = CreateLocationRequest(location=a_location(), request_id="6f1c1f5e-6a0b-4f0e-9a43-000000000001")
    await owner.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(), validate_only=True))
    await fails(owner.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(party_id="XXX"))))
    for _ in range(2):
        await owner.writer.locations.CreateLocation(request)
    (event,) = await events(owner, rpc="evbridge.v1.LocationService/CreateLocation")
    assert event.request_id == request.request_id
    assert event.actor == owner.keys["writer"].split("_")[1]


async def test_events_are_found_by_time_actor_object_and_rpc(owner: Tenant) -> None:
    first, second = a_location(), a_location()
    for location in (first, second, first):
        await owner.writer.locations.UpdateLocation(UpdateLocationRequest(location=location, allow_missing=True))
    everything = await events(owner)
    assert len(everything) == 4
    assert everything == sorted(everything, key=lambda event: int(event.id), reverse=True)
    assert await events(owner, page_size=1) == everything
    rpc = "evbridge.v1.LocationService/UpdateLocation"
    assert await events(owner, rpc=rpc) == everything[:3]
    of_first = await events(owner, object_id=f"de*abc*{first.id.upper()}", page_size=1)
    assert of_first == [everything[0], everything[2]]
    assert await events(owner, object_id=f"DE*ABC*{first.id}", rpc="evbridge.v1.LocationService/Other") == []
    assert await events(owner, actor=everything[3].actor) == everything[3:]
    assert await events(owner, start_time=everything[1].event_time) == everything[:2]
    assert await events(owner, end_time=everything[1].event_time) == everything[2:]
    request = ListAuditEventsRequest(page_size=1)
    request.page_token = (await owner.admin.audit.ListAuditEvents(request)).next_page_token
    request.rpc = rpc
    failure = await fails(owner.admin.audit.ListAuditEvents(request))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


async def test_a_token_is_found_by_its_id_and_not_told(owner: Tenant) -> None:
    tokens = [a_token(), a_token()]
    for token in tokens:
        await owner.writer.tokens.CreateToken(CreateTokenRequest(token=token))
    (event,) = await events(owner, object_id=f"de*abc*rfid/{tokens[0].uid}")
    assert event.object_ids[0].startswith("token-")
    assert tokens[0].uid.casefold() not in str(event).casefold()


async def test_a_page_ends_after_looking_at_enough(
    idle: Evbridge, owner: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        await owner.writer.locations.CreateLocation(CreateLocationRequest(location=a_location()))
    monkeypatch.setattr("service.storage.audit._LOOKED", 2)
    request = ListAuditEventsRequest(rpc="evbridge.v1.PartyService/CreateParty")
    page = await owner.admin.audit.ListAuditEvents(request)
    assert not page.audit_events
    assert page.next_page_token
    assert [event.rpc for event in await events(owner, rpc=request.rpc)] == [request.rpc]
    assert len(await events(owner)) == 6


TAMPERING = {
    "nothing": "",
    "a row is deleted": "DELETE FROM audit_event WHERE tenant_id = $1 AND event_id = $2",
    "a row says another actor": "UPDATE audit_event SET actor = 'innocent' WHERE tenant_id = $1 AND event_id = $2",
    "a row says another object": "UPDATE audit_event SET object_id = '' WHERE tenant_id = $1 AND event_id = $2",
    "a row says something else": "UPDATE audit_event SET payload = payload || '\\x5a0161' "
    "WHERE tenant_id = $1 AND event_id = $2",
    "a row has the signature of another": "UPDATE audit_event AS e SET payload = o.payload, digest = o.digest "
    "FROM audit_event AS o WHERE e.tenant_id = $1 AND e.event_id = $2 AND o.tenant_id = $1 AND o.event_id > $2",
    "a row is added": "INSERT INTO audit_event SELECT tenant_id, nextval('audit_event_id'), event_time, actor, rpc, "
    "object_id, open, digest, payload FROM audit_event WHERE tenant_id = $1 AND event_id = $2",
    "a seal is deleted": "DELETE FROM audit_seal WHERE tenant_id = $1 AND last_event_id = $2",
    "the beginning is deleted": "WITH gone AS (DELETE FROM audit_seal WHERE tenant_id = $1 AND seal_id = 1) "
    "DELETE FROM audit_event WHERE tenant_id = $1 AND event_id < $2",
    "the beginning is declared let go": "WITH gone AS (DELETE FROM audit_seal WHERE tenant_id = $1 AND seal_id < 2), "
    "made AS (UPDATE audit_seal SET anchor = digest WHERE tenant_id = $1 AND seal_id = 2) "
    "DELETE FROM audit_event WHERE tenant_id = $1 AND event_id <= $2",
    "a seal is fitted to what is left": "WITH gone AS (DELETE FROM audit_event WHERE tenant_id = $1 AND event_id = $2) "
    "UPDATE audit_seal SET event_count = 0, events_hash = sha256('') WHERE tenant_id = $1 AND last_event_id = $2",
}


@pytest.mark.parametrize("done", TAMPERING)
async def test_what_is_done_to_sealed_events_by_sql_is_found(idle: Evbridge, owner: Tenant, done: str) -> None:
    for _ in range(3):  # a seal for each
        await sealed(idle, owner)
        await owner.writer.locations.CreateLocation(CreateLocationRequest(location=a_location()))
    assert (await sealed(idle, owner)).problems == []
    middle = int((await events(owner))[1].id)
    if TAMPERING[done]:
        await idle.database.run(Statement("tampering", TAMPERING[done]), owner.name, middle)
    chain = await chain_verified(idle.database, idle.keyring, owner.name)
    assert bool(chain.problems) == bool(TAMPERING[done]), chain.problems


async def late_event(idle: Evbridge, owner: Tenant) -> Chain:
    """What is found after a transaction that had its number early ends late."""
    caller = Caller(owner.name, "late", ROLE_WRITER)
    sealer = Sealer(idle.database, idle.keyring)
    async with idle.database.transaction() as conn:
        place = await audit_place(conn)
        await owner.writer.locations.CreateLocation(CreateLocationRequest(location=a_location()))
        for _ in range(3):
            await sealer.due()
        request = CreateLocationRequest(location=a_location())
        await audit_call(conn, idle.keyring, caller, place, request)
    assert [event.actor for event in await events(owner)][1] == "late"
    return await sealed(idle, owner)


async def test_an_event_that_is_committed_late_is_sealed_too(idle: Evbridge, owner: Tenant) -> None:
    chain = await late_event(idle, owner)
    assert (chain.events, chain.problems) == (3, [])


async def test_a_control_seals_before_all_have_ended(
    idle: Evbridge, owner: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hasty(database: Database) -> list[Unsealed]:
        return [each._replace(open=each.next) for each in await audit_unsealed(database)]

    monkeypatch.setattr("service.resources.audit.audit_unsealed", hasty)
    assert (await late_event(idle, owner)).problems


async def test_events_are_let_go_by_age_and_the_rest_stays_verifiable(idle: Evbridge, owner: Tenant) -> None:
    for _ in range(3):
        await owner.writer.locations.CreateLocation(CreateLocationRequest(location=a_location()))
        await sealed(idle, owner)
    kept = await events(owner)
    assert len(kept) == 4
    await audit_sweep(idle.database, idle.keyring, 400)
    assert await events(owner) == kept
    await idle.database.run(Statement("age", AGE), owner.name, 2)
    await audit_sweep(idle.database, idle.keyring, 400)
    assert await events(owner) == kept[:1]
    chain = await chain_verified(idle.database, idle.keyring, owner.name)
    assert (chain.events, chain.problems) == (1, [])
    await owner.writer.locations.CreateLocation(CreateLocationRequest(location=a_location()))
    assert (await sealed(idle, owner)).problems == []
    await idle.database.run(Statement("gone", "DELETE FROM audit_event WHERE tenant_id = $1"), owner.name)
    assert (await sealed(idle, owner)).problems


async def test_another_key_is_no_key(idle: Evbridge, owner: Tenant) -> None:
    await sealed(idle, owner)
    key = "other:" + base64.b64encode(bytes(32)).decode()
    rotated = Keyring.parse(f"{key},{KEYS}")
    assert (await chain_verified(idle.database, rotated, owner.name)).problems == []
    assert (await chain_verified(idle.database, Keyring.parse(key), owner.name)).problems


async def test_a_call_to_a_partner_is_an_event_however_it_ends(
    tenant: Tenant, running: Evbridge, channel: grpc.aio.Channel, simulator: Simulator
) -> None:
    integration = an_integration(simulator.url, id="cp")
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    partner = CompanyServiceStub(channel)
    metadata = (("authorization", f"Bearer {tenant.keys['admin']}"), ("x-request-id", "r-1"))
    request = DeleteAtPartner(integration_id="cp", company_id=str(uuid4()))
    await fails(partner.DeleteCompany(request, metadata=metadata))
    for fault in ("", "PUT=lose_answer"):
        company = a_company()
        upsert = UpsertAtPartner(integration_id="cp", company_id=company.id, document=document(company, 1))
        if fault:
            simulator.inject(fault)
            await fails(partner.UpsertCompany(upsert, metadata=metadata))
        else:
            await partner.UpsertCompany(upsert, metadata=metadata)
    await partner.ListCompanies(ListAtPartner(integration_id="cp"), metadata=metadata)
    found = [event for event in await events(tenant) if event.rpc.startswith("evbridge.partner.")]
    assert [event.rpc.rpartition("/")[2] for event in found] == ["UpsertCompany", "UpsertCompany", "DeleteCompany"]
    assert [event.reason for event in found] == [
        *(reasons.PARTNER_OUTCOME_UNKNOWN, reasons.ERROR_REASON_UNSPECIFIED, reasons.PARTNER_NOT_FOUND),
    ]
    assert {(event.object_type, *event.object_ids, event.request_id) for event in found} == {
        ("integration", "cp", "r-1")
    }
    assert [*found[0].fields] == ["company_id", "document"]


async def test_a_call_that_nobody_ended_holds_the_seals_back_for_a_while(
    idle: Evbridge, owner: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = Caller(owner.name, "gone", ROLE_WRITER)
    monkeypatch.setattr("service.resources.audit.audit_end", AsyncMock())
    async with audited(idle.database, idle.keyring, caller, AuditEvent):
        pass
    sealer = Sealer(idle.database, idle.keyring)
    for _ in range(3):
        await sealer.due()
    chain = await chain_verified(idle.database, idle.keyring, owner.name)
    assert (chain.events, chain.unsealed) == (1, 1)
    monkeypatch.setattr("service.resources.audit._ABANDONED", timedelta(0))
    chain = await sealed(idle, owner)
    assert (chain.events, chain.problems) == (2, [])
    assert (await events(owner))[0].reason == reasons.PARTNER_OUTCOME_UNKNOWN


async def test_a_partner_that_registers_is_an_event(ask: Ask, partner: Partner, tenant: Tenant) -> None:
    assert (await ask("DELETE", "/ocpi/2.2.1/credentials", partner.registered)).code == 1000
    event = (await events(tenant))[0]
    assert (event.rpc, event.actor) == (
        "evbridge.partner.ocpi.v2.CredentialsService/DeleteCredentials",
        f"integration/{ID}",
    )
    assert (event.object_type, [*event.object_ids], event.address) == ("integration", [ID], "127.0.0.1")


async def test_a_command_that_changes_something_is_an_event(
    tenant: Tenant, shared_database_url: str, tmp_path: Path
) -> None:
    """Who looks in the database's audit sees the operator too."""
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    environ, of = environment(shared_database_url), ("--tenant", tenant.name)
    made = await command(environ, "keys", "create", "--role", "reader", "--name", "the secret purpose", *of)
    key_id = made.out.split("_")[1]
    assert (await command(environ, "keys", "revoke", key_id, *of)).code == 0
    file = tmp_path / "tariff.json"
    file.write_text((EXAMPLES / "tariff_2.2.1.json").read_text())
    assert (await command(environ, "import", str(file), *of)).code == 0
    found = (await events(tenant))[:-1]
    assert [(event.rpc, event.object_type, [*event.object_ids]) for event in found] == [
        ("evbridge import", "tariff", ["DE*ABC*" + json.loads(file.read_text())["id"]]),
        ("evbridge keys revoke", "key", [key_id]),
        ("evbridge keys create", "key", [key_id]),
    ]
    assert {(event.actor, event.address) for event in found} == {(f"cli:{getpass.getuser()}", socket.gethostname())}
    assert [*found[2].fields] == ["name", "role"]
    assert "purpose" not in str(found)
