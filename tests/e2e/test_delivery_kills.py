"""A process is killed between the claim of a delivery and its request, and between the answer and writing it down."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from evbridge.v1.company_pb2 import UpsertCompanyRequest
from evbridge.v1.delivery_pb2 import DELIVERY_STATE_DELIVERED
from evbridge.v1.integration_pb2 import CreateIntegrationRequest, IntegrationModels
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP
from evbridge.v1.tariff_pb2 import CreateTariffRequest

from service.partners.chargeprice.simulator import Simulator
from service.storage.keyring import Keyring
from tests.e2e.test_circle_kills import UNNOTED, NewDatabase, soaking
from tests.e2e.test_frozen import PROGRAM
from tests.e2e.test_handshake_kills import Process, process
from tests.front_door import a_company, a_connector, a_location, a_tariff, an_evse, an_integration, at_rest
from tests.rpc.test_ocpi_charged import bill
from tests.rpc.test_ocpi_push import HERS, pushing, show, store
from tests.rpc.test_registration import ID, Side, outcome, side

__all__ = ["soaking"]
MODELS = IntegrationModels(push_location=True, push_tariff=True, push_cdr=True)
# A worker that stands still at a point of every delivery but that of C0, and says so.
HELD = """
import asyncio, sys
from service.delivery.worker import DeliveryWorker

async def held(worker, claim, what, *more):
    if claim.object_id == "DECPOc0":
        return await point(worker, claim, what, *more)
    print("held here", file=sys.stderr, flush=True)
    await asyncio.Event().wait()

name = sys.argv.pop(1)
point = getattr(DeliveryWorker, name)
setattr(DeliveryWorker, name, held)
"""
CLAIMED, ANSWERED = "_deliver", "_record_success"
MAIN = "from service.__main__ import main; main()"


@asynccontextmanager
async def delivering(
    new_database: NewDatabase, keyring: Keyring, simulator: Simulator
) -> AsyncIterator[tuple[Process, Side]]:
    """An operator whose deliveries are held once they are claimed, and a provider that it has sent the CDR C0."""
    async with (
        process(await new_database(), keyring, "CPO", PARTY_ROLE_CPO, program=("-c", HELD + MAIN, CLAIMED)) as cpo,
        side(await new_database(), "MSP", PARTY_ROLE_EMSP) as emsp,
    ):
        await cpo.client.integrations.CreateIntegration(
            CreateIntegrationRequest(integration=an_integration(simulator.url, id="cp"))
        )
        await show(cpo)
        await pushing(cpo, MODELS)
        await cpo.given(*(await emsp.issue()))
        assert outcome(await cpo.registers()) == "OK"
        await bill(cpo, "C0")
        await at_rest(cpo.client, ID)
        yield cpo, emsp


async def killed(cpo: Process, held: int) -> None:
    """Once so many deliveries are held."""
    assert cpo.server
    while cpo.server.log.count("held here") < held:
        await asyncio.sleep(0.01)
    await cpo.dies()


async def begins(cpo: Process, *program: str) -> None:
    cpo.program = program
    await cpo.revives()


async def killed_twice(cpo: Process, emsp: Side, simulator: Simulator, number: int, main: str = MAIN) -> None:
    """What changes arrives once and in order, though the process dies after the claim, and again after the answer."""

    async def tell() -> None:
        tariff = a_tariff(**HERS, id=f"T{number}")
        await cpo.client.tariffs.CreateTariff(CreateTariffRequest(tariff=tariff))
        evse = an_evse(connectors=[a_connector(tariff_ids=[tariff.id])])
        await store(cpo, a_location(**HERS, id=f"L{number}", evses=[evse]))

    if number % 2 == 0:
        await tell()
    await bill(cpo, f"C{number}")
    if number % 2:
        await tell()
    company = a_company()
    await cpo.client.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    await killed(cpo, 2)
    await begins(cpo, "-c", HELD + main, ANSWERED)
    company.version, company.name = 2, "Changed"
    await cpo.client.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    await killed(cpo, 2)
    await begins(cpo, *PROGRAM)
    for integration_id in (ID, "cp"):
        assert {each.state for each in await at_rest(cpo.client, integration_id)} == {DELIVERY_STATE_DELIVERED}
    assert [version for id, version in simulator.history if id == company.id] == [1, 2]
    arrived = [(method, path.rpartition("/")[2]) for method, path, *_ in emsp.wire.answered]
    assert arrived.index(("PUT", f"T{number}")) < arrived.index(("PUT", f"L{number}"))
    assert arrived.count(("POST", "cdrs")) == 1 + number


@pytest.mark.timeout(600)
async def test_it_arrives_once_and_in_order_whoever_dies_at_either_point(
    new_database: NewDatabase, keyring: Keyring, simulator: Simulator, soak: Callable[[int], int]
) -> None:
    async with delivering(new_database, keyring, simulator) as (cpo, emsp):
        for number in range(1, 1 + soak(10)):
            if number > 1:
                await cpo.dies()
                await begins(cpo, "-c", HELD + MAIN, CLAIMED)
            await killed_twice(cpo, emsp, simulator, number)


async def test_a_control_who_does_not_note_what_is_sent_bills_twice(
    new_database: NewDatabase, keyring: Keyring, simulator: Simulator, soaking: None
) -> None:
    async with delivering(new_database, keyring, simulator) as (cpo, emsp):
        with pytest.raises(AssertionError, match="cdrs"):
            await killed_twice(cpo, emsp, simulator, 1, UNNOTED[1])
