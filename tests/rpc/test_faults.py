"""What a caller of a partner's rpc learns when the partner misbehaves: a table of faults, and what it must not cost."""

import asyncio
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import grpc
import pytest
from aiohttp import web
from evbridge.partner.ampeco.v3.location_pb2 import GetLocationRequest, ListLocationsRequest
from evbridge.partner.ampeco.v3.location_pb2_grpc import LocationServiceStub
from evbridge.partner.ampeco.v3.tax_pb2 import CreateTaxRequest
from evbridge.partner.ampeco.v3.tax_pb2_grpc import TaxServiceStub
from evbridge.v1.integration_pb2 import CreateIntegrationRequest

from service.app import Evbridge
from service.bridge.egress import MAX_ANSWER_BYTES
from service.bridge.registry import Registry, contract_files
from tests.bridge.fake_ports import Partner, a_partner, http_date
from tests.conftest import Tenant
from tests.front_door import CONNECTIONS, Failure, an_integration_of, fails
from tests.rpc.test_contract import serving_things

TIMEOUT_S = 1.0
FAR_TOO_MUCH = 16 * MAX_ANSWER_BYTES

CODES = {
    "PARTNER_UNAVAILABLE": (grpc.StatusCode.UNAVAILABLE, "true"),
    "PARTNER_OUTCOME_UNKNOWN": (grpc.StatusCode.UNAVAILABLE, "false"),
    "PARTNER_RATE_LIMITED": (grpc.StatusCode.RESOURCE_EXHAUSTED, "true"),
    "PARTNER_CREDENTIAL_REFUSED": (grpc.StatusCode.FAILED_PRECONDITION, "false"),
    "PARTNER_REJECTED": (grpc.StatusCode.INVALID_ARGUMENT, "false"),
    "PARTNER_NOT_FOUND": (grpc.StatusCode.NOT_FOUND, "false"),
    "PARTNER_VERSION_CONFLICT": (grpc.StatusCode.ABORTED, "false"),
    "PARTNER_FAULT": (grpc.StatusCode.INTERNAL, "false"),
}
"""By reason: the code, and whether the caller may repeat the call."""

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def says(status: int, body: bytes = b"", **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


async def says_a_date(request: web.Request) -> web.StreamResponse:
    return await says(429, Retry_After=http_date(timedelta(minutes=30)))(request)


async def late(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def cut(request: web.Request) -> web.StreamResponse:
    """Once the request was received whole, and carried out for all that a caller knows."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut_inside(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"data": ')
    return await cut(request)


def streams(chunk: Callable[[], bytes], size: int, pause_s: float = 0.0, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={k.replace("_", "-"): v for k, v in headers.items()})
        await response.prepare(request)
        with suppress(ConnectionError):
            for _ in range(0, size, len(chunk())):
                await response.write(chunk())
                await asyncio.sleep(pause_s)
        return response

    return answer


@cache
def bomb() -> bytes:
    """Far too many zeros, in gzip."""
    packer = zlib.compressobj(wbits=31)
    zeros = bytes(MAX_ANSWER_BYTES)
    return b"".join([packer.compress(zeros) for _ in range(FAR_TOO_MUCH // len(zeros))]) + packer.flush()


drips = streams(lambda: b" ", 1000, pause_s=0.05)
huge = streams(lambda: bytes(65536), FAR_TOO_MUCH)


async def explodes(request: web.Request) -> web.StreamResponse:
    return await says(200, bomb(), Content_Encoding="gzip")(request)


@dataclass(frozen=True)
class Row:
    """`sent` counts a read's requests. `wait_s` are bounds of RetryInfo; without them there is none."""

    fault: str
    answer: Answer
    read: str
    change: str
    sent: int = 1
    wait_s: tuple[float, float] | None = None


UNAVAILABLE, UNKNOWN, LIMITED = "PARTNER_UNAVAILABLE", "PARTNER_OUTCOME_UNKNOWN", "PARTNER_RATE_LIMITED"
REFUSED, FAULT = "PARTNER_CREDENTIAL_REFUSED", "PARTNER_FAULT"
ROWS = [
    Row("delay beyond the deadline", late, UNAVAILABLE, UNKNOWN),
    Row("drip", drips, UNAVAILABLE, UNKNOWN),
    Row("answer lost after processing", cut, UNAVAILABLE, UNKNOWN, sent=2),
    Row("cut inside the answer", cut_inside, UNAVAILABLE, UNKNOWN, sent=2),
    Row("401", says(401), REFUSED, REFUSED),
    Row("403", says(403), REFUSED, REFUSED),
    Row("404", says(404), "PARTNER_NOT_FOUND", "PARTNER_NOT_FOUND"),
    Row("409", says(409), "PARTNER_VERSION_CONFLICT", "PARTNER_VERSION_CONFLICT"),
    Row("422", says(422), "PARTNER_REJECTED", "PARTNER_REJECTED"),
    Row("429, seconds", says(429, Retry_After="30"), LIMITED, LIMITED, wait_s=(30, 30)),
    Row("429, a date", says_a_date, LIMITED, LIMITED, wait_s=(900, 1800)),
    Row("429", says(429), LIMITED, LIMITED, wait_s=(10, 10)),
    Row("429, garbage", says(429, Retry_After="soon"), LIMITED, LIMITED, wait_s=(10, 10)),
    Row("500", says(500), FAULT, FAULT),
    Row("502", says(502), UNAVAILABLE, UNKNOWN, sent=2),
    Row("503", says(503), UNAVAILABLE, UNAVAILABLE, sent=2),
    Row("503, seconds", says(503, Retry_After="5"), UNAVAILABLE, UNAVAILABLE, wait_s=(5, 5)),
    Row("504", says(504), UNAVAILABLE, UNKNOWN, sent=2),
    Row("garbage", says(200, b"\xff<html>"), FAULT, UNKNOWN),
    Row("wrong envelope", says(200, b'{"tax": {"id": 1}, "location": {"id": 1}}'), FAULT, UNKNOWN),
    Row("huge body", huge, FAULT, UNKNOWN),
    Row("gzip bomb", explodes, FAULT, UNKNOWN),
]


@dataclass(frozen=True)
class Ampeco:
    """AMPECO's rpcs with a tenant's key, through the integration `ampeco` unless another is named."""

    channel: grpc.aio.Channel
    tenant: Tenant

    async def integrate(self, url: str, id: str = "ampeco") -> None:
        connection = type(CONNECTIONS["ampeco"])(base_url=url, api_token="partner-key")
        integration = an_integration_of("ampeco", id=id, ampeco=connection)
        await self.tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))

    def _options(self) -> dict[str, Any]:
        return {"metadata": (("authorization", f"Bearer {self.tenant.keys['writer']}"),), "timeout": 20}

    def read(self, id: str = "ampeco") -> Any:
        request = GetLocationRequest(integration_id=id, location_id=1)
        return LocationServiceStub(self.channel).GetLocation(request, **self._options())

    def change(self, id: str = "ampeco") -> Any:
        request = CreateTaxRequest(integration_id=id, tax={"name": "VAT", "percentage": {"value": "19"}})
        return TaxServiceStub(self.channel).CreateTax(request, **self._options())

    def stream(self) -> Any:
        request = ListLocationsRequest(integration_id="ampeco")
        return LocationServiceStub(self.channel).StreamLocations(request, **self._options())


@pytest.fixture(scope="module")
async def impatient(running: Evbridge) -> AsyncIterator[grpc.aio.Channel]:
    """A server that gives AMPECO a second to answer."""
    bomb()  # takes a part of it
    registry = Registry.of(contract_files("evbridge.partner.ampeco.v3"))
    async with serving_things(running, registry=registry, timeout_s=TIMEOUT_S) as channel:
        yield channel


@pytest.fixture
async def partner() -> AsyncIterator[Partner]:
    async with a_partner() as listening:
        yield listening


def is_as_told(failure: Failure, reason: str, wait_s: tuple[float, float] | None) -> None:
    assert failure.reason == reason
    assert (failure.code, failure.metadata["retryable"]) == CODES[reason]
    if wait_s is None:
        assert failure.retry_after_s is None
    else:
        assert failure.retry_after_s is not None
        assert wait_s[0] <= failure.retry_after_s <= wait_s[1]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
async def test_a_fault_is_told_by_its_reason_and_a_change_is_sent_once(
    impatient: grpc.aio.Channel, channel: grpc.aio.Channel, tenant: Tenant, partner: Partner, row: Row
) -> None:
    ampeco = Ampeco(impatient if row.answer in (late, drips) else channel, tenant)
    partner.answer = row.answer
    for id, call, reason, sent in (
        ("reads", ampeco.read, row.read, row.sent),
        ("ampeco", ampeco.change, row.change, 1),
    ):
        await ampeco.integrate(partner.url, id)
        failure = await fails(call("reads") if id == "reads" else call())
        is_as_told(failure, reason, row.wait_s)
        assert len(partner.received) == sent
        partner.received.clear()


@pytest.mark.parametrize("answer", [huge, explodes], ids=["huge body", "gzip bomb"])
async def test_an_answer_that_is_far_too_large_is_not_kept(
    channel: grpc.aio.Channel, tenant: Tenant, partner: Partner, answer: Answer
) -> None:
    ampeco = Ampeco(channel, tenant)
    await ampeco.integrate(partner.url)
    partner.answer = answer
    bomb()
    tracemalloc.start()
    try:
        assert (await fails(ampeco.read())).reason == FAULT
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * MAX_ANSWER_BYTES < FAR_TOO_MUCH


async def test_while_one_partner_hangs_another_integration_is_served(
    channel: grpc.aio.Channel, tenant: Tenant, partner: Partner
) -> None:
    ampeco = Ampeco(channel, tenant)
    released = asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.json_response({"data": {"id": 1}})

    partner.answer = hang
    await ampeco.integrate(partner.url)
    async with a_partner() as other:
        other.answers(200, b'{"data": {"id": 2}}')
        await ampeco.integrate(other.url, "other")
        hanging = [asyncio.ensure_future(ampeco.read()) for _ in range(30)]
        async with asyncio.timeout(10):
            while not partner.received:
                await asyncio.sleep(0.01)
            for _ in range(20):
                assert (await ampeco.read("other")).data.id == 2
        assert not any(each.done() for each in hanging)
        released.set()
        assert {answer.data.id for answer in await asyncio.gather(*hanging)} == {1}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    channel: grpc.aio.Channel, tenant: Tenant, partner: Partner, status: int
) -> None:
    ampeco = Ampeco(channel, tenant)
    async with a_partner() as foreign:
        await ampeco.integrate(partner.url)
        partner.answer = says(status, Location=f"{foreign.url}/public-api/resources/locations/v2.0/1")
        is_as_told(await fails(ampeco.read()), FAULT, None)
        is_as_told(await fails(ampeco.change()), FAULT, None)
        assert (len(partner.received), foreign.received) == (2, [])


async def test_the_next_page_is_not_asked_for_on_a_foreign_host(
    channel: grpc.aio.Channel, tenant: Tenant, partner: Partner
) -> None:
    ampeco = Ampeco(channel, tenant)
    async with a_partner() as foreign:
        await ampeco.integrate(partner.url)
        partner.answers(200, b'{"data": [{"id": 1}], "links": {"next": "%s/locations?page=2"}}' % foreign.url.encode())
        pages: list[list[int]] = []

        async def read() -> None:
            async for page in ampeco.stream():
                pages.append([location.id for location in page.data])

        failure = await fails(read())
        assert pages == [[1]]
        assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EGRESS_DENIED")
        assert failure.metadata == {"host": "127.0.0.1"}
        assert (len(partner.received), foreign.received) == (1, [])
