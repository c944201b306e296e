"""Two evbridges register with each other over real HTTP, in every version, and go on whichever side dies."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_FAILED,
    INTEGRATION_STATUS_UNREGISTERED,
    CreateIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    UpdateIntegrationRequest,
)
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_BOTH, OcpiConnection
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP, CreatePartyRequest, PartyKey
from evbridge.v1.registration_pb2 import (
    IssueInitialTokenRequest,
    ListPartnerTokensRequest,
    PartnerToken,
    RegisterIntegrationRequest,
    RotateCredentialsRequest,
    UnregisterIntegrationRequest,
)
from evbridge.v1.run_pb2 import RUN_KIND_SYNC, RUN_STATE_FAILED, Run, StartRunRequest, WaitRunRequest

from service.app import Evbridge, evbridge
from service.ocpi import credentials as door
from service.resources.registration import token_give
from service.simulator.faults import Fault, FaultKind, misbehave
from service.storage.api_key import api_key_create
from service.storage.partner_token import tokens_end
from tests.front_door import Client, a_party, an_integration_of, failure_of, settings

ID = "roaming"


@dataclass
class Side:
    """One evbridge with one party, and its integration with the other side."""

    running: Evbridge
    client: Client
    wire: "Wire"
    database_url: str
    key: str

    async def get(self) -> Integration:
        return await self.client.integrations.GetIntegration(GetIntegrationRequest(id=ID))

    async def tokens(self) -> list[PartnerToken]:
        request = ListPartnerTokensRequest(integration_id=ID)
        return list((await self.client.registration.ListPartnerTokens(request)).tokens)

    async def issue(self) -> tuple[str, str]:
        issued = await self.client.registration.IssueInitialToken(IssueInitialTokenRequest(integration_id=ID))
        return issued.token, issued.versions_url

    async def given(self, token: str, url: str) -> None:
        ocpi = OcpiConnection(endpoint_url=url, initial_token=token, initial_role=INTERFACE_ROLE_BOTH)
        await self.client.integrations.UpdateIntegration(
            UpdateIntegrationRequest(integration=Integration(id=ID, ocpi=ocpi))
        )

    async def ran(self, run: Run) -> Run:
        return await self.client.runs.WaitRun(WaitRunRequest(id=run.id))

    async def synced(self, integration_id: str = ID) -> Run:
        """A pull that begins now, or as soon as the one is over that began by itself."""
        start = StartRunRequest(integration_id=integration_id, kind=RUN_KIND_SYNC)
        while True:
            try:
                run = await self.client.runs.StartRun(start)
            except grpc.aio.AioRpcError as error:
                refused = failure_of(error)
                assert refused.reason == "RUN_IN_PROGRESS", refused
                await self.ran(Run(id=refused.metadata["run_id"]))
            else:
                return await self.ran(run)

    async def registers(self) -> Run:
        return await self.ran(
            await self.client.registration.RegisterIntegration(RegisterIntegrationRequest(integration_id=ID))
        )

    async def rotates(self, **more: Any) -> Run:
        return await self.ran(
            await self.client.registration.RotateCredentials(RotateCredentialsRequest(integration_id=ID, **more))
        )

    async def unregisters(self) -> Run:
        return await self.ran(
            await self.client.registration.UnregisterIntegration(UnregisterIntegrationRequest(integration_id=ID))
        )


def leads_to(request: web.Request, method: str, end: str) -> bool:
    return request.method == method and fnmatchcase(request.path, f"*{end}")


def outcome(run: Run) -> str:
    return reasons.ErrorReason.Name(run.reason) if run.state == RUN_STATE_FAILED else "OK"


@dataclass
class Wire:
    """What lies between a side and who calls it: it cuts requests, or loses their answers.

    `faults` are (method, pattern of the path's end, kind) of what fails next, reads twice: they are repeated. Besides
    the simulators' kinds there are "twice", as a network may do it, "late", which is cut until `catches_up` brings it,
    "listed:N", whose object is answered as a list of it N times, "code:N", which is answered with that status code, and
    "down", from then on: while it `is_down` no request arrives. `carried` are the method and the path of all requests,
    `headers` what they said besides, `answered` those that arrived: with X-Request-ID and status.
    """

    url: str = ""
    to: str = ""
    faults: list[tuple[str, str, str]] = field(default_factory=list)
    is_down: bool = False
    carried: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answered: list[tuple[str, str, str, int]] = field(default_factory=list)
    late: list[web.Request] = field(default_factory=list)

    async def carry(self, request: web.Request) -> web.StreamResponse:
        self.carried.append((request.method, request.path))
        self.headers.append(dict(request.headers))
        for fault in self.faults:
            if leads_to(request, *fault[:2]):
                if request.method == "GET":
                    self.faults.remove(fault)
                else:
                    self.faults = [each for each in self.faults if each != fault]
                return await self._misbehave(fault[2], request)
        if self.is_down:
            return web.Response(status=503)
        try:
            return await self._forward(request)
        except aiohttp.ClientConnectionError:  # nobody is there, as a gateway says it
            return web.Response(status=502)

    async def catches_up(self) -> None:
        """What is late arrives after all."""
        while self.late:
            await self._forward(self.late.pop(0))

    async def _misbehave(self, kind: Any, request: web.Request) -> web.StreamResponse:
        if kind == "twice":
            await self._forward(request)
            return await self._forward(request)
        if kind.startswith("listed:"):
            answer: Any = await self._forward(request)
            envelope = json.loads(answer.body)
            listed = envelope | {"data": [envelope["data"]] * int(kind.removeprefix("listed:"))}
            return web.json_response(listed, status=answer.status)
        if kind.startswith("code:"):
            code = int(kind.removeprefix("code:"))
            return web.json_response({"status_code": code, "timestamp": "2026-01-01T00:00:00Z"})
        if kind == "down":
            self.is_down = True
            return web.Response(status=503)
        if kind == "late":
            await request.read()
            self.late.append(request)
        return await misbehave(Fault("cut" if kind == "late" else kind), request, self._forward)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name not in ("Host", "Content-Length")}
        async with (
            aiohttp.ClientSession() as http,
            http.request(
                request.method, self.to + request.path_qs, data=await request.read(), headers=headers
            ) as answer,
        ):
            names = ("X-", "OCPI-", "Link", "Location")
            back = {name: value for name, value in answer.headers.items() if name.startswith(names)}
            text = await answer.read()
            request_id = request.headers.get("X-Request-ID", "")
            self.answered.append((request.method, request.path, request_id, answer.status))
            return web.Response(status=answer.status, body=text, content_type="application/json", headers=back)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Wire"]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.carry)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


@asynccontextmanager
async def side(database_url: str, party_id: str, role: Any, **changes: Any) -> AsyncIterator[Side]:
    async with Wire().listening() as wire, evbridge(settings(database_url, public_url=wire.url, **changes)) as running:
        wire.to = running.ocpi_url
        async with running.database.transaction() as conn:
            key = (await api_key_create(conn, running.keyring, "acme", "", 3)).reveal()
        async with grpc.aio.insecure_channel(running.address) as channel:
            client = Client(channel, key)
            party = a_party(party_id=party_id, roles=[role])
            await client.parties.CreateParty(CreatePartyRequest(party=party))
            integration = an_integration_of(
                "ocpi",
                "",
                id=ID,
                parties=[PartyKey(country_code="DE", party_id=party_id)],
                ocpi=OcpiConnection(initial_role=INTERFACE_ROLE_BOTH),
            )
            await client.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
            yield Side(running, client, wire, database_url, key)


Sides = Callable[..., Any]


@pytest.fixture
def sides(new_database: Callable[[], Awaitable[str]]) -> Sides:
    """An operator and a provider that do not know each other yet, with the settings of each."""

    @asynccontextmanager
    async def made(
        cpo: dict[str, Any] | None = None, emsp: dict[str, Any] | None = None
    ) -> AsyncIterator[tuple[Side, Side]]:
        async with (
            side(await new_database(), "CPO", PARTY_ROLE_CPO, **(cpo or {})) as first,
            side(await new_database(), "MSP", PARTY_ROLE_EMSP, **(emsp or {})) as second,
        ):
            yield first, second

    return made


async def confirmed(side: Side) -> list[bool]:
    """Of each token that opens the side: whether it was used for more than reading versions."""
    return [token.confirmed for token in await side.tokens()]


SPOKEN = {
    "2.3.0": ("2.3.0,2.2.1,2.1.1", "2.3.0,2.2.1,2.1.1"),
    "2.2.1": ("2.3.0,2.2.1,2.1.1", "2.2.1,2.1.1"),
    "2.1.1": ("2.1.1", "2.3.0,2.2.1,2.1.1"),
}


@pytest.mark.parametrize(("version", "spoken"), SPOKEN.items(), ids=SPOKEN)
async def test_they_register_rotate_and_unregister(sides: Sides, version: str, spoken: tuple[str, str]) -> None:
    async with sides(*({"ocpi_versions": each} for each in spoken)) as (cpo, emsp):
        await cpo.given(*(await emsp.issue()))
        registered = await cpo.registers()
        assert outcome(registered) == "OK", registered
        assert [step.name for step in registered.steps] == ["versions", "details", "credentials", "confirmation"]
        for us, other, party_id, role in ((cpo, emsp, "MSP", PARTY_ROLE_EMSP), (emsp, cpo, "CPO", PARTY_ROLE_CPO)):
            integration = await us.get()
            assert integration.status == INTEGRATION_STATUS_ACTIVE
            assert integration.version_details.version == version
            (company,) = integration.partner_company_details
            assert (company.party_id, company.role, company.business_details.name) == (party_id, role, "Wattwerk")
            ocpi = integration.ocpi
            assert (ocpi.our_token_set, ocpi.their_token_set, ocpi.initial_token_set) == (True, True, False)
            assert ocpi.partner_versions_url == f"{other.wire.url}/ocpi/versions"
        # The first token ended with the first use of the one that the exchange gave.
        assert (await confirmed(emsp), await confirmed(cpo)) == ([True], [False])
        assert outcome(await emsp.rotates()) == "OK"
        assert (await confirmed(emsp), await confirmed(cpo)) == ([True, False], [True])
        assert outcome(await cpo.rotates(revoke_now=True)) == "OK"
        assert (await confirmed(emsp), await confirmed(cpo)) == ([True], [False])
        assert outcome(await emsp.unregisters()) == "OK"
        for us in (cpo, emsp):
            assert (await us.tokens(), (await us.get()).status) == ([], INTEGRATION_STATUS_UNREGISTERED)
        await emsp.given(*(await cpo.issue()))
        assert outcome(await emsp.registers()) == "OK"


async def test_without_a_common_version_nothing_is_exchanged(sides: Sides) -> None:
    async with sides({"ocpi_versions": "2.1.1"}, {"ocpi_versions": "2.2.1"}) as (cpo, emsp):
        await cpo.given(*(await emsp.issue()))
        assert outcome(await cpo.registers()) == "NO_COMMON_VERSION"
        assert not (await emsp.get()).ocpi.their_token_set


async def test_a_partner_that_cannot_call_back_says_3001_and_both_sides_tell(sides: Sides) -> None:
    async with sides() as (cpo, emsp):
        await cpo.given(*(await emsp.issue()))
        cpo.wire.faults += [("GET", "/2.3.0", "cut")] * 2
        run = await cpo.registers()
        assert (outcome(run), run.steps[-1].ocpi_status) == ("CALLBACK_FAILED", 3001)
        assert "EVBRIDGE_PUBLIC_URL" in run.steps[-1].next_action
        integration = await emsp.get()
        assert integration.status == INTEGRATION_STATUS_FAILED
        assert f"{cpo.wire.url}/ocpi/2.3.0 could not be read" in integration.status_description
        assert not integration.ocpi.their_token_set and not await cpo.tokens()
        assert outcome(await cpo.registers()) == "OK"
        assert (await emsp.get()).status == INTEGRATION_STATUS_ACTIVE


async def test_a_repeated_request_issues_the_same_token(sides: Sides) -> None:
    async with sides() as (cpo, _):
        id = "1e49b853-36fc-47ed-9826-97828b5b2fdd"
        request = IssueInitialTokenRequest(integration_id=ID, request_id=id)
        first, second = [await cpo.client.registration.IssueInitialToken(request) for _ in range(2)]
        assert first == second
        assert await confirmed(cpo) == [False]
        rehearsed = IssueInitialTokenRequest(integration_id=ID, validate_only=True)
        assert (await cpo.client.registration.IssueInitialToken(rehearsed)).token != first.token
        assert [token.initial for token in await cpo.tokens()] == [True]


# Every request of an exchange, by whom it reaches, and what may become of it.
REQUESTS = [
    ("called", "GET", "/versions"),
    ("called", "GET", "/2.3.0"),
    ("called", "POST", "/credentials"),
    ("called", "PUT", "/credentials"),
    ("caller", "GET", "/versions"),
    ("caller", "GET", "/2.3.0"),
    ("called", "GET", "/credentials"),
]
KINDS: tuple[FaultKind, ...] = ("cut", "lose_answer")
FAULTS = [(*request, kind) for request in REQUESTS for kind in KINDS]


async def put_through(us: Side, other: Side, fault: tuple[str, str, str, FaultKind]) -> None:
    """An exchange of credentials that we begin and that is hurt, and then what an operator does until it works.

    Raises AssertionError when it never does, or when afterwards more than one token opens a side.
    """
    whom, *what = fault
    wire = (other if whom == "called" else us).wire
    wire.faults += [tuple(what)] * 2  # type: ignore[list-item]
    if (await us.get()).ocpi.their_token_set:
        await us.rotates()
    else:
        await us.given(*(await other.issue()))
        await us.registers()
    wire.faults.clear()
    # By itself, with the tokens that there are; else with a first token that the other side's operator makes.
    run = await us.registers()
    if outcome(run) != "OK":
        assert outcome(run) == "TOKEN_REJECTED", run
        await us.given(*(await other.issue()))
        run = await us.registers()
    assert outcome(run) == "OK", (fault, run)
    assert outcome(await other.rotates()) == "OK", fault
    assert await confirmed(us) == [True], fault
    assert outcome(await us.rotates()) == "OK", fault
    assert await confirmed(other) == [True], fault


async def test_an_exchange_that_dies_at_any_step_locks_nobody_out(sides: Sides, soak: Callable[[int], int]) -> None:
    async with sides() as (cpo, emsp):
        for round in range(soak(10)):
            for number, fault in enumerate(FAULTS):
                us, other = (cpo, emsp) if (number + round) % 2 else (emsp, cpo)
                if fault[1] == "POST":
                    await us.unregisters()
                await put_through(us, other, fault)


async def test_a_control_a_token_that_ends_as_the_next_is_made_locks_out(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hasty(conn: Any, keyring: Any, tenant_id: str, integration_id: str, token: Any, **more: Any) -> int:
        await tokens_end(conn, tenant_id, integration_id)
        return await token_give(conn, keyring, tenant_id, integration_id, token, **more)

    async with sides() as (cpo, emsp):
        await cpo.given(*(await emsp.issue()))
        assert outcome(await cpo.registers()) == "OK"
        monkeypatch.setattr(door, "token_give", hasty)
        emsp.wire.faults += [("PUT", "/credentials", "lose_answer")]
        assert outcome(await cpo.rotates()) == "PARTNER_OUTCOME_UNKNOWN"
        assert outcome(await cpo.registers()) == "TOKEN_REJECTED"
        monkeypatch.undo()


async def test_a_token_that_may_be_known_ends_at_once(sides: Sides) -> None:
    async with sides() as (cpo, emsp):
        await cpo.given(*(await emsp.issue()))
        await cpo.registers()
        await emsp.rotates()
        known = {token.id for token in await cpo.tokens()}
        emsp.wire.faults += [("PUT", "/credentials", "cut")]
        assert outcome(await cpo.rotates(revoke_now=True)) == "PARTNER_OUTCOME_UNKNOWN"
        assert not known & {token.id for token in await cpo.tokens()}
        assert outcome(await emsp.rotates()) == "TOKEN_REJECTED"
        assert outcome(await cpo.rotates()) == "OK"
        assert outcome(await emsp.rotates()) == "OK"
