"""Two processes exchange credentials and one of them is killed, at any step: an operator can always begin again."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import grpc
import pytest
from aiohttp import web
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_BOTH, OcpiConnection
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP, CreatePartyRequest, PartyKey
from evbridge.v1.run_pb2 import WaitRunRequest

from service.storage.api_key import api_key_create
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.statements import Statement
from tests.e2e.test_frozen import PROGRAM
from tests.front_door import Client, Serving, a_party, an_integration_of, environment, serving
from tests.rpc.test_registration import ID, REQUESTS, SPOKEN, Side, Wire, confirmed, leads_to, outcome


class Kill(NamedTuple):
    """At which request, by whom it reaches, who is killed before or after it was answered."""

    whom: str
    method: str
    path: str
    victim: Literal["called", "caller"]
    answered: bool


KILLS = [
    Kill(*request, victim, answered)
    for request in REQUESTS
    for victim in ("called", "caller")
    for answered in (False, True)
]
HELD = [f"{table} SET lease_until" for table in ("run", "gate_slot", "delivery")] + ["command SET send_time"]
"""What a process keeps from others for a while."""
FIRST = [Kill("called", "POST", "/credentials", "called", True), Kill("called", "PUT", "/credentials", "caller", True)]
"""The worst: each side has stored another half."""


@dataclass
class Deadly(Wire):
    """Kills a process at a request; what it says then is lost with it."""

    kill: Kill | None = None
    victim: "Process | None" = None
    killed: asyncio.Event = field(default_factory=asyncio.Event)

    async def carry(self, request: web.Request) -> web.StreamResponse:
        kill, victim = self.kill, self.victim
        if not (kill and victim and leads_to(request, kill.method, kill.path)):
            return await super().carry(request)
        self.kill = None
        await request.read()  # while there is somebody who sends it
        if kill.answered:
            answer = await self._forward(request)
            await victim.dies()
        else:
            await victim.dies()
            answer = web.Response(status=502) if kill.victim == "called" else await self._forward(request)
        self.killed.set()
        if kill.victim == "called" and request.transport:
            request.transport.abort()
        return answer


@dataclass
class Process(Side):
    """A side whose server is a process of its own. `running` is none."""

    wire: Deadly
    database: Any = None
    program: Sequence[str] = PROGRAM
    versions: str = SPOKEN["2.3.0"][0]
    server: Serving | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def starts(self) -> None:
        environ = environment(self.database_url, PUBLIC_URL=self.wire.url, OCPI_VERSIONS=self.versions)
        self.server = await self.stack.enter_async_context(serving(environ, program=self.program))
        here = re.search(r"which is (\S+)/ocpi/versions here", self.server.log)
        assert here, self.server.log
        self.wire.to = here[1]
        channel = await self.stack.enter_async_context(grpc.aio.insecure_channel(self.server.address))
        self.client = Client(channel, self.key)

    async def dies(self) -> None:
        assert self.server is not None
        self.server.process.kill()
        await self.server.process.wait()

    async def revives(self) -> None:
        await self.stack.aclose()
        for held in HELD:
            await self.database.run(Statement("time passes", f"UPDATE {held} = now() WHERE {held.split()[-1]} > now()"))
        await self.starts()
        if run_id := (await self.get()).latest_run_id:
            await self.client.runs.WaitRun(WaitRunRequest(id=run_id))


@asynccontextmanager
async def process(database_url: str, keyring: Keyring, party_id: str, role: Any, **more: Any) -> AsyncIterator[Process]:
    database = Database(database_url, acquire_timeout_s=5.0)
    await database.open()
    try:
        async with database.transaction() as conn:
            key = (await api_key_create(conn, keyring, "acme", "", 3)).reveal()
        async with Deadly().listening() as wire:
            assert isinstance(wire, Deadly)
            side = Process(None, None, wire, database_url, key, database, **more)  # type: ignore[arg-type]
            await side.starts()
            try:
                await side.client.parties.CreateParty(
                    CreatePartyRequest(party=a_party(party_id=party_id, roles=[role]))
                )
                integration = an_integration_of(
                    "ocpi",
                    "",
                    id=ID,
                    parties=[PartyKey(country_code="DE", party_id=party_id)],
                    ocpi=OcpiConnection(initial_role=INTERFACE_ROLE_BOTH),
                )
                await side.client.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
                yield side
            finally:
                await side.stack.aclose()
    finally:
        await database.close()


async def killed_through(us: Process, other: Process, kill: Kill) -> None:
    """An exchange that we begin and that a kill ends, and then what an operator does until it works."""
    wire = (other if kill.whom == "called" else us).wire
    called, caller = (other, us) if kill.whom == "called" else (us, other)
    wire.kill, wire.victim = kill, called if kill.victim == "called" else caller
    try:
        if (await us.get()).ocpi.their_token_set:
            await us.rotates()
        else:
            await us.given(*(await other.issue()))
            await us.registers()
    except grpc.aio.AioRpcError:
        assert wire.victim is us
    assert wire.kill is None, "nobody was killed"
    await wire.victim.revives()
    run = await us.registers()
    if outcome(run) != "OK":
        assert outcome(run) == "TOKEN_REJECTED", (kill, run)
        await us.given(*(await other.issue()))
        run = await us.registers()
    assert outcome(run) == "OK", (kill, run)
    for one, another in ((other, us), (us, other)):
        assert outcome(await one.rotates()) == "OK", kill
        assert await confirmed(another) == [True], kill


@pytest.mark.timeout(600)
async def test_a_killed_process_locks_nobody_out_and_leaves_no_second_token(
    new_database: Callable[[], Awaitable[str]], keyring: Keyring, soak: Callable[[int], int]
) -> None:
    kills: Sequence[Kill] = [*FIRST, *(kill for kill in KILLS if kill not in FIRST)]
    async with (
        process(await new_database(), keyring, "CPO", PARTY_ROLE_CPO) as cpo,
        process(await new_database(), keyring, "MSP", PARTY_ROLE_EMSP) as emsp,
    ):
        for number, kill in enumerate(kills[: soak(len(kills))]):
            us, other = (cpo, emsp) if number % 2 else (emsp, cpo)
            if kill.method == "POST" and (await us.get()).ocpi.their_token_set:
                await us.unregisters()
            await killed_through(us, other, kill)
