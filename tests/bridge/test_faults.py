"""Every fault of a partner, through the channel: the error it is, in time, in bounds, and no other partner feels it.

The controls show that these tests can fail: a plain HTTP client waits without end and takes in whatever it is sent.
"""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from evbridge.partner.ampeco.v3 import location_pb2 as ampeco_location
from evbridge.partner.ampeco.v3.location_pb2_grpc import LocationServiceStub
from evbridge.partner.emabler.v2 import integration_pb2 as emabler_integration
from evbridge.partner.emabler.v2.integration_pb2_grpc import IntegrationServiceStub

from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress
from service.bridge.ports import Permit
from service.bridge.registry import Registry, contract_files
from service.domain.partner_error import (
    PartnerCredentialRefused,
    PartnerError,
    PartnerFault,
    PartnerNotFound,
    PartnerOutcomeUnknown,
    PartnerRateLimited,
    PartnerRejected,
    PartnerUnavailable,
    PartnerVersionConflict,
)
from service.domain.secret import Secret
from service.domain.target import Target
from service.errors import EvbridgeError
from service.partners.ampeco import mapping as ampeco_errors
from service.partners.ampeco import simulator as ampeco
from service.partners.emabler import errors as emabler_errors
from service.partners.emabler import simulator as emabler
from service.simulator.simulator import Simulator
from tests.bridge.fake_ports import KEY, http_date

READ = ampeco_location.GetLocationRequest(integration_id="ampeco", location_id=1)
CREATE = ampeco_location.CreateLocationRequest(integration_id="ampeco", location={"city": "Espoo"})
SHORT_S = 1.0
"""What the integration with AMPECO allows a call that would never end; the others have time on a busy machine too."""
MIB = 1024 * 1024


class FakePortsOfTwo:
    """Two integrations of one tenant, each with all the slots it wants."""

    def __init__(self, **urls: str) -> None:
        self._urls = urls
        self.timeout_s = 15.0

    async def target(self, tenant_id: str, integration_id: str) -> Target:
        timeout_s = self.timeout_s if integration_id == "ampeco" else 15.0
        url = self._urls[integration_id]
        return Target(tenant_id, integration_id, integration_id, url, Secret(KEY), 4, timeout_s)

    @asynccontextmanager
    async def permit(self, target: Target, *, safe: bool, timeout_s: float) -> AsyncIterator[Permit]:
        yield Permit()


@pytest.fixture
async def faulty() -> AsyncIterator[Simulator]:
    """An AMPECO that holds one location."""
    made = ampeco.Simulator(api_key=KEY)
    made.objects["/public-api/resources/locations/v2.0/1"] = {"id": 1, "city": "Oulu"}
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def neighbour() -> AsyncIterator[Simulator]:
    """An eMabler that holds one integration."""
    made = emabler.Simulator(api_key=KEY)
    made.objects["/integrations/7"] = {"id": "7"}
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def ports(faulty: Simulator, neighbour: Simulator) -> FakePortsOfTwo:
    return FakePortsOfTwo(ampeco=faulty.url, emabler=neighbour.url)


@pytest.fixture
def channel(ports: FakePortsOfTwo, egress: Egress) -> PartnerChannel:
    files = [*contract_files("evbridge.partner.ampeco.v3"), *contract_files("evbridge.partner.emabler.v2")]
    return PartnerChannel(
        Registry.of(files), ports, ports, egress, {"ampeco": ampeco_errors, "emabler": emabler_errors}
    )


def asked(channel: PartnerChannel, request: Any) -> Awaitable[Any]:
    stub: Any = channel.stub(LocationServiceStub, "acme")
    name = type(request).__name__.removesuffix("Request")
    call: Awaitable[Any] = getattr(stub, name)(request)
    return call


async def failure(channel: PartnerChannel, request: Any) -> EvbridgeError:
    with pytest.raises(EvbridgeError) as raised:
        await asked(channel, request)
    return raised.value


async def neighbours_answers(channel: PartnerChannel, count: int) -> int:
    """How many of as many calls the other partner answered."""
    stub: Any = channel.stub(IntegrationServiceStub, "acme")
    request = emabler_integration.GetIntegrationRequest(integration_id="emabler", emabler_integration_id="7")
    answers = [await stub.GetIntegration(request) for _ in range(count)]
    return sum(answer.integration_id == "7" for answer in answers)


OUTCOMES: dict[str, tuple[type[PartnerError], type[PartnerError]]] = {
    # what the caller of a read and of a create sees
    "lose_answer": (PartnerUnavailable, PartnerOutcomeUnknown),
    "cut": (PartnerUnavailable, PartnerOutcomeUnknown),
    "delay:60": (PartnerUnavailable, PartnerOutcomeUnknown),
    "drip": (PartnerUnavailable, PartnerOutcomeUnknown),
    "status:400": (PartnerRejected, PartnerRejected),
    "status:401": (PartnerCredentialRefused, PartnerCredentialRefused),
    "status:403": (PartnerCredentialRefused, PartnerCredentialRefused),
    "status:404": (PartnerNotFound, PartnerNotFound),
    "status:409": (PartnerVersionConflict, PartnerVersionConflict),
    "status:422": (PartnerRejected, PartnerRejected),
    "status:429": (PartnerRateLimited, PartnerRateLimited),
    "status:500": (PartnerFault, PartnerFault),
    "status:502": (PartnerUnavailable, PartnerOutcomeUnknown),
    "status:503": (PartnerUnavailable, PartnerUnavailable),
    "status:504": (PartnerUnavailable, PartnerOutcomeUnknown),
    "status:599": (PartnerFault, PartnerFault),
    "garbage": (PartnerFault, PartnerOutcomeUnknown),
    "wrong_envelope": (PartnerFault, PartnerOutcomeUnknown),
    "huge": (PartnerFault, PartnerOutcomeUnknown),
    "gzip_bomb": (PartnerFault, PartnerOutcomeUnknown),
    "redirect:http://127.0.0.1:1/": (PartnerFault, PartnerFault),
}
ENDLESS = ("delay:60", "drip")


@pytest.mark.parametrize("request_", [READ, CREATE], ids=["read", "create"])
@pytest.mark.parametrize("fault", OUTCOMES)
async def test_a_fault_is_the_error_it_is_in_time_and_the_other_partner_answers(
    channel: PartnerChannel, ports: FakePortsOfTwo, faulty: Simulator, fault: str, request_: Any
) -> None:
    ports.timeout_s = SHORT_S if fault in ENDLESS else ports.timeout_s
    faulty.inject(f"2*{fault}")  # a read is tried a second time
    seen = asyncio.create_task(failure(channel, request_))
    assert await neighbours_answers(channel, 3) == 3
    assert not seen.done() or fault not in ENDLESS
    assert type(await asyncio.wait_for(seen, 40)) is OUTCOMES[fault][request_ is CREATE]
    held = [path for path in faulty.objects if not path.endswith("/1")]
    assert len(held) == (1 if fault == "lose_answer" and request_ is CREATE else 0)
    faulty.faults.clear()
    assert (await asked(channel, READ)).data.city == "Oulu"


async def test_a_fault_that_passes_is_not_seen_by_a_reader_and_is_by_a_writer(
    channel: PartnerChannel, faulty: Simulator
) -> None:
    for fault in ("cut", "lose_answer", "status:503"):
        faulty.inject(fault)
        assert (await asked(channel, READ)).data.city == "Oulu"
        faulty.inject(fault)
        await failure(channel, CREATE)
        assert not faulty.faults


@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [
        ("", 10, 10),
        (":7", 7, 7),
        (":0", 1, 1),
        (":86400", 3600, 3600),
        (":soon", 10, 10),
        (":-5", 10, 10),
        (timedelta(minutes=10), 300, 600),
        (":Wed, 21 Oct 2015 07:28:00 GMT", 1, 1),
    ],
)
async def test_each_kind_of_retry_after_is_a_pause_within_bounds(
    channel: PartnerChannel, faulty: Simulator, retry_after: str | timedelta, least: float, most: float
) -> None:
    if isinstance(retry_after, timedelta):
        retry_after = f":{http_date(retry_after)}"
    faulty.inject(f"status:429{retry_after}")
    error = await failure(channel, READ)
    assert type(error) is PartnerRateLimited
    assert error.retry_after_s is not None
    assert least <= error.retry_after_s <= most


class Memory:
    """The most that was allocated at once since it began, in bytes."""

    def __init__(self) -> None:
        gc.collect()
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]

    def peak(self) -> int:
        return tracemalloc.get_traced_memory()[1] - self._before


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("request_", [READ, CREATE], ids=["read", "create"])
@pytest.mark.parametrize("fault", ["huge", "gzip_bomb"])
async def test_memory_stays_flat_while_a_body_grows(
    channel: PartnerChannel, faulty: Simulator, fault: str, request_: Any
) -> None:
    faulty.inject(f"3*{fault}")
    await failure(channel, request_)  # makes what is made once: the bomb
    memory = Memory()
    await failure(channel, request_)
    assert memory.peak() < 40 * MIB


# Controls.


@asynccontextmanager
async def plain_request(faulty: Simulator) -> AsyncIterator[aiohttp.ClientResponse]:
    """As one would write it in five lines, with a time limit on each read."""
    timeout = aiohttp.ClientTimeout(total=None, sock_read=15)
    async with aiohttp.ClientSession(faulty.url, timeout=timeout) as http:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with http.get("/public-api/resources/locations/v2.0/1", headers=headers) as answer:
            yield answer


async def test_control_a_plain_client_waits_for_a_dripping_answer_without_end(faulty: Simulator) -> None:
    faulty.inject("drip")
    async with plain_request(faulty) as answer:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer.read(), 2 * SHORT_S)


@pytest.mark.usefixtures("traced")
async def test_control_a_plain_client_takes_in_the_whole_bomb(faulty: Simulator) -> None:
    faulty.inject("2*gzip_bomb")
    for _ in range(2):
        memory = Memory()
        async with plain_request(faulty) as answer:
            assert len(await answer.read()) == 64 * MIB
    assert memory.peak() > 60 * MIB
