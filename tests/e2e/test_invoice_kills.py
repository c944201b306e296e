"""An operator's and a provider's process exchange what an invoice is about, and one of them is killed at any step."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import grpc
import pytest
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP

from service.storage.keyring import Keyring
from tests.circle import LIMIT_S, insisted, outliving
from tests.e2e.test_frozen import PROGRAM
from tests.e2e.test_handshake_kills import Kill, Process, process
from tests.front_door import at_rest
from tests.rpc.test_ocpi_invoice_reconciliation import PUSHES, held, issue, withdraw
from tests.rpc.test_ocpi_push import pushing
from tests.rpc.test_registration import ID, outcome

POST, PUT, DELETE = (
    ("POST", "/invoicereconciliation"),
    *((each, "/invoicereconciliation/*") for each in ("PUT", "DELETE")),
)
# The worst first: the record is there, and who sent it does not know.
KILLS = [
    Kill("emsp", *request, victim, answered)
    for answered in (True, False)
    for victim in ("caller", "called")
    for request in (POST, PUT, DELETE)
]
UNNOTED = (
    "-c",
    """
from service.__main__ import main
from service.delivery.disclosures import disclosed
from service.partners.ocpi import invoice_reconciliation_delivery
from service.storage.peer import PartKey

def unnoted(database, claim, peer, held, document):
    return disclosed(database, claim, document, PartKey(claim.object_kind))

invoice_reconciliation_delivery.sending = unnoted
main()
""",
)
"""It does not note that a record is on its way before it sends it."""


@asynccontextmanager
async def invoicing(
    new_database: Callable[[], Awaitable[str]], keyring: Keyring, program: Sequence[str] = PROGRAM
) -> AsyncIterator[tuple[Process, Process]]:
    """The operator runs `program`."""
    async with (
        process(await new_database(), keyring, "CPO", PARTY_ROLE_CPO, program=program) as cpo,
        process(await new_database(), keyring, "MSP", PARTY_ROLE_EMSP) as emsp,
    ):
        await cpo.given(*(await emsp.issue()))
        assert outcome(await cpo.registers()) == "OK"
        await pushing(cpo, PUSHES)
        yield cpo, emsp


async def told(cpo: Process, emsp: Process, id: str) -> None:
    """A record is issued, corrected, deleted and issued anew, each time until the provider has it so."""

    async def deleted() -> None:
        with outliving(grpc.StatusCode.NOT_FOUND):  # it was, and the answer was lost
            await withdraw(cpo, id=id)

    for act, has in (
        (partial(issue, cpo, id=id, cdrs=["C1"]), ["C1"]),
        (partial(issue, cpo, id=id, cdrs=["C2"]), ["C2"]),
        (deleted, None),
        (partial(issue, cpo, id=id, cdrs=["C3"]), ["C3"]),
    ):
        await insisted(act)
        await insisted(lambda: at_rest(cpo.client, ID))
        _, cdrs = (await insisted(lambda: held(emsp))).get(id, ("", None))
        assert cdrs == has


async def killed_through(cpo: Process, emsp: Process, kill: Kill, id: str) -> None:
    wire = emsp.wire
    wire.kill, wire.victim = kill, emsp if kill.victim == "called" else cpo
    async with asyncio.TaskGroup() as group:
        group.create_task(told(cpo, emsp, id))
        await asyncio.wait_for(wire.killed.wait(), LIMIT_S)
        wire.killed.clear()
        await wire.victim.revives()


async def check_once(cpo: Process, emsp: Process, ids: Sequence[str]) -> None:
    """Both sides have the same records: each was created twice, and posted only when it was new."""
    assert await held(emsp) == {id: ("2026/11-0042", ["C3"]) for id in ids}
    answers = [(method, status) for method, path, _, status in emsp.wire.answered if "invoice" in path]
    assert [status for _, status in answers].count(201) == 2 * len(ids)
    assert {status for method, status in answers if method == "POST"} == {201}


@pytest.mark.timeout(600)
async def test_what_is_invoiced_is_there_once_whoever_dies_at_any_step(
    new_database: Callable[[], Awaitable[str]], keyring: Keyring, soak: Callable[[int], int]
) -> None:
    async with invoicing(new_database, keyring) as (cpo, emsp):
        kills = KILLS[: soak(len(KILLS))]
        for number, kill in enumerate(kills):
            await killed_through(cpo, emsp, kill, f"R{number}")
        await check_once(cpo, emsp, [f"R{number}" for number in range(len(kills))])


async def test_a_control_who_does_not_note_what_is_sent_posts_it_twice(
    new_database: Callable[[], Awaitable[str]], keyring: Keyring, soak: Callable[[int], int]
) -> None:
    if soak(10) < 10:
        pytest.skip("`make soak` runs it")
    async with invoicing(new_database, keyring, UNNOTED) as (cpo, emsp):
        await killed_through(cpo, emsp, KILLS[0], "R0")
        with pytest.raises(AssertionError):
            await check_once(cpo, emsp, ["R0"])
