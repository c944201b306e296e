"""A generated stub on the HTTP channel: what the partner receives, and what its answers become."""

import asyncio
import json
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from evbridge.options.v1 import options_pb2 as options
from evbridge.partner.chargeprice.v1 import company_pb2
from evbridge.partner.chargeprice.v1.company_pb2 import (
    CompanyDocument,
    DeleteCompanyRequest,
    ListCompaniesRequest,
    UpsertCompanyRequest,
)
from evbridge.partner.chargeprice.v1.company_pb2_grpc import CompanyServiceStub
from evbridge.v1 import company_pb2_grpc
from google.protobuf.descriptor_pb2 import MethodOptions
from opentelemetry import baggage, context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.bridge import channel as channel_module
from service.bridge import sender
from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress
from service.bridge.ports import Exchange
from service.bridge.registry import Registry
from service.bridge.transcode import to_http
from service.domain.exchange import kept
from service.domain.partner_error import (
    PartnerChanged,
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
from service.errors import EgressDenied, EvbridgeError, InvalidArgument, ResourceNotFound
from service.partners.ampeco import mapping as ampeco
from tests.bridge.fake_ports import KEY, FakePorts, Partner, a_partner, http_date
from tests.contracts import INTEGRATION_ID, ITEMS, REQUIRED, contract, field, message

ID = "1e49b853-36fc-47ed-9826-97828b5b2fdd"
LIST = ListCompaniesRequest(integration_id="cp", filter_id=ID, page_size=1)
UPSERT = UpsertCompanyRequest(integration_id="cp", company_id=ID, document={"data": {"id": ID, "type": "company"}})
ONE = b'{"data": {"id": "%s", "type": "company"}}' % ID.encode()
PAGE = b'{"data": [{"id": "%s", "type": "company"}], "meta": {"overall_count": 1}}' % ID.encode()
CANARY = "canary-text-of-the-partner"

Connect = Callable[[FakePorts], PartnerChannel]


@pytest.fixture
async def partner() -> AsyncIterator[Partner]:
    async with a_partner() as listening:
        yield listening


async def call(channel: PartnerChannel, request: Any, **arguments: Any) -> Any:
    stub: Any = channel.stub(CompanyServiceStub, "acme")
    method = {UpsertCompanyRequest: "UpsertCompany", ListCompaniesRequest: "ListCompanies"}[type(request)]
    return await getattr(stub, method)(request, **arguments)


async def failure(channel: PartnerChannel, request: Any, **arguments: Any) -> EvbridgeError:
    with pytest.raises(EvbridgeError) as raised:
        await call(channel, request, **arguments)
    error = raised.value
    shown = {name: text for name, text in error.metadata.items() if name != "partner_message"}
    told = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error) | {"metadata": shown})
    assert KEY not in told + str(error.metadata)
    assert CANARY not in told
    return error


async def test_an_unmodified_stub_makes_the_http_call_of_the_contract(partner: Partner, connect: Connect) -> None:
    partner.answers(200, PAGE)
    page = await call(connect(FakePorts(partner.url)), LIST)
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
    document = await call(connect(FakePorts(partner.url)), UPSERT)
    assert document == CompanyDocument(data={"id": ID, "type": "company"})
    ((request, body),) = partner.received
    assert (request.method, request.raw_path) == ("PUT", f"/v1/companies/{ID}")
    assert request.headers["Content-Type"] == "application/json"
    assert b'"company"' in body


async def test_an_answer_without_a_body_is_an_empty_message(partner: Partner, connect: Connect) -> None:
    partner.answers(204)
    stub: Any = connect(FakePorts(partner.url)).stub(CompanyServiceStub, "acme")
    await stub.DeleteCompany(DeleteCompanyRequest(integration_id="cp", company_id=ID))
    assert partner.received[0][0].method == "DELETE"


async def test_no_content_is_an_empty_message_whatever_the_envelope(partner: Partner, connect: Connect) -> None:
    partner.answers(204)
    for request, answer in ((UPSERT, CompanyDocument()), (LIST, company_pb2.CompanyListDocument())):
        assert await call(connect(FakePorts(partner.url)), request) == answer
    partner.answers(200)
    assert type(await failure(connect(FakePorts(partner.url)), UPSERT)) is PartnerOutcomeUnknown
    assert type(await failure(connect(FakePorts(partner.url)), LIST)) is PartnerFault


@pytest.mark.parametrize(("length", "aside"), [(10, False), (1 << 17, True)])
async def test_a_big_request_is_written_beside_the_event_loop(
    partner: Partner, connect: Connect, monkeypatch: pytest.MonkeyPatch, length: int, aside: bool
) -> None:
    threads: list[threading.Thread] = []

    def written(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return to_http(*arguments)

    monkeypatch.setattr(channel_module, "to_http", written)
    partner.answers(201, ONE)
    request = UpsertCompanyRequest(integration_id="cp", company_id=ID)
    request.document.data.attributes.name = "x" * length
    await call(connect(FakePorts(partner.url)), request)
    assert [thread is not threading.current_thread() for thread in threads] == [aside]


@pytest.mark.parametrize(("count", "long"), [(100, False), (8000, True)])
async def test_a_big_answer_is_read_beside_the_event_loop(
    partner: Partner, connect: Connect, monkeypatch: pytest.MonkeyPatch, count: int, long: bool
) -> None:
    company = {"id": "a", "type": "company", "attributes": {"name": "n"}, "more": [1, 2, 3]}
    partner.answers(200, json.dumps({"data": [company] * count}).encode())
    read, passes, ended = sender._read, 0, asyncio.Event()
    during: list[int] = []

    def watched(*arguments: Any) -> Any:
        before = passes
        try:
            return read(*arguments)
        finally:
            during.append(passes - before)

    async def neighbour() -> None:
        nonlocal passes
        while not ended.is_set():
            passes += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(sender, "_read", watched)
    beside = asyncio.create_task(neighbour())
    assert len((await call(connect(FakePorts(partner.url)), LIST)).data) == count
    ended.set()
    await beside
    assert len(during) == 1
    assert (during[0] > 0) is long, "the control: an ordinary page is read at once"


async def test_many_big_answers_of_one_partner_do_not_hold_up_the_others(
    partner: Partner, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = {"id": "a", "type": "company", "more": [1, 2, 3]}
    partner.answers(200, json.dumps({"data": [company] * 2000}).encode())
    ports, others, order = FakePorts(partner.url, free_slots=10), FakePorts(partner.url), list[str]()
    read, begun, go_on = sender._read, threading.Event(), threading.Event()

    async def target(tenant_id: str, integration_id: str) -> Any:
        return replace(await others.target(tenant_id, "cp"), integration_id=integration_id)

    def watched(operation: Any, target: Any, body: bytes) -> Any:
        begun.set()
        go_on.wait(30)
        order.append(target.integration_id)
        return read(operation, target, body)

    monkeypatch.setattr(sender, "_read", watched)
    monkeypatch.setattr(ports, "target", target)
    channel = connect(ports)
    calls = [asyncio.create_task(call(channel, LIST)) for _ in range(5)]
    while len(partner.received) < 5 or not begun.is_set():
        await asyncio.sleep(0.01)
    other = ListCompaniesRequest(integration_id="other")
    calls.append(asyncio.create_task(call(channel, other)))
    while channel._sender._reader._work_queue.empty():  # until the other one waits for the first alone
        await asyncio.sleep(0.01)
    go_on.set()
    assert all(len(page.data) == 2000 for page in await asyncio.gather(*calls))
    assert order == ["cp", "other", *["cp"] * 4]


async def test_one_unreadable_object_of_a_page_costs_that_object_alone(partner: Partner, connect: Connect) -> None:
    partner.answers(200, b'{"data": [{"id": "a", "type": "company"}, {"id": {}}, {"id": "c", "type": "company"}]}')
    page = await call(connect(FakePorts(partner.url)), LIST)
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
    error = await failure(connect(FakePorts(partner.url)), UPSERT if changes else LIST)
    assert type(error) is (change if changes else read)
    assert isinstance(error, PartnerError)
    assert error.http_status == status
    # A status without a body has no code.
    code = "" if status == 304 else "A_CODE.x-1"
    assert error.metadata == {
        "partner": "chargeprice",
        "http_status": str(status),
        **({"partner_code": code, "partner_message": CANARY} if code else {}),
        "retryable": "true" if type(error) in (PartnerUnavailable, PartnerRateLimited) else "false",
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
    error = await failure(connect(FakePorts(partner.url)), UPSERT)
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
    error = await failure(connect(FakePorts(partner.url)), UPSERT)
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
    channel = connect(FakePorts(partner.url))
    assert type(await failure(channel, LIST)) is PartnerFault
    assert type(await failure(channel, UPSERT)) is PartnerOutcomeUnknown
    assert len(partner.received) == 2


FAR_OFF = "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"
LONG_AGO = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("30", 30, 30),
        ("0", 1, 1),
        ("86400", 3600, 3600),
        ("9" * 4000, 3600, 3600),
        (timedelta(minutes=50), 1200, 3000),
        (LONG_AGO, 1, 1),
        ("Sun Nov  6 08:49:37 1994", 1, 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600, 3600),
    ],
)
async def test_retry_after_is_honoured_within_bounds(
    partner: Partner, connect: Connect, header: str | timedelta, least: float, most: float
) -> None:
    for status in (429, 503):
        partner.answers(status, Retry_After=http_date(header) if isinstance(header, timedelta) else header)
        error = await failure(connect(FakePorts(partner.url)), LIST)
        assert error.retry_after_s is not None
        assert least <= error.retry_after_s <= most
    assert len(partner.received) == 2, "a read is not repeated against the partner's upsert"


@pytest.mark.parametrize("header", ["", "soon", "-5", "1.5", "²", "Wed, 99 Oct 2015 07:28:00 GMT", FAR_OFF])
async def test_a_retry_after_that_says_nothing_is_ignored(partner: Partner, connect: Connect, header: str) -> None:
    partner.answers(503, Retry_After=header)
    assert (await failure(connect(FakePorts(partner.url)), UPSERT)).retry_after_s is None
    partner.answers(429, Retry_After=header)
    assert (await failure(connect(FakePorts(partner.url)), UPSERT)).retry_after_s == 10


IN_A_MINUTE = timedelta(minutes=1)
"""As the Unix time that it is when the test runs."""


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
    partner: Partner, connect: Connect, status: int, headers: dict[str, Any], least: float | None, most: float | None
) -> None:
    if headers.get("X_RateLimit_Reset") is IN_A_MINUTE:
        headers = headers | {"X_RateLimit_Reset": str(int((datetime.now(UTC) + IN_A_MINUTE).timestamp()))}
    partner.answers(status, PAGE, **headers)
    ports = FakePorts(partner.url)
    if status == 200:
        await call(connect(ports), LIST)
    else:
        await failure(connect(ports), LIST)
    (permit,) = ports.permits
    if least is None or most is None:
        assert permit.limit_reached_s is None
    else:
        assert permit.limit_reached_s is not None
        assert least <= permit.limit_reached_s <= most


async def test_each_try_passes_the_gate(partner: Partner, connect: Connect) -> None:
    partner.answers(503)
    ports = FakePorts(partner.url)
    await failure(connect(ports), LIST)
    assert (len(ports.permits), len(partner.received)) == (2, 2)


async def test_a_partner_that_listens_nowhere_is_unavailable(connect: Connect, unused_tcp_port: int) -> None:
    ports = FakePorts(f"http://127.0.0.1:{unused_tcp_port}")
    for request in (LIST, UPSERT):
        error = await failure(connect(ports), request)
        assert type(error) is PartnerUnavailable
        assert error.metadata == {"partner": "chargeprice", "retryable": "true"}
    assert len(ports.exchanges) == 3, "the read was tried twice"


async def test_a_request_that_is_not_answered_may_have_taken_effect(partner: Partner, connect: Connect) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def sleep(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    for answer, timeout_s in ((cut, 15.0), (sleep, 1.0)):
        partner.answer = answer
        channel = connect(FakePorts(partner.url, timeout_s=timeout_s))
        partner.received.clear()
        assert type(await failure(channel, UPSERT)) is PartnerOutcomeUnknown
        assert len(partner.received) == 1
        assert type(await failure(channel, LIST)) is PartnerUnavailable


async def test_a_read_is_tried_a_second_time(partner: Partner, connect: Connect) -> None:
    async def second_time_well(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503) if len(partner.received) == 1 else web.Response(body=PAGE)

    partner.answer = second_time_well
    assert len((await call(connect(FakePorts(partner.url)), LIST)).data) == 1


@pytest.mark.parametrize(
    "base_url", ["http://10.0.0.1", "http://169.254.169.254", "http://[fd00:ec2::254]:80", "ftp://a", "http://[", ""]
)
async def test_an_address_we_do_not_call_is_egress_denied(connect: Connect, base_url: str) -> None:
    error = await failure(connect(FakePorts(base_url)), UPSERT)
    assert isinstance(error, EgressDenied)
    assert set(error.metadata) == {"host"}


async def test_the_shorter_of_the_callers_and_the_targets_time_holds(partner: Partner, connect: Connect) -> None:
    async def sleep(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    partner.answer = sleep
    for targets_s, callers_s, caller_was_short in ((3600, 0.5, True), (0.5, 3600, False)):
        ports = FakePorts(partner.url, timeout_s=targets_s)
        assert type(await failure(connect(ports), UPSERT, timeout=callers_s)) is PartnerOutcomeUnknown
        (slot_timeout_s,) = ports.slot_timeouts_s
        assert 0 < slot_timeout_s <= 0.25
        assert [permit.caller_was_short for permit in ports.permits] == [caller_was_short]


async def test_a_caller_without_time_says_nothing_about_the_partner(partner: Partner, connect: Connect) -> None:
    partner.answers(200, PAGE)
    ports = FakePorts(partner.url)
    assert type(await failure(connect(ports), UPSERT, timeout=0)) is PartnerUnavailable
    assert ([permit.caller_was_short for permit in ports.permits], partner.received) == ([True], [])


async def test_no_slot_means_no_request(partner: Partner, connect: Connect) -> None:
    error = await failure(connect(FakePorts(partner.url, free_slots=0)), UPSERT)
    assert isinstance(error, PartnerRateLimited)
    assert partner.received == []


async def test_a_slot_is_given_back_after_every_outcome(partner: Partner, connect: Connect) -> None:
    ports = FakePorts(partner.url)
    partner.answers(500)
    await failure(connect(ports), UPSERT)
    partner.answers(200, ONE)
    await call(connect(ports), UPSERT)
    assert ports.free_slots == 1


async def test_a_request_names_its_integration(partner: Partner, connect: Connect) -> None:
    channel = connect(FakePorts(partner.url))
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
    assert isinstance(await failure(connect(FakePorts(partner.url)), request), InvalidArgument)
    assert partner.received == []


async def test_an_rpc_of_no_contract_cannot_be_called(connect: Connect) -> None:
    with pytest.raises(KeyError):
        connect(FakePorts("http://127.0.0.1")).stub(company_pb2_grpc.CompanyServiceStub, "acme")


async def test_every_exchange_is_recorded_without_the_credential(partner: Partner, connect: Connect) -> None:
    ports = FakePorts(partner.url)
    channel = connect(ports)
    partner.answers(201, ONE)
    await call(channel, UPSERT)
    partner.answers(409, b"{}")
    await failure(channel, UPSERT)
    first, second = ports.exchanges
    assert (first.integration_id, first.method, first.status) == ("cp", "PUT", 201)
    assert first.url == f"{partner.url}{UPSERT_PATH}"
    assert first.request_headers["API-Key"] == "***"
    assert (first.request_body, first.response_body) == (partner.received[0][1], ONE)
    assert (second.status, second.response_body) == (409, b"{}")
    assert KEY not in repr(ports.exchanges)


@pytest.mark.parametrize(
    "spelling",
    [
        "k/4711+canary",
        r"k\/4711\u002Bcanary",
        "k%2f4711%2Bcanary",
        "ay80NzExK2NhbmFyeQ==",
        r"ay80NzExK2NhbmFyeQ\u003d=",
    ],
)
async def test_a_credential_that_the_partner_says_back_is_seen_by_nobody(
    partner: Partner, connect: Connect, spelling: str
) -> None:
    secret = Secret("k/4711+canary")
    ports = FakePorts(partner.url, key="ay80NzExK2NhbmFyeQ==", departures={"secret": secret})
    body = '{"errors": [{"code": "-", "title": "-"}], "said": "-"}'.replace("-", f"the key {spelling} is not known")
    partner.answers(400, body.encode(), Location=f"/?key={spelling}")
    told = await failure(connect(ports), UPSERT)
    (exchange,) = ports.exchanges
    seen = kept(exchange, datetime.now(UTC))
    for text in (str(told.metadata), str(exchange), str(seen)):
        assert "canary" not in text
        assert "NzExK2" not in text
    assert json.loads(seen.response_body)["said"] == "the key *** is not known"


async def test_what_we_tell_our_own_services_does_not_go_to_partners(partner: Partner, connect: Connect) -> None:
    partner.answers(200, PAGE)
    token = context.attach(baggage.set_baggage("user", CANARY))
    try:
        await call(connect(FakePorts(partner.url)), LIST)
    finally:
        context.detach(token)
    assert "baggage" not in partner.received[0][0].headers


async def test_an_exchange_that_nobody_asked_for_is_shown_to_the_listener_alone(
    partner: Partner, egress: Egress
) -> None:
    partner.answers(200, PAGE)
    ports, heard = FakePorts(partner.url, recorded=False), list[Exchange]()
    registry = Registry.of([company_pb2.DESCRIPTOR])
    channel = PartnerChannel(registry, ports, ports, egress, {}, ports.exchanges.append, heard.append)
    await call(channel, LIST)
    assert (len(heard), ports.exchanges) == (1, [])


async def test_calls_are_traced_and_measured_by_the_semantic_conventions(
    partner: Partner, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing, metering = TracerProvider(), MeterProvider([reader])
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr("opentelemetry.trace.get_tracer", tracing.get_tracer)
    monkeypatch.setattr("opentelemetry.metrics.get_meter", metering.get_meter)
    channel = connect(FakePorts(partner.url))
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


THING = message("Thing", field("id", "string", REQUIRED))
OTHER = contract(
    message("List", field("integration_id", "string", INTEGRATION_ID), field("size", "int32", json_name="page[size]")),
    message("Page", field("data", "Thing", ITEMS, repeated=True), field("links", "Links")),
    message("Links", field("next", "string")),
    message(
        "Put",
        field("integration_id", "string", INTEGRATION_ID),
        field("id", "string"),
        field("body", "Body"),
    ),
    message("Body", field("site", "Site", json_name="siteData"), field("things", "Thing", repeated=True)),
    message("Site", field("post_code", "string", json_name="postCode")),
    THING,
    rpcs=[
        {
            "name": "List",
            "request": "List",
            "response": "Page",
            "http": {"get": "/things"},
            "idempotency_level": MethodOptions.NO_SIDE_EFFECTS,
        },
        {"name": "All", "request": "List", "response": "Page", "server_streaming": True, "pages_of": "List"},
        {
            "name": "Put",
            "request": "Put",
            "response": "Thing",
            "http": {"put": "/things/{id}", "body": "body"},
            "idempotency_level": MethodOptions.IDEMPOTENT,
        },
        {"name": "Post", "request": "Put", "response": "Thing", "http": {"post": "/things/{id}", "body": "body"}},
    ],
    partner=options.Partner(name="chargeprice", credential_query="code", wire_names=options.WIRE_NAMES_JSON),
)
OTHERS = Registry.of([OTHER])
BEHAVIOURS = {"chargeprice": ampeco}


def other(ports: FakePorts, egress: Egress) -> tuple[PartnerChannel, Callable[..., Any]]:
    """A channel to a partner that takes its key in the query and complains as AMPECO does; makes requests too."""
    channel = PartnerChannel(OTHERS, ports, ports, egress, BEHAVIOURS, ports.exchanges.append)

    def make(name: str, **fields: Any) -> Any:
        return OTHERS.operations[f"/example.Example/{name}"].request_type(integration_id="cp", **fields)

    return channel, make


async def pages(channel: PartnerChannel, request: Any, **arguments: Any) -> list[list[str]]:
    stream = channel.stub(lambda grpc: grpc.unary_stream("/example.Example/All"), "acme")(request, **arguments)
    return [[thing.id for thing in page.data] async for page in stream]


def three_pages(link: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Pages 1 to 3; each but the last says where the next one is, with `link`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        number = int(request.query.get("page", "1"))
        after = link.format(number + 1) if number < 3 else None
        return web.json_response({"data": [{"id": str(number)}], "links": {"next": after}})

    return answer


@pytest.mark.parametrize(
    "link",
    ["{url}/things?page={{}}&a=%26&code=x", "/things?page={{}}&a=%26", "?page={{}}&a=%26", "{url}?page={{}}&a=%26"],
)
async def test_the_pages_of_a_list_are_followed(partner: Partner, egress: Egress, link: str) -> None:
    partner.answer = three_pages(link.format(url=partner.url))
    channel, make = other(FakePorts(partner.url), egress)
    assert await pages(channel, make("List", size=1)) == [["1"], ["2"], ["3"]]
    assert [request.raw_path for request, _ in partner.received] == [
        f"/things?page%5Bsize%5D=1&code={KEY}",
        f"/things?page=2&a=%26&code={KEY}",
        f"/things?page=3&a=%26&code={KEY}",
    ]


@pytest.mark.parametrize(
    ("link", "host"),
    [
        ("http://169.254.169.254/latest", "169.254.169.254"),
        ("https://127.0.0.1/things", "127.0.0.1"),
        ("http://127.0.0.1:1/things", "127.0.0.1"),
        ("//partner.example/things", "partner.example"),
        ("file:///etc/passwd", ""),
    ],
)
async def test_a_page_on_another_origin_is_not_asked_for(
    partner: Partner, egress: Egress, caplog: pytest.LogCaptureFixture, link: str, host: str
) -> None:
    partner.answer = three_pages(link)
    channel, make = other(FakePorts(partner.url), egress)
    read = []
    with pytest.raises(EgressDenied) as raised:
        async for page in channel.pages(OTHERS.pages["/example.Example/All"], make("List"), tenant_id="acme"):
            read.append(page.message.data[0].id)
    assert (read, len(partner.received)) == (["1"], 1)
    assert raised.value.metadata == {"host": host}
    assert "the next page is on another origin" in caplog.text


@pytest.mark.parametrize("link", ["http://[", "http://a:b/", "?" + "&".join("abcd" * 60)])
async def test_a_page_without_a_url_is_the_partners_fault(partner: Partner, egress: Egress, link: str) -> None:
    partner.answer = three_pages(link)
    channel, make = other(FakePorts(partner.url), egress)
    with pytest.raises(PartnerFault):
        await pages(channel, make("List"))
    assert len(partner.received) == 1


async def test_a_list_without_end_is_left_after_a_thousand_pages(
    partner: Partner, egress: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.bridge.channel._MAX_PAGES", 5)
    partner.answers(200, b'{"data": [], "links": {"next": "?page=1"}}')
    channel, make = other(FakePorts(partner.url), egress)
    with pytest.raises(PartnerFault):
        await pages(channel, make("List"))
    assert len(partner.received) == 5


async def test_a_key_in_the_query_is_seen_by_the_partner_alone(
    partner: Partner, egress: Egress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    spans, tracing = InMemorySpanExporter(), TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr("opentelemetry.trace.get_tracer", tracing.get_tracer)
    key = "k&y=%ü".replace("ü", "u/")
    ports = FakePorts(partner.url, key=key)
    channel, make = other(ports, egress)
    echoed = quote(key, safe="")
    partner.answers(200, f'{{"data": [], "said": "/things?code={echoed} {key}"}}'.encode())
    await channel.call(OTHERS.operations["/example.Example/List"], make("List"), tenant_id="acme")
    partner.answers(422, f'{{"message": "bad {key} {echoed}", "errors": {{"{key}": ["{key}"]}}}}'.encode())
    with pytest.raises(PartnerRejected) as raised:
        await channel.call(OTHERS.operations["/example.Example/List"], make("List"), tenant_id="acme")
    assert raised.value.metadata["partner_message"] == "bad *** ***"
    for request, _ in partner.received:
        assert request.query["code"] == key
        assert "API-Key" not in request.headers
    seen = repr(ports.exchanges) + caplog.text + str([span.attributes for span in spans.get_finished_spans()])
    seen += str(raised.value.metadata) + str(raised.value.violations)
    assert "things" in seen
    assert key not in seen
    assert echoed not in seen
    tracing.shutdown()


async def test_what_an_integration_adds_to_the_query_is_seen_by_the_partner_alone(
    partner: Partner, egress: Egress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    spans, tracing = InMemorySpanExporter(), TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr("opentelemetry.trace.get_tracer", tracing.get_tracer)
    added = {"credential_query": "key", "query": (("clientId", "a canary & co"),)}
    ports = FakePorts(partner.url, departures=added)
    channel, make = other(ports, egress)
    partner.answer = three_pages("?page={}&key=x&clientId=y")
    assert await pages(channel, make("List")) == [["1"], ["2"], ["3"]]
    assert [request.raw_path for request, _ in partner.received] == [
        f"/things?key={KEY}&clientId=a%20canary%20%26%20co",
        f"/things?page=2&key={KEY}&clientId=a%20canary%20%26%20co",
        f"/things?page=3&key={KEY}&clientId=a%20canary%20%26%20co",
    ]
    seen = repr(ports.exchanges) + caplog.text + str([span.attributes for span in spans.get_finished_spans()])
    assert "things" in seen
    assert KEY not in seen
    assert "canary" not in seen
    tracing.shutdown()


async def test_an_operation_is_called_at_the_path_its_integration_names(partner: Partner, egress: Egress) -> None:
    ports = FakePorts(partner.url, departures={"paths": {"/example.Example/List": "/elsewhere/things"}})
    channel, make = other(ports, egress)
    partner.answers(200, b'{"data": []}')
    await channel.call(OTHERS.operations["/example.Example/List"], make("List"), tenant_id="acme")
    ((request, _),) = partner.received
    assert request.path == "/elsewhere/things"
    assert ports.exchanges[0].url == f"{partner.url}/elsewhere/things"


@pytest.mark.parametrize(("name", "sent"), [("List", 2), ("Put", 2), ("Post", 1)])
async def test_a_lost_answer_is_asked_for_again_unless_it_could_take_effect_twice(
    partner: Partner, egress: Egress, name: str, sent: int
) -> None:
    async def lose_first(request: web.Request) -> web.StreamResponse:
        if len(partner.received) == 1:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"id": "1", "data": []})

    partner.answer = lose_first
    channel, make = other(FakePorts(partner.url), egress)
    request = make(name, **({} if name == "List" else {"id": "1", "body": {}}))
    call = channel.call(OTHERS.operations[f"/example.Example/{name}"], request, tenant_id="acme")
    if sent == 1:
        with pytest.raises(PartnerOutcomeUnknown) as raised:
            await call
        assert raised.value.metadata["retryable"] == "false"
    else:
        await call
    assert len(partner.received) == sent


async def test_a_partners_complaints_name_our_fields(partner: Partner, egress: Egress) -> None:
    complaints = {
        "siteData.postCode": ["Is no code.", "Is too long."],
        "things.0.id": ["Is taken.\nReally."],
        "siteData.unknown/x": ["?"],
        "user": "x" * 500,
    }
    partner.answers(422, json.dumps({"message": "The data was invalid.", "errors": complaints}).encode())
    channel, make = other(FakePorts(partner.url), egress)
    request = make("Put", id="1", body={"things": [{"id": "1"}]})
    with pytest.raises(PartnerRejected) as raised:
        await channel.call(OTHERS.operations["/example.Example/Put"], request, tenant_id="acme")
    assert raised.value.metadata == {
        "partner": "chargeprice",
        "http_status": "422",
        "partner_message": "The data was invalid.",
        "retryable": "false",
    }
    assert {each.path: each.description for each in raised.value.violations} == {
        "body.site.post_code": "Is no code.",
        "body.things[0].id": "Is taken. Really.",
        "/siteData/unknown~1x": "?",
        "/user": "x" * 200,
    }


def test_the_table_has_a_row_for_every_class() -> None:
    named = {cls for _, *classes in STATUSES for cls in classes}
    assert named == set(PartnerError.__subclasses__()) - {PartnerChanged}
