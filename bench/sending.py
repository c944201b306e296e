"""What one OCPI party is sent, CDRs and locations, beside a bare loop that sends the same bodies to it.

evbridge is a process of its own, with PostgreSQL, and so is the partner, which says when the first and the last came.
It answers at once, and then as late as one that is far away. The loop is aiohttp's client on connections that it keeps,
with as many requests at a time as evbridge makes. Processor time is the sender's, without PostgreSQL's.
"""

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import aiohttp
import grpc
from aiohttp import web
from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.cdr_pb2 import BatchCreateCdrsRequest, Cdr, CdrLocation
from evbridge.v1.cdr_pb2_grpc import CdrServiceStub
from evbridge.v1.cdr_token_pb2 import AUTH_METHOD_WHITELIST, CdrToken
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CDR, OBJECT_KIND_LOCATION
from evbridge.v1.integration_pb2 import (
    INTEGRATION_TYPE_OCPI,
    Integration,
    IntegrationModels,
    PauseIntegrationRequest,
    ResumeIntegrationRequest,
)
from evbridge.v1.integration_pb2_grpc import IntegrationServiceStub
from evbridge.v1.location_pb2 import (
    CONNECTOR_FORMAT_CABLE,
    CONNECTOR_TYPE_IEC_62196_T2_COMBO,
    POWER_TYPE_DC,
    TOKEN_TYPE_RFID,
    BatchUpsertLocationsRequest,
    GeoLocation,
)
from evbridge.v1.location_pb2_grpc import LocationServiceStub
from evbridge.v1.ocpi_connection_pb2 import (
    INTERFACE_ROLE_BOTH,
    INTERFACE_ROLE_RECEIVER,
    OcpiConnection,
    PartnerCompany,
    VersionDetails,
    VersionEndpoint,
)
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP, Party
from evbridge.v1.pricing_pb2 import CDR_DIMENSION_TYPE_ENERGY, CdrDimension, ChargingPeriod
from evbridge.v1.publication_pb2 import (
    PUBLICATION_EFFECT_VISIBLE,
    ConnectorSelection,
    CreatePublicationRuleRequest,
    PublicationRule,
)
from evbridge.v1.publication_pb2_grpc import PublicationServiceStub
from evbridge.v1.types_pb2 import BusinessDetails, Price
from google.type.decimal_pb2 import Decimal

from bench import servers
from bench.rounds import Child, child
from bench.sample import location
from service.app import evbridge
from service.cli.common import loop_factory
from service.domain.secret import Secret
from service.partners.ocpi.mapping import object_to, text_of
from service.settings import Settings
from service.storage.api_key import api_key_create
from service.storage.integration import THEIR_TOKEN, integration_insert, secrets_put
from service.storage.party import party_insert
from service.storage.target import DEFAULT_CONCURRENCY

COUNT, FULL_COUNT = 500, 5_000
VERSION = "2.2.1"
_BATCH = 50
_AT_ONCE = DEFAULT_CONCURRENCY - 1
"""As OcpiDeliverer.at_once has it."""
_ID, _TENANT = "provider", "acme"
_LIMIT_S = 200.0
_LATE_S = 0.03
_numbers = itertools.count()


class _Came(NamedTuple):
    """Requests that came to the partner, and the seconds between the first and the last."""

    count: int
    seconds: float

    @property
    def rate(self) -> float:
        return (self.count - 1) / self.seconds


def report(count: int = COUNT) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_report(count))


async def _report(count: int) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="evb", dir="/tmp") as directory,
        child(partner) as receiver,
    ):
        url = await asyncio.to_thread(receiver.pipe.recv)
        with child(serve, Path(directory), url) as server:
            address, key = await asyncio.to_thread(server.pipe.recv)
            print(f"\nOCPI {VERSION}: {count} objects sent to one partner, and the same by a bare loop\n")
            print(f"{'':12}{'a second':>10}{'loop':>8}{'of loop':>9}{'CPU us':>9}{'loop':>8}")
            async with grpc.aio.insecure_channel(address) as channel:
                bearer = (("authorization", f"Bearer {key}"),)
                rule = PublicationRule(integration_id=_ID, id="all", effect=PUBLICATION_EFFECT_VISIBLE)
                rule.connectors.CopyFrom(ConnectorSelection(everything=True))
                publication: Any = PublicationServiceStub(channel)
                await publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=rule), metadata=bearer)
                for late_s in (0.0, _LATE_S):
                    print(f"answered after {1000 * late_s:.0f} ms")
                    receiver.ask(late_s)
                    for kind in ("cdrs", "locations"):
                        await _measure(kind, channel, bearer, server, receiver, url, count)


async def _measure(kind: str, channel: Any, bearer: Any, server: Child, receiver: Child, url: str, count: int) -> None:
    method, path = {"cdrs": ("POST", "/cdrs"), "locations": ("PUT", "/locations/DE/WAT/{}")}[kind]
    taken = next(_numbers) * count
    objects = [_cdr(taken + number) if kind == "cdrs" else location(taken + number) for number in range(count)]
    bodies = [text_of(object_to(each, VERSION).object).encode() for each in objects]
    _came(receiver)
    begun = process_time()
    async with aiohttp.ClientSession() as http:

        async def send(some: Iterator[tuple[int, bytes]]) -> None:
            for number, body in some:
                headers = {"Authorization": "Token bench", "Content-Type": "application/json"}
                async with http.request(method, url + path.format(number), data=body, headers=headers) as answer:
                    await answer.read()

        left = iter(enumerate(bodies))
        await asyncio.gather(*(send(left) for _ in range(_AT_ONCE)))
    loop_us = (process_time() - begun) / count * 1e6
    loop = _came(receiver)
    integrations: Any = IntegrationServiceStub(channel)
    await integrations.PauseIntegration(PauseIntegrationRequest(id=_ID), metadata=bearer)
    await _store(kind, channel, bearer, objects)
    cpu_s = server.cpu_s()
    await integrations.ResumeIntegration(ResumeIntegrationRequest(id=_ID), metadata=bearer)
    ours = _Came(0, 0.0)
    begun = perf_counter()
    while ours.count < count:
        assert perf_counter() - begun < _LIMIT_S, ours
        await asyncio.sleep(0.5)
        ours = _came(receiver, keep=ours.count < count)
    cpu_us = (server.cpu_s() - cpu_s) / count * 1e6
    print(
        f"{kind:12}{ours.rate:10.0f}{loop.rate:8.0f}{ours.rate / loop.rate:9.2f}{cpu_us:9.0f}{loop_us:8.0f}",
        flush=True,
    )


async def _store(kind: str, channel: Any, bearer: Any, objects: Sequence[Any]) -> None:
    for begin in range(0, len(objects), _BATCH):
        few = objects[begin : begin + _BATCH]
        if kind == "cdrs":
            cdrs: Any = CdrServiceStub(channel)
            answer = await cdrs.BatchCreateCdrs(BatchCreateCdrsRequest(cdrs=few), metadata=bearer)
        else:
            request = BatchUpsertLocationsRequest(locations=few, allow_missing=True)
            locations: Any = LocationServiceStub(channel)
            answer = await locations.BatchUpsertLocations(request, metadata=bearer)
        assert not any(result.HasField("error") for result in answer.results), answer


def _came(receiver: Child, *, keep: bool = False) -> _Came:
    """What came since this was asked last without `keep`."""
    came: _Came = receiver.ask(keep)
    return came


def partner(pipe: Connection) -> None:
    """A process's main: tells its URL, then, as often as it is asked, what came.

    A number says how late it answers from then on.
    """
    times: list[float] = []

    late_s = 0.0

    async def take(request: web.Request) -> web.Response:
        await request.read()
        times.append(perf_counter())
        await asyncio.sleep(late_s)
        place = {"Location": f"{request.url}/{len(times)}"} if request.method == "POST" else {}
        text = '{"status_code": 1000, "timestamp": "2026-01-01T00:00:00Z"}'
        return web.Response(text=text, status=201, headers=place, content_type="application/json")

    async def run() -> None:
        nonlocal late_s
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", take)
        async with servers.http(application) as address:
            pipe.send(f"http://{address}")
            with suppress(EOFError):
                while True:
                    asked = await asyncio.to_thread(pipe.recv)
                    pipe.send(_Came(len(times), times[-1] - times[0] if times else 0.0))
                    late_s = asked if isinstance(asked, float) else late_s
                    if asked is not True:
                        times.clear()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


def serve(pipe: Connection, directory: Path, partner_url: str) -> None:
    """A process's main: tells its address and a key."""

    async def run() -> None:
        async with _registered(directory, partner_url) as told:
            pipe.send(told)
            with suppress(EOFError):
                await asyncio.to_thread(pipe.recv)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


@asynccontextmanager
async def _registered(directory: Path, partner_url: str) -> AsyncIterator[tuple[str, str]]:
    settings = Settings(
        listen="127.0.0.1:0", data_dir=directory, first_key=False, egress_allow_loopback=True, egress_allow_http=True
    )
    async with evbridge(settings) as running:
        async with running.database.transaction() as conn:
            key = await api_key_create(conn, running.keyring, _TENANT, "", options.ROLE_ADMIN)
            ours = Party(country_code="DE", party_id="WAT", roles=[PARTY_ROLE_CPO])
            ours.business_details.CopyFrom(BusinessDetails(name="Wattwerk"))
            await party_insert(conn, _TENANT, ours)
            takes = (OBJECT_KIND_LOCATION, OBJECT_KIND_CDR)
            await integration_insert(conn, _TENANT, _integration(partner_url), takes)
            await secrets_put(conn, running.keyring, _TENANT, _ID, {THEIR_TOKEN: Secret("token-of-the-bench")})
        yield running.address, key.reveal()


def _integration(url: str) -> Integration:
    endpoints = [
        VersionEndpoint(identifier=module, role=INTERFACE_ROLE_RECEIVER, url=f"{url}/{module}")
        for module in ("cdrs", "locations")
    ]
    return Integration(
        id=_ID,
        type=INTEGRATION_TYPE_OCPI,
        enabled=True,
        models=IntegrationModels(push_cdr=True, push_location=True),
        ocpi=OcpiConnection(endpoint_url=f"{url}/versions", initial_role=INTERFACE_ROLE_BOTH, their_token_set=True),
        version_details=VersionDetails(version=VERSION, endpoints=endpoints),
        partner_company_details=[PartnerCompany(role=PARTY_ROLE_EMSP, country_code="DE", party_id="EMP")],
    )


def _cdr(number: int) -> Cdr:
    """20 kWh in four periods; about 2 KB as JSON."""
    start_s = 1_790_000_000 + 60 * number
    cdr = Cdr(
        country_code="DE",
        party_id="WAT",
        id=f"CDR-{number:06}",
        session_id=f"SESSION-{number:06}",
        auth_method=AUTH_METHOD_WHITELIST,
        currency="EUR",
        total_cost=Price(excl_vat=Decimal(value="9.99"), incl_vat=Decimal(value="11.89")),
        total_energy=Decimal(value="20.5"),
        total_time=Decimal(value="1"),
    )
    token = CdrToken(country_code="DE", party_id="EMP", uid=f"04A1{number:06}", contract_id=f"DEEMPC{number:08}X")
    token.type = TOKEN_TYPE_RFID
    cdr.cdr_token.CopyFrom(token)
    place = CdrLocation(
        id="SITE-000001",
        address="Hermann-Löns-Straße 12a",
        city="Freiburg im Breisgau",
        country="DEU",
        coordinates=GeoLocation(latitude="47.010000", longitude="7.001000"),
        evse_uid="A1",
        evse_id="DE*WAT*E000001*A1",
        connector_id="1",
        connector_standard=CONNECTOR_TYPE_IEC_62196_T2_COMBO,
        connector_format=CONNECTOR_FORMAT_CABLE,
        connector_power_type=POWER_TYPE_DC,
    )
    cdr.cdr_location.CopyFrom(place)
    cdr.start_date_time.seconds, cdr.end_date_time.seconds = start_s, start_s + 3600
    energy = CdrDimension(type=CDR_DIMENSION_TYPE_ENERGY, volume=Decimal(value="5.125"))
    for quarter in range(4):
        period = ChargingPeriod(dimensions=[energy], tariff_id="T1")
        period.start_date_time.seconds = start_s + 900 * quarter
        cdr.charging_periods.append(period)
    return cdr
