"""A generated stub on the HTTP channel: what the partner receives, and what its answers become."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from evbridge.partner.chargeprice.v1 import company_pb2
from evbridge.partner.chargeprice.v1.company_pb2 import (
    CompanyDocument,
    DeleteCompanyRequest,
    ListCompaniesRequest,
    UpsertCompanyRequest,
)
from evbridge.partner.chargeprice.v1.company_pb2_grpc import CompanyServiceStub
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service import errors
from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress
from service.bridge.ports import Exchange
from service.bridge.registry import Registry
from service.errors import (
    EgressDenied,
    EvbridgeError,
    InvalidArgument,
    PartnerCredentialRefused,
    PartnerError,
    PartnerFault,
    PartnerNotFound,
    PartnerOutcomeUnknown,
    PartnerRateLimited,
    PartnerRejected,
    PartnerUnavailable,
    PartnerVersionConflict,
    ResourceNotFound,
)
from tests.bridge.house import KEY, House

TENANT = (("evbridge-tenant", "acme"),)
ID = "1e49b853-36fc-47ed-9826-97828b5b2fdd"
LIST = ListCompaniesRequest(integration_id="cp", filter_id=ID, page_size=1)
UPSERT = UpsertCompanyRequest(integration_id="cp", company_id=ID, document={"data": {"id": ID, "type": "company"}})
ONE = b'{"data": {"id": "%s", "type": "company"}}' % ID.encode()
PAGE = b'{"data": [{"id": "%s", "type": "company"}], "meta": {"overall_count": 1}}' % ID.encode()
CANARY = "canary-text-of-the-partner"

Connect = Callable[[House], PartnerChannel]


@dataclass
class Partner:
    """A plain HTTP server. `answer` says what comes back; `received` is what came in."""

    url: str = ""
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    received: list[tuple[web.Request, bytes]] = field(default_factory=list)

    def answers(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=body, headers=named)

        self.answer = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.received.append((request, await request.read()))
        assert self.answer is not None
        return await self.answer(request)


@pytest.fixture
async def partner() -> AsyncIterator[Partner]:
    made = Partner()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def call(channel: PartnerChannel, request: Any, **arguments: Any) -> Any:
    stub: Any = CompanyServiceStub(channel)  # type: ignore[arg-type]
    method = {UpsertCompanyRequest: "UpsertCompany", ListCompaniesRequest: "ListCompanies"}[type(request)]
    return await getattr(stub, method)(request, metadata=TENANT, **arguments)


async def failure(channel: PartnerChannel, request: Any, **arguments: Any) -> EvbridgeError:
    with pytest.raises(EvbridgeError) as raised:
        await call(channel, request, **arguments)
    told = "".join(traceback.format_exception(raised.value)) + repr(raised.value) + str(vars(raised.value))
    assert KEY not in told
    assert CANARY not in told
    return raised.value


async def test_an_unmodified_stub_makes_the_http_call_of_the_contract(partner: Partner, connect: Connect) -> None:
    partner.answers(200, PAGE)
    page = await call(connect(House(partner.url)), LIST)
    assert [company.id for company in page.data] == [ID]
    assert page.meta.overall_count == 1
    ((request, body),) = partner.received
    assert request.method == "GET"
    assert request.raw_path == f"/v1/companies?filter%5Bid%5D={ID}&page%5Bsize%5D=1"
    assert request.headers["API-Key"] == KEY
    assert request.headers["Accept"] == "application/json"
    assert request.headers["User-Agent"].startswith("evbridge/")
    assert "Content-Type" not in request.headers
    assert body == b""


async def test_a_change_carries_its_body_as_json(partner: Partner, connect: Connect) -> None:
    partner.answers(201, ONE)
    document = await call(connect(House(partner.url)), UPSERT)
    assert document == CompanyDocument(data={"id": ID, "type": "company"})
    ((request, body),) = partner.received
    assert (request.method, request.raw_path) == ("PUT", f"/v1/companies/{ID}")
    assert request.headers["Content-Type"] == "application/json"
    assert b'"company"' in body


async def test_an_answer_without_a_body_is_an_empty_message(partner: Partner, connect: Connect) -> None:
    partner.answers(204)
    stub: Any = CompanyServiceStub(connect(House(partner.url)))  # type: ignore[arg-type]
    await stub.DeleteCompany(DeleteCompanyRequest(integration_id="cp", company_id=ID), metadata=TENANT)
    assert partner.received[0][0].method == "DELETE"


async def test_one_unreadable_object_of_a_page_costs_that_object_alone(partner: Partner, connect: Connect) -> None:
    partner.answers(200, b'{"data": [{"id": "a", "type": "company"}, {"id": {}}, {"id": "c", "type": "company"}]}')
    page = await call(connect(House(partner.url)), LIST)
    assert [company.id for company in page.data] == ["a", "c"]


STATUSES: list[tuple[int, type[PartnerError], type[PartnerError]]] = [
    # status, for a request that reads, for a request that changes something
    (400, PartnerRejected, PartnerRejected),
    (401, PartnerCredentialRefused, PartnerCredentialRefused),
    (402, PartnerRejected, PartnerRejected),
    (403, PartnerCredentialRefused, PartnerCredentialRefused),
    (404, PartnerNotFound, PartnerNotFound),
    (405, PartnerRejected, PartnerRejected),
    (408, PartnerUnavailable, PartnerOutcomeUnknown),
    (409, PartnerVersionConflict, PartnerVersionConflict),
    (410, PartnerNotFound, PartnerNotFound),
    (412, PartnerVersionConflict, PartnerVersionConflict),
    (413, PartnerRejected, PartnerRejected),
    (415, PartnerRejected, PartnerRejected),
    (418, PartnerRejected, PartnerRejected),
    (422, PartnerRejected, PartnerRejected),
    (429, PartnerRateLimited, PartnerRateLimited),
    (451, PartnerRejected, PartnerRejected),
    (500, PartnerFault, PartnerFault),
    (501, PartnerFault, PartnerFault),
    (502, PartnerUnavailable, PartnerOutcomeUnknown),
    (503, PartnerUnavailable, PartnerUnavailable),
    (504, PartnerUnavailable, PartnerOutcomeUnknown),
    (507, PartnerFault, PartnerFault),
    (599, PartnerFault, PartnerFault),
    (300, PartnerFault, PartnerFault),
    (301, PartnerFault, PartnerFault),
    (304, PartnerFault, PartnerFault),
    (307, PartnerFault, PartnerFault),
]


@pytest.mark.parametrize(("status", "read", "change"), STATUSES)
@pytest.mark.parametrize("changes", [False, True], ids=["read", "change"])
async def test_each_status_becomes_one_error(
    partner: Partner,
    connect: Connect,
    status: int,
    read: type[PartnerError],
    change: type[PartnerError],
    changes: bool,
) -> None:
    body = b'{"errors": [{"status": "%d", "code": "A_CODE.x-1", "title": "%s"}]}' % (status, CANARY.encode())
    partner.answers(status, body, Location=f"{partner.url}/elsewhere")
    error = await failure(connect(House(partner.url)), UPSERT if changes else LIST)
    assert type(error) is (change if changes else read)
    assert isinstance(error, PartnerError)
    assert error.http_status == status
    # A status without a body has no code.
    code = "" if status == 304 else "A_CODE.x-1"
    assert error.metadata == {
        "partner": "chargeprice",
        "http_status": str(status),
        **({"partner_code": code} if code else {}),
    }
    assert {request.path for request, _ in partner.received} == {UPSERT_PATH if changes else "/v1/companies"}
    tried_twice = not changes and type(error) is PartnerUnavailable
    assert len(partner.received) == (2 if tried_twice else 1)


UPSERT_PATH = f"/v1/companies/{ID}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"<html>It works!</html>",
        b'{"errors": []}',
        b'{"errors": [{"title": "no code"}]}',
        b'{"errors": [{"code": null}]}',
        b'{"errors": [{"code": {"deep": 1}}]}',
        b'{"errors": "text"}',
        b'{"message": "canary-text-of-the-partner"}',
        b'{"errors": [{"code": "',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:30]),
)
async def test_an_error_body_nobody_understands_is_an_error_without_a_code(
    partner: Partner, connect: Connect, body: bytes
) -> None:
    partner.answers(400, body)
    error = await failure(connect(House(partner.url)), UPSERT)
    assert type(error) is PartnerRejected
    assert error.partner_code == ""


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("VERSION_CONFLICT", "VERSION_CONFLICT"),
        ("a b<script>\\n\\u001b[31m", "abscriptn31m".replace("n31m", "31m")),
        ("x" * 500, "x" * 100),
        ("\\u00fc\\u00df", ""),
    ],
)
async def test_a_partners_code_is_bounded(partner: Partner, connect: Connect, sent: str, kept: str) -> None:
    partner.answers(409, f'{{"errors": [{{"code": "{sent}"}}]}}'.encode())
    error = await failure(connect(House(partner.url)), UPSERT)
    assert isinstance(error, PartnerVersionConflict)
    assert error.partner_code == kept


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>It works!</html>",
        b'{"company": {"name": "canary-text-of-the-partner"}}',
        b'{"data": 1}',
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b" " * (8 * 1024 * 1024 + 1),
    ],
    ids=lambda body: repr(body[:30]),
)
async def test_a_good_status_with_an_unreadable_body_is_not_a_success(
    partner: Partner, connect: Connect, body: bytes
) -> None:
    partner.answers(200, body)
    channel = connect(House(partner.url))
    assert type(await failure(channel, LIST)) is PartnerFault
    assert type(await failure(channel, UPSERT)) is PartnerOutcomeUnknown
    assert len(partner.received) == 2


SOON = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
LONG_AGO = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("30", 30, 30),
        ("0", 1, 1),
        ("86400", 3600, 3600),
        ("9" * 4000, 3600, 3600),
        (SOON, 500, 600),
        (LONG_AGO, 1, 1),
        ("Sun Nov  6 08:49:37 1994", 1, 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600, 3600),
    ],
)
async def test_retry_after_is_honoured_within_bounds(
    partner: Partner, connect: Connect, header: str, least: float, most: float
) -> None:
    for status in (429, 503):
        partner.answers(status, Retry_After=header)
        error = await failure(connect(House(partner.url)), LIST)
        assert error.retry_after_s is not None
        assert least <= error.retry_after_s <= most
    assert len(partner.received) == 2, "a read is not repeated against the partner's wish"


@pytest.mark.parametrize("header", ["", "soon", "-5", "1.5", "²", "Wed, 99 Oct 2015 07:28:00 GMT"])
async def test_a_retry_after_that_says_nothing_is_ignored(partner: Partner, connect: Connect, header: str) -> None:
    partner.answers(503, Retry_After=header)
    assert (await failure(connect(House(partner.url)), UPSERT)).retry_after_s is None
    partner.answers(429, Retry_After=header)
    assert (await failure(connect(House(partner.url)), UPSERT)).retry_after_s == 10


IN_A_MINUTE = str(int(datetime.now(UTC).timestamp()) + 60)


@pytest.mark.parametrize(
    ("status", "headers", "least", "most"),
    [
        (200, {}, None, None),
        (200, {"X_RateLimit_Remaining": "1", "X_RateLimit_Reset": "30"}, None, None),
        (200, {"X_RateLimit_Remaining": "0"}, 10, 10),
        (200, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "30"}, 30, 30),
        (200, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": IN_A_MINUTE}, 1, 60),
        (200, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "1"}, 1, 1),
        (200, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "soon", "Retry_After": "20"}, 20, 20),
        (422, {"X_RateLimit_Remaining": "0", "Retry_After": "20"}, 20, 20),
        (429, {}, 10, 10),
        (429, {"X_RateLimit_Reset": IN_A_MINUTE}, 1, 60),
        (429, {"X_RateLimit_Reset": "9" * 4000, "Retry_After": "20"}, 20, 20),
        (503, {"Retry_After": "20"}, None, None),
    ],
)
async def test_the_gate_is_told_of_a_limit_that_the_partner_names(
    partner: Partner, connect: Connect, status: int, headers: dict[str, str], least: float | None, most: float | None
) -> None:
    partner.answers(status, PAGE, **headers)
    house = House(partner.url)
    if status == 200:
        await call(connect(house), LIST)
    else:
        await failure(connect(house), LIST)
    (passage,) = house.passages
    if least is None or most is None:
        assert passage.limit_reached_s is None
    else:
        assert passage.limit_reached_s is not None
        assert least <= passage.limit_reached_s <= most


async def test_each_try_passes_the_gate(partner: Partner, connect: Connect) -> None:
    partner.answers(503)
    house = House(partner.url)
    await failure(connect(house), LIST)
    assert (len(house.passages), len(partner.received)) == (2, 2)


async def test_a_partner_that_listens_nowhere_is_unavailable(connect: Connect, unused_tcp_port: int) -> None:
    house = House(f"http://127.0.0.1:{unused_tcp_port}")
    for request in (LIST, UPSERT):
        error = await failure(connect(house), request)
        assert type(error) is PartnerUnavailable
        assert error.metadata == {"partner": "chargeprice"}
    assert len(house.exchanges) == 3, "the read was tried twice"


async def test_a_request_that_is_not_answered_may_have_taken_effect(partner: Partner, connect: Connect) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def sleep(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    for answer, timeout_s in ((cut, 15.0), (sleep, 0.3)):
        partner.answer = answer
        channel = connect(House(partner.url, timeout_s=timeout_s))
        partner.received.clear()
        assert type(await failure(channel, UPSERT)) is PartnerOutcomeUnknown
        assert len(partner.received) == 1
        assert type(await failure(channel, LIST)) is PartnerUnavailable


async def test_a_read_is_tried_a_second_time(partner: Partner, connect: Connect) -> None:
    async def second_time_well(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503) if len(partner.received) == 1 else web.Response(body=PAGE)

    partner.answer = second_time_well
    assert len((await call(connect(House(partner.url)), LIST)).data) == 1


@pytest.mark.parametrize(
    "base_url", ["http://10.0.0.1", "http://169.254.169.254", "http://[fd00:ec2::254]:80", "ftp://a", "http://[", ""]
)
async def test_an_address_we_do_not_call_is_egress_denied(connect: Connect, base_url: str) -> None:
    error = await failure(connect(House(base_url)), UPSERT)
    assert isinstance(error, EgressDenied)
    assert set(error.metadata) == {"host"}


async def test_the_shorter_of_the_callers_and_the_targets_time_holds(partner: Partner, connect: Connect) -> None:
    async def sleep(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    partner.answer = sleep
    for targets_s, callers_s, hurried in ((3600, 0.3, True), (0.3, 3600, False)):
        house = House(partner.url, timeout_s=targets_s)
        assert type(await failure(connect(house), UPSERT, timeout=callers_s)) is PartnerOutcomeUnknown
        assert house.slot_timeouts_s == [pytest.approx(0.15, abs=0.05)]
        assert [passage.hurried for passage in house.passages] == [hurried]


async def test_no_slot_means_no_request(partner: Partner, connect: Connect) -> None:
    error = await failure(connect(House(partner.url, free_slots=0)), UPSERT)
    assert isinstance(error, PartnerRateLimited)
    assert partner.received == []


async def test_a_slot_is_given_back_after_every_outcome(partner: Partner, connect: Connect) -> None:
    house = House(partner.url)
    partner.answers(500)
    await failure(connect(house), UPSERT)
    partner.answers(200, ONE)
    await call(connect(house), UPSERT)
    assert house.free_slots == 1


async def test_a_request_names_its_integration(partner: Partner, connect: Connect) -> None:
    channel = connect(House(partner.url))
    error = await failure(channel, ListCompaniesRequest())
    assert isinstance(error, InvalidArgument)
    assert [violation.path for violation in error.violations] == ["integration_id"]
    assert isinstance(await failure(channel, ListCompaniesRequest(integration_id="other")), ResourceNotFound)
    assert partner.received == []


@pytest.mark.parametrize("company_id", ["", ".", ".."])
async def test_an_id_that_would_change_the_path_is_an_invalid_argument(
    partner: Partner, connect: Connect, company_id: str
) -> None:
    request = UpsertCompanyRequest(integration_id="cp", company_id=company_id, document=UPSERT.document)
    assert isinstance(await failure(connect(House(partner.url)), request), InvalidArgument)
    assert partner.received == []


async def test_an_rpc_of_no_contract_cannot_be_called(connect: Connect) -> None:
    with pytest.raises(KeyError):
        connect(House("http://127.0.0.1")).unary_unary("/evbridge.v1.CompanyService/GetCompany")


async def test_every_exchange_is_recorded_without_the_credential(partner: Partner, connect: Connect) -> None:
    house = House(partner.url)
    channel = connect(house)
    partner.answers(201, ONE)
    await call(channel, UPSERT)
    partner.answers(409, b"{}")
    await failure(channel, UPSERT)
    first, second = house.exchanges
    assert (first.integration_id, first.method, first.status) == ("cp", "PUT", 201)
    assert first.url == f"{partner.url}{UPSERT_PATH}"
    assert first.request_headers["API-Key"] == "***"
    assert (first.request_body, first.response_body) == (partner.received[0][1], ONE)
    assert (second.status, second.response_body) == (409, b"{}")
    assert KEY not in repr(house.exchanges)


async def test_an_exchange_that_nobody_asked_for_is_shown_to_the_listener_alone(
    partner: Partner, egress: Egress
) -> None:
    partner.answers(200, PAGE)
    house, heard = House(partner.url, recorded=False), list[Exchange]()
    registry = Registry.of([company_pb2.DESCRIPTOR])
    channel = PartnerChannel(registry, house, house, egress, {}, house.exchanges.append, heard.append)
    await call(channel, LIST)
    assert (len(heard), house.exchanges) == (1, [])


async def test_calls_are_traced_and_measured_by_the_semantic_conventions(
    partner: Partner, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing, metering = TracerProvider(), MeterProvider([reader])
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr("opentelemetry.trace.get_tracer", tracing.get_tracer)
    monkeypatch.setattr("opentelemetry.metrics.get_meter", metering.get_meter)
    channel = connect(House(partner.url))
    partner.answers(200, PAGE)
    await call(channel, LIST)
    partner.answers(409)
    await failure(channel, UPSERT)

    read, change = spans.get_finished_spans()
    port = int(partner.url.rpartition(":")[2])
    assert read.attributes == {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": port,
        "url.full": f"{partner.url}/v1/companies?filter%5Bid%5D=REDACTED&page%5Bsize%5D=REDACTED",
        "url.template": "/v1/companies",
        "http.response.status_code": 200,
    }
    assert change.attributes is not None
    assert change.name == "PUT /v1/companies/{company_id}"
    assert (change.attributes["http.response.status_code"], change.attributes["error.type"]) == (409, "409")
    assert (read.status.is_ok, change.status.is_ok) == (True, False)
    assert change.events == ()
    traceparent = f"00-{read.context.trace_id:032x}-{read.context.span_id:016x}-"
    assert partner.received[0][0].headers["traceparent"].startswith(traceparent)

    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert (metric.name, metric.unit) == ("http.client.request.duration", "s")
    points = {point.attributes["http.response.status_code"]: point for point in metric.data.data_points}
    assert set(points) == {200, 409}
    assert set(points[200].attributes) == {
        "http.request.method", "server.address", "server.port", "http.response.status_code",
    }  # fmt: skip
    assert points[200].explicit_bounds[0] == 0.005
    tracing.shutdown()
    metering.shutdown()


def test_the_table_has_a_row_for_every_class() -> None:
    named = {cls for _, *classes in STATUSES for cls in classes}
    assert named == set(PartnerError.__subclasses__()) - {errors.PartnerChanged}
