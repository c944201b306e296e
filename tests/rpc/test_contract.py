"""The partners' contracts, called by our callers: what reaches the partner, and what comes back."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
from aiohttp import web
from evbridge.options.v1 import options_pb2 as options
from evbridge.partner.chargeprice.v1 import company_pb2 as chargeprice
from evbridge.partner.chargeprice.v1.company_pb2_grpc import CompanyServiceStub
from evbridge.v1.http_connection_pb2 import HttpConnection
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_PENDING,
    CreateIntegrationRequest,
    GetIntegrationRequest,
    UpdateIntegrationRequest,
)
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.field_mask_pb2 import FieldMask

from service.app import Evbridge
from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress, EgressPolicy
from service.bridge.registry import Registry
from service.domain.delivery import RetryPolicy
from service.domain.target import Target
from service.identity.authentication import Authenticator
from service.partners.ampeco import mapping as ampeco
from service.partners.chargeprice.simulator import Simulator
from service.rpc.contract import ContractService
from service.rpc.interceptors import Interceptors
from service.rpc.server import Server
from service.settings import Reflection
from service.simulator.faults import Fault
from service.storage.connection import Connection
from service.storage.gate import PartnerGate
from service.storage.statements import Statement
from service.storage.target import IntegrationTargets
from service.telemetry import JsonFormatter
from tests.bridge.fake_ports import Partner, a_partner
from tests.conftest import Tenant
from tests.contracts import INTEGRATION_ID, ITEMS, MASK, REQUIRED, contract, field, message
from tests.front_door import Failure, an_integration, an_integration_of, fails, settings

Code = grpc.StatusCode
ID = "1e49b853-36fc-47ed-9826-97828b5b2fdd"
COMPANY = {
    "id": ID,
    "type": "company",
    "attributes": {"name": "EnBW", "version": 1, "is_cpo": True, "is_emp": True, "external_source_mapping": {}},
    "relationships": {"supported_emps": {}},
}
UPSERT = chargeprice.UpsertCompanyRequest(integration_id="cp", company_id=ID, document={"data": COMPANY})
LIST = chargeprice.ListCompaniesRequest(integration_id="cp")
DELETE = chargeprice.DeleteCompanyRequest(integration_id="cp", company_id=ID)


@pytest.fixture
async def partner() -> AsyncIterator[Partner]:
    async with a_partner() as listening:
        yield listening


async def integrate(tenant: Tenant, url: str, id: str = "cp", **changes: Any) -> None:
    integration = an_integration(url, id=id, **changes)
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))


@pytest.fixture
def call(channel: grpc.aio.Channel, tenant: Tenant) -> Callable[..., Any]:
    """Calls Chargeprice's company service with an admin's key."""
    stub = CompanyServiceStub(channel)
    rpcs = {"Upsert": stub.UpsertCompany, "ListCo": stub.ListCompanies, "Delete": stub.DeleteCompany}

    def make(request: Any, role: str = "admin", timeout: float = 20.0) -> Any:
        rpc: Any = rpcs[type(request).__name__[:6]]
        return rpc(request, metadata=(("authorization", f"Bearer {tenant.keys[role]}"),), timeout=timeout)

    return make


async def test_a_partners_rpc_makes_the_call_of_its_contract(
    tenant: Tenant, simulator: Simulator, call: Callable[..., Any]
) -> None:
    await integrate(tenant, simulator.url)
    created = await call(UPSERT, "writer")
    assert created.data.attributes.name == "EnBW"
    page = await call(LIST, "reader")
    assert ([each.id for each in page.data], page.meta.overall_count) == ([ID], 1)
    await call(DELETE, "admin")
    assert simulator.companies == {}
    assert [received.method for received in simulator.requests] == ["PUT", "GET", "DELETE"]


async def test_the_role_is_the_contracts(tenant: Tenant, simulator: Simulator, call: Callable[..., Any]) -> None:
    await integrate(tenant, simulator.url)
    for request, role in ((UPSERT, "reader"), (DELETE, "writer")):
        failure = await fails(call(request, role))
        assert (failure.code, failure.reason) == (Code.PERMISSION_DENIED, "ROLE_REQUIRED")
    assert simulator.requests == []


@pytest.mark.parametrize("id", ["", "other", "CP", "cp\0", "x" * 5000, "foreign"])
async def test_the_integration_must_be_the_callers(
    tenant: Tenant,
    new_tenant: Callable[[], Awaitable[Tenant]],
    simulator: Simulator,
    call: Callable[..., Any],
    id: str,
) -> None:
    await integrate(await new_tenant(), simulator.url, "foreign")
    failure = await fails(call(chargeprice.ListCompaniesRequest(integration_id=id)))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    control = "must not hold control characters but tab, line feed and carriage return"
    said = {"": "is required", "cp\0": control}.get(id, "is not an integration with chargeprice")
    assert failure.violations == {"integration_id": said}
    assert simulator.requests == []


async def test_through_a_disabled_integration_nothing_is_sent(
    tenant: Tenant, simulator: Simulator, call: Callable[..., Any]
) -> None:
    await integrate(tenant, simulator.url, enabled=False)
    failure = await fails(call(LIST))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "INTEGRATION_DISABLED")
    assert failure.metadata == {"id": "cp"}
    assert simulator.requests == []
    enable = an_integration(id="cp", enabled=True)
    mask = FieldMask(paths=["enabled"])
    await tenant.admin.integrations.UpdateIntegration(UpdateIntegrationRequest(integration=enable, update_mask=mask))
    await call(LIST)


async def test_a_partner_without_a_type_is_the_one_that_its_connection_names(
    tenant: Tenant, simulator: Simulator, call: Callable[..., Any]
) -> None:
    for id, partner in (("cp", "chargeprice"), ("other", "acme")):
        connection = HttpConnection(base_url=simulator.url, api_key="partner-key", partner=partner)
        integration = an_integration_of("http", id=id, http=connection)
        await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    await call(LIST)
    failure = await fails(call(chargeprice.ListCompaniesRequest(integration_id="other")))
    assert failure.violations == {"integration_id": "is not an integration with chargeprice"}
    assert len(simulator.requests) == 1
    for id, status in (("cp", INTEGRATION_STATUS_ACTIVE), ("other", INTEGRATION_STATUS_PENDING)):
        stored = await tenant.reader.integrations.GetIntegration(GetIntegrationRequest(id=id))
        assert stored.status == status


async def test_a_partners_refusal_is_typed_and_its_words_are_for_the_caller_alone(
    tenant: Tenant, partner: Partner, call: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await integrate(tenant, partner.url)
    errors = [{"code": "VERSION_CONFLICT", "title": f"partner-key {'canary ' * 100}\x1b[31m"}]
    partner.answers(409, json.dumps({"errors": errors}).encode())
    failure = await fails(call(UPSERT))
    assert (failure.code, failure.reason) == (Code.ABORTED, "PARTNER_VERSION_CONFLICT")
    said = failure.metadata.pop("partner_message")
    assert failure.metadata == {
        "partner": "chargeprice",
        "http_status": "409",
        "partner_code": "VERSION_CONFLICT",
        "retryable": "false",
    }
    assert said.startswith("*** canary canary")
    assert len(said) == 200
    assert "canary" not in failure.message
    lines = [JsonFormatter().format(record) for record in caplog.records]
    assert any("PARTNER_VERSION_CONFLICT" in line for line in lines)
    assert not any("canary" in line or "partner-key" in line for line in lines)


@pytest.mark.parametrize(
    ("status", "reason", "retryable"), [(429, "PARTNER_RATE_LIMITED", "true"), (500, "PARTNER_FAULT", "false")]
)
async def test_a_caller_learns_whether_and_when_to_repeat(
    tenant: Tenant, simulator: Simulator, call: Callable[..., Any], status: int, reason: str, retryable: str
) -> None:
    await integrate(tenant, simulator.url)
    simulator.faults.append(Fault("status", status=status, retry_after="7"))
    failure = await fails(call(UPSERT))
    assert (failure.reason, failure.metadata["retryable"], failure.retry_after_s) == (reason, retryable, 7)


@pytest.mark.parametrize(("request_", "sent"), [(UPSERT, 1), (LIST, 2), (DELETE, 2)], ids=["upsert", "list", "delete"])
async def test_what_could_take_effect_twice_is_sent_once(
    tenant: Tenant, simulator: Simulator, call: Callable[..., Any], request_: Any, sent: int
) -> None:
    await integrate(tenant, simulator.url)
    if request_ is DELETE:
        await call(UPSERT)
    simulator.requests.clear()
    simulator.faults.append(Fault("cut"))
    if sent == 1:
        failure = await fails(call(request_))
        assert (failure.code, failure.reason) == (Code.UNAVAILABLE, "PARTNER_OUTCOME_UNKNOWN")
        assert failure.metadata["retryable"] == "false"
    else:
        await call(request_)
    assert len(simulator.requests) == sent


async def test_the_callers_deadline_is_the_partners_too(
    tenant: Tenant, simulator: Simulator, call: Callable[..., Any]
) -> None:
    await integrate(tenant, simulator.url)
    simulator.faults.append(Fault("delay", seconds=30))
    failure = await fails(call(UPSERT, timeout=0.5))
    assert failure.code in (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE)
    async with asyncio.timeout(60):
        await call(LIST)


async def test_one_unreadable_object_costs_that_object_and_is_told(
    tenant: Tenant, partner: Partner, call: Callable[..., Any]
) -> None:
    await integrate(tenant, partner.url)
    bad = [{"id": {}, "type": "secret"}] * 30
    partner.answers(200, json.dumps({"data": [{"id": "a", "type": "company"}, *bad]}).encode())
    answer = call(LIST)
    assert [company.id for company in (await answer).data] == ["a"]
    told = [text for name, text in await answer.trailing_metadata() if name == "evbridge-rejected"]
    assert told == [f"/data/{number}/id must be a string" for number in range(1, 21)]
    assert dict(await answer.trailing_metadata())["evbridge-rejected-count"] == "30"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"data": 5}, "/data must be an array"),
        (["secret"], "the body must be an object, at most 64 deep"),
    ],
    ids=str,
)
async def test_an_answer_that_breaks_its_contract_is_known_by_the_place_where_it_does(
    tenant: Tenant, partner: Partner, call: Callable[..., Any], body: Any, problem: str
) -> None:
    await integrate(tenant, partner.url)
    partner.answers(200, json.dumps(body).encode())
    failure = await fails(call(LIST))
    assert (failure.code, failure.reason) == (Code.INTERNAL, "PARTNER_FAULT")
    assert failure.message == f"the answer of chargeprice breaks its contract: {problem}"


async def test_a_credential_inside_a_partners_data_is_handed_to_no_reader(
    tenant: Tenant, partner: Partner, call: Callable[..., Any]
) -> None:
    companies = [
        {"id": "key-of-ours", "type": "company", "said": {"key-of-ours": "the key-of-ours"}},
        {"id": "b", "type": "company"},
    ]
    partner.answers(200, json.dumps({"data": companies}).encode())
    await integrate(tenant, partner.url, api_key="key-of-ours")
    answer = await call(LIST, role="reader")
    assert [company.id for company in answer.data] == ["***", "b"]
    assert "key-of-ours" not in str(answer)
    assert "the ***" in str(answer)
    await integrate(tenant, partner.url, "other", api_key="another-key")
    answer = await call(chargeprice.ListCompaniesRequest(integration_id="other"), role="reader")
    assert answer.data[0].id == "key-of-ours", "the control: it is a word like any other to other integrations"


THINGS = contract(
    message("List", field("integration_id", "string", INTEGRATION_ID), field("page", "int32")),
    message("Page", field("data", "Thing", ITEMS, repeated=True), field("links", "Links")),
    message("Links", field("next", "string")),
    message("Change", field("integration_id", "string", INTEGRATION_ID), field("thing", "Thing"), field("mask", MASK)),
    message("Thing", field("id", "string", REQUIRED), field("post_code", "string")),
    rpcs=[
        {
            "name": "List",
            "request": "List",
            "response": "Page",
            "http": {"get": "/things"},
            "idempotency_level": MethodOptions.NO_SIDE_EFFECTS,
        },
        {"name": "All", "request": "List", "response": "Page", "server_streaming": True, "pages_of": "List"},
        {"name": "Change", "request": "Change", "response": "Thing", "http": {"patch": "/things", "body": "thing"}},
    ],
    partner=options.Partner(
        name="chargeprice",
        wire_names=options.WIRE_NAMES_JSON,
        credential_header={"name": "Authorization", "prefix": "Bearer "},
    ),
)
REGISTRY = Registry.of([THINGS])


class Targets(IntegrationTargets):
    """Partners that are given `timeout_s` to answer."""

    timeout_s: float

    async def target(self, tenant_id: str, integration_id: str) -> Target:
        return replace(await super().target(tenant_id, integration_id), timeout_s=self.timeout_s)


@asynccontextmanager
async def serving_things(
    running: Evbridge, max_deadline_s: float = 30.0, registry: Registry = REGISTRY, timeout_s: float = 15.0
) -> AsyncIterator[grpc.aio.Channel]:
    """A server of a contract: one that streams pages, unless another is given. A partner has `timeout_s` to answer."""
    egress = Egress(EgressPolicy(allow_loopback=True, allow_plain_http=True))
    targets = Targets(running.database, running.keyring, [])
    targets.timeout_s = timeout_s
    partners = PartnerChannel(
        registry,
        targets,
        PartnerGate(running.database, RetryPolicy(base_s=1.0, max_attempts=5)),
        egress,
        {"chargeprice": ampeco, "ampeco": ampeco},
    )
    limits = settings("", max_deadline_s=max_deadline_s)
    interceptors = Interceptors(Authenticator(running.database, running.keyring), limits)
    services = {
        each: ContractService(each, registry, partners, running.database, running.keyring, ())
        for each in registry.services
    }
    server = Server(settings("", reflection=Reflection.OFF), running.database, interceptors, services)
    async with grpc.aio.insecure_channel(await server.start()) as channel:
        try:
            yield channel
        finally:
            await server.stop()
            await egress.aclose()


def stream(channel: grpc.aio.Channel, key: str | None, **fields: Any) -> Any:
    rpc = channel.unary_stream(
        "/example.Example/All",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=REGISTRY.operations["/example.Example/List"].response_type.FromString,
    )
    request = REGISTRY.operations["/example.Example/List"].request_type(**{"integration_id": "cp", **fields})
    return rpc(request, metadata=(("authorization", f"Bearer {key}"),) if key else (), timeout=20)


async def read(pages: Any) -> list[list[str]]:
    return [[thing.id for thing in page.data] async for page in pages]


async def read_and_fail(pages: Any) -> tuple[list[list[str]], Failure]:
    got = []

    async def all_of_it() -> None:
        async for page in pages:
            got.append([thing.id for thing in page.data])

    return got, await fails(all_of_it())


def two_pages(next_link: str = "?page=2") -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.query.get("page") == "2":
            return web.json_response({"data": [{"id": "b"}, {"id": 1.5}, {"id": {}}]})
        return web.json_response({"data": [{"id": "a"}, {}], "links": {"next": next_link}})

    return answer


async def test_a_list_is_streamed_page_by_page(running: Evbridge, tenant: Tenant, partner: Partner) -> None:
    await integrate(tenant, partner.url)
    partner.answer = two_pages()
    async with serving_things(running) as channel:
        pages = stream(channel, tenant.keys["reader"])
        assert await read(pages) == [["a"], ["b", "1.5"]]
    trailers = await pages.trailing_metadata()
    assert [pair for pair in trailers if pair[0].startswith("evbridge-")] == [
        ("evbridge-rejected-count", "2"),
        ("evbridge-rejected", "1#/data/1/id is missing"),
        ("evbridge-rejected", "2#/data/2/id must be a string"),
    ]


async def test_a_call_reads_its_integration_once(
    running: Evbridge, tenant: Tenant, partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    await integrate(tenant, partner.url)
    partner.answer = two_pages()
    read_whole, names = Connection.rows, list[str]()

    async def rows(self: Connection, statement: Statement, *args: Any) -> Any:
        if args[:1] == (tenant.name,):
            names.append(statement.name)
        return await read_whole(self, statement, *args)

    monkeypatch.setattr(Connection, "rows", rows)
    async with serving_things(running) as channel:
        await read(stream(channel, tenant.keys["reader"]))
    assert names.count("integration_target") == 2  # of each page


async def test_a_stream_is_guarded_like_every_rpc(
    running: Evbridge, tenant: Tenant, partner: Partner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await integrate(tenant, partner.url)
    await integrate(tenant, partner.url, "off", enabled=False)
    key = tenant.keys["reader"]
    async with serving_things(running) as channel:
        for pages, reason in (
            (stream(channel, None), "CREDENTIAL_REQUIRED"),
            (stream(channel, "evb_abcdefgh_x"), "CREDENTIAL_REQUIRED"),
            (stream(channel, key, integration_id="other"), "INVALID_FIELD"),
            (stream(channel, key, integration_id="off"), "INTEGRATION_DISABLED"),
        ):
            assert (await read_and_fail(pages))[1].reason == reason
        raw = channel.unary_stream("/example.Example/All")(b"\xff", metadata=(("authorization", f"Bearer {key}"),))
        assert (await read_and_fail(raw))[1].reason == "MALFORMED_REQUEST"
    assert partner.received == []
    assert any(getattr(record, "reason", "") == "INTEGRATION_DISABLED" for record in caplog.records)


async def test_a_stream_ends_at_a_page_on_another_origin(running: Evbridge, tenant: Tenant, partner: Partner) -> None:
    await integrate(tenant, partner.url)
    partner.answer = two_pages("http://169.254.169.254/latest?page=2")
    async with serving_things(running) as channel:
        got, failure = await read_and_fail(stream(channel, tenant.keys["reader"]))
    assert (got, failure.code, failure.reason) == ([["a"]], Code.FAILED_PRECONDITION, "EGRESS_DENIED")
    assert failure.metadata == {"host": "169.254.169.254"}
    assert len(partner.received) == 1


async def test_a_caller_that_leaves_a_stream_stops_it(running: Evbridge, tenant: Tenant, partner: Partner) -> None:
    await integrate(tenant, partner.url)
    partner.answer = two_pages()
    async with serving_things(running) as channel:
        pages = stream(channel, tenant.keys["reader"])
        assert [thing.id for thing in (await pages.read()).data] == ["a"]
        pages.cancel()
        assert await read(stream(channel, tenant.keys["reader"])) == [["a"], ["b", "1.5"]]


async def test_the_longest_duration_holds_for_each_page(running: Evbridge, tenant: Tenant, partner: Partner) -> None:
    await integrate(tenant, partner.url)
    answer = two_pages()

    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30 if request.query.get("page") == "2" else 0)
        return await answer(request)

    partner.answer = slow
    async with serving_things(running, max_deadline_s=1.0) as channel:
        got, failure = await read_and_fail(stream(channel, tenant.keys["reader"]))
    assert (got, failure.code, failure.reason) == ([["a"]], Code.DEADLINE_EXCEEDED, "DEADLINE_LIMIT")


async def test_a_mask_clears_and_complaints_name_fields(running: Evbridge, tenant: Tenant, partner: Partner) -> None:
    await integrate(tenant, partner.url)
    operation = REGISTRY.operations["/example.Example/Change"]
    complaints = {"message": "Invalid.", "errors": {"postCode": ["Is unknown."], "other": ["No."]}}
    partner.answers(422, json.dumps(complaints).encode())
    async with serving_things(running) as channel:
        rpc = channel.unary_unary(operation.name, request_serializer=operation.request_type.SerializeToString)
        metadata = (("authorization", f"Bearer {tenant.keys['reader']}"),)
        request = operation.request_type(integration_id="cp", thing={"id": "1"}, mask={"paths": ["post_code"]})
        failure = await fails(rpc(request, metadata=metadata, timeout=20))
        request.mask.paths.append("colour")
        unknown = await fails(rpc(request, metadata=metadata, timeout=20))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "PARTNER_REJECTED")
    assert failure.violations == {"thing.post_code": "Is unknown.", "/other": "No."}
    assert failure.metadata["partner_message"] == "Invalid."
    assert unknown.violations == {"thing.colour": "is not a field that can be cleared"}
    assert [body for _, body in partner.received] == [b'{"id":"1","postCode":null}']
