"""The whole circle between two processes: one is killed at any step, or serves another version from a step on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from evbridge.v1.location_pb2 import BatchUpsertLocationsRequest
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP

from service.storage.keyring import Keyring
from tests.circle import HERS, LIMIT_S, Circle, Operator, agreed
from tests.e2e.test_frozen import PROGRAM
from tests.e2e.test_handshake_kills import Kill, Process, process
from tests.front_door import a_location
from tests.rpc.test_circle import REQUESTS, check_once
from tests.rpc.test_registration import SPOKEN, outcome

KILLS = [
    Kill(*request, victim, answered)
    for request in reversed(REQUESTS)
    for victim in ("caller", "called")
    for answered in (True, False)
]
# It does not note that a CDR is on its way before it sends it.
UNNOTED = (
    "-c",
    """
from service.__main__ import main
from service.delivery import disclosures, once
from service.storage.peer import PartKey

def unnoted(database, claim, peer, held, document):
    return disclosures.disclosed(database, claim, document, PartKey(claim.object_kind))

once.sending = unnoted
main()
""",
)


NewDatabase = Callable[[], Awaitable[str]]


@pytest.fixture
def soaking(soak: Callable[[int], int]) -> None:
    if soak(10) < 10:
        pytest.skip("takes minutes: `make soak` runs it")


@asynccontextmanager
async def roaming(
    new_database: NewDatabase, keyring: Keyring, version: str = "2.2.1", program: Sequence[str] = PROGRAM
) -> AsyncIterator[tuple[Process, Process, Operator]]:
    """As in tests/rpc/test_circle.py; the operator runs `program`, and decides the version."""
    async with (
        process(await new_database(), keyring, "CPO", PARTY_ROLE_CPO, program=program, versions=up_to(version)) as cpo,
        process(await new_database(), keyring, "MSP", PARTY_ROLE_EMSP) as emsp,
    ):
        await agreed(cpo, emsp)
        await cpo.given(*(await emsp.issue()))
        assert outcome(await cpo.registers()) == "OK"
        place = a_location(**HERS, id="L1")
        request = BatchUpsertLocationsRequest(locations=[place], allow_missing=True)
        assert (await cpo.client.locations.BatchUpsertLocations(request)).results[0].HasField("location")
        async with Operator(cpo).serving() as operator:
            yield cpo, emsp, operator


def up_to(version: str) -> str:
    return ",".join(each for each in SPOKEN if each <= version)


async def killed_through(cpo: Process, emsp: Process, operator: Operator, kill: Kill) -> Circle:
    """A circle in which a process is killed and started again, to its end."""
    called, caller = (cpo, emsp) if kill.whom == "cpo" else (emsp, cpo)
    wire = called.wire
    wire.kill, wire.victim = kill, called if kill.victim == "called" else caller
    circle = Circle(cpo, emsp, operator)
    async with asyncio.TaskGroup() as group:
        group.create_task(circle.runs())
        await asyncio.wait_for(wire.killed.wait(), LIMIT_S)
        wire.killed.clear()
        assert wire.victim
        await wire.victim.revives()
    return circle


async def closed_in_newer_versions(cpo: Process, emsp: Process, operator: Operator) -> Circle:
    """A circle that begins in 2.1.1."""
    circle = Circle(cpo, emsp, operator)
    for step in circle.steps:
        if newer := {circle.charge: "2.2.1", circle.bill: "2.3.0"}.get(step):
            cpo.versions = up_to(newer)
            await cpo.dies()
            await cpo.revives()
            assert outcome(await cpo.registers()) == "OK"
            assert (await emsp.get()).version_details.version == newer
        await step()
    return circle


@pytest.mark.timeout(600)
async def test_it_closes_in_a_newer_version_than_it_began_in_and_whoever_dies_at_any_step(
    new_database: NewDatabase, keyring: Keyring, soak: Callable[[int], int]
) -> None:
    async with roaming(new_database, keyring, "2.1.1") as (cpo, emsp, operator):
        circles = [await closed_in_newer_versions(cpo, emsp, operator)]
        for kill in KILLS[: soak(len(KILLS))]:
            circles.append(await killed_through(cpo, emsp, operator, kill))
        await check_once(cpo, emsp, circles)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", ["2.1.1", "2.2.1"])
async def test_it_closes_in_older_versions_whoever_dies(
    new_database: NewDatabase, keyring: Keyring, version: str, soaking: None
) -> None:
    async with roaming(new_database, keyring, version) as (cpo, emsp, operator):
        circles = [Circle(cpo, emsp, operator)]
        await circles[0].runs()
        for kill in KILLS:
            circles.append(await killed_through(cpo, emsp, operator, kill))
        await check_once(cpo, emsp, circles)


async def test_a_control_who_does_not_note_what_is_sent_bills_twice(
    new_database: NewDatabase, keyring: Keyring, soaking: None
) -> None:
    async with roaming(new_database, keyring, program=UNNOTED) as (cpo, emsp, operator):
        circles = [Circle(cpo, emsp, operator)]
        await circles[0].runs()
        circles.append(await killed_through(cpo, emsp, operator, KILLS[0]))
        with pytest.raises(AssertionError):
            await check_once(cpo, emsp, circles)
