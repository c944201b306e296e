"""The simulated Chargeprice answers as the documents say, and goes wrong the way it is told to."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from evbridge.partner.chargeprice.v1.company_pb2 import (
    CompanyDocument,
    CompanyListDocument,
    DeleteCompanyRequest,
    ListCompaniesRequest,
    UpsertCompanyRequest,
)
from evbridge.partner.chargeprice.v1.company_pb2_grpc import CompanyServiceStub
from evbridge.v1.company_pb2 import Company

from service.bridge.channel import PartnerChannel
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
from service.errors import EvbridgeError
from service.partners.chargeprice import mapping as chargeprice
from service.partners.chargeprice.simulator import Simulator
from service.simulator.faults import Fault, parse_fault
from tests.bridge.fake_ports import KEY, FakePorts

ID = "1e49b853-36fc-47ed-9826-97828b5b2fdd"
EMP = "2e49b853-36fc-47ed-9826-97828b5b2fdd"
ENBW = Company(
    id=ID,
    name="EnBW",
    url="http://www.energy.com",
    is_cpo=True,
    is_emp=True,
    external_source_mapping={"going_electric_names": ["EnBW"]},
    supported_emp_ids=[EMP],
)
# The request of Chargeprice's own example.
EXAMPLE = {
    "data": {
        "id": ID,
        "type": "company",
        "attributes": {
            "name": "EnBW",
            "version": 1,
            "url": "http://www.energy.com",
            "is_cpo": True,
            "is_emp": True,
            "external_source_mapping": {"going_electric_names": ["EnBW"]},
        },
        "relationships": {"supported_emps": {"data": [{"type": "company", "id": EMP}]}},
    }
}

Connect = Callable[[FakePorts], PartnerChannel]


class Client:
    """The generated stub, with the arguments every call has."""

    def __init__(self, channel: PartnerChannel) -> None:
        self._stub: Any = channel.stub(CompanyServiceStub, "acme")

    async def put(self, company: Company, version: int) -> CompanyDocument:
        document = chargeprice.document(company, version)
        request = UpsertCompanyRequest(integration_id="cp", company_id=company.id, document=document)
        answer: CompanyDocument = await self._stub.UpsertCompany(request)
        return answer

    async def list(self, **filters: Any) -> CompanyListDocument:
        request = ListCompaniesRequest(integration_id="cp", **filters)
        answer: CompanyListDocument = await self._stub.ListCompanies(request)
        return answer

    async def delete(self, company_id: str) -> None:
        await self._stub.DeleteCompany(DeleteCompanyRequest(integration_id="cp", company_id=company_id))


@pytest.fixture
def client(ports: FakePorts, connect: Connect) -> Client:
    return Client(connect(ports))


async def refusal(awaitable: Awaitable[object]) -> PartnerError:
    with pytest.raises(PartnerError) as raised:
        await awaitable
    return raised.value


async def test_the_example_of_the_documents_is_sent_word_by_word(client: Client, simulator: Simulator) -> None:
    await client.put(ENBW, 1)
    (request,) = simulator.requests
    assert (request.method, request.path) == ("PUT", f"/v1/companies/{ID}")
    assert request.headers["Api-Key"] == KEY
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.body) == EXAMPLE


async def test_the_example_of_the_documents_is_answered_alike(ports: FakePorts) -> None:
    async with aiohttp.ClientSession(headers={"Api-Key": KEY}) as http:
        for version, status in ((1, 201), (2, 200)):
            EXAMPLE["data"]["attributes"]["version"] = version  # type: ignore[index]
            async with http.put(f"{ports.base_url}/v1/companies/{ID}", json=EXAMPLE) as answer:
                assert (answer.status, answer.content_type) == (status, "application/json")
                stored = await answer.json()
                times = [stored["data"]["attributes"].pop(name) for name in ("created_at", "updated_at")]
                assert stored == EXAMPLE
                assert all(isinstance(time, int) and time > 1546297200000 for time in times)
        EXAMPLE["data"]["attributes"]["version"] = 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "status", "body"),
    [
        (
            {"headers": {}},
            403,
            {"status": "403", "code": "FORBIDDEN", "title": "api_key missing"},
        ),
        (
            {"headers": {"Api-Key": "wrong"}},
            403,
            {"status": "403", "code": "FORBIDDEN", "title": "api_key missing"},
        ),
        ({"data": b"{"}, 400, {"status": "400", "code": "BAD_REQUEST", "title": "some error"}),
        ({"data": b'{"data": {"id": "x", "type": "company"}}'}, 400, {"status": "400", "code": "BAD_REQUEST"}),
        ({"version": 2}, 409, {"status": "409", "code": "VERSION_CONFLICT", "title": "Version conflict"}),
        ({"type": "tariff"}, 400, {"status": "400", "code": "BAD_REQUEST"}),
        ({"method": "POST"}, 405, {"status": "405", "code": "METHOD_NOT_ALLOWED"}),
        ({"path": "/v1/nothing"}, 404, {"status": "404", "code": "NOT_FOUND"}),
        ({"path": "/v1/companies/a/b"}, 404, {"status": "404", "code": "NOT_FOUND"}),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_what_it_refuses_it_refuses_in_its_own_form(
    ports: FakePorts, simulator: Simulator, change: dict[str, Any], status: int, body: dict[str, str]
) -> None:
    document = json.loads(json.dumps(EXAMPLE))
    document["data"]["attributes"]["version"] = change.get("version", 1)
    document["data"]["type"] = change.get("type", "company")
    async with (
        aiohttp.ClientSession(headers=change.get("headers", {"Api-Key": KEY})) as http,
        http.request(
            change.get("method", "PUT"),
            ports.base_url + change.get("path", f"/v1/companies/{ID}"),
            data=change.get("data", json.dumps(document).encode()),
        ) as answer,
    ):
        (error,) = (await answer.json())["errors"]
        assert (answer.status, answer.content_type) == (status, "application/json")
        assert body.items() <= error.items()
        assert answer.headers.get("Allow") == ("DELETE, PUT" if status == 405 else None)
    assert simulator.companies == {}


async def test_lock_versions_count_up_by_one(client: Client, simulator: Simulator) -> None:
    assert isinstance(await refusal(client.put(ENBW, 2)), PartnerVersionConflict)
    for version in (1, 2, 3):
        stored = await client.put(ENBW, version)
        assert stored.data.attributes.version == version
        for wrong in (version - 1, version, version + 2):
            conflict = await refusal(client.put(ENBW, wrong))
            assert isinstance(conflict, PartnerVersionConflict)
            assert conflict.partner_code == "VERSION_CONFLICT"
    assert simulator.history == [(ID, 1), (ID, 2), (ID, 3)]


async def test_times_are_kept_as_milliseconds(client: Client) -> None:
    first = (await client.put(ENBW, 1)).data.attributes
    second = (await client.put(ENBW, 2)).data.attributes
    assert first.created_at == second.created_at
    assert first.updated_at <= second.updated_at


async def test_a_wrong_key_is_refused(ports: FakePorts, connect: Connect) -> None:
    ports.key = "wrong"
    error = await refusal(Client(connect(ports)).put(ENBW, 1))
    assert isinstance(error, PartnerCredentialRefused)
    assert error.partner_code == "FORBIDDEN"


async def test_a_group_stays_until_it_is_cleared(client: Client, simulator: Simulator) -> None:
    for version, sent, kept in ((1, EMP, EMP), (2, None, EMP), (3, "", "")):
        company = Company()
        company.CopyFrom(ENBW)
        if sent is not None:
            company.cpo_group_id = sent
        await client.put(company, version)
        assert simulator.companies[ID].relationships.cpo_group.data.id == kept


async def test_someone_elses_edit_raises_the_version(client: Client, simulator: Simulator) -> None:
    await client.put(ENBW, 1)
    simulator.edit(ID, name="EnBW AG", is_emp=False)
    attributes = (await client.list(filter_id=ID)).data[0].attributes
    assert (attributes.name, attributes.is_emp, attributes.version) == ("EnBW AG", False, 2)
    assert isinstance(await refusal(client.put(ENBW, 2)), PartnerVersionConflict)
    await client.put(ENBW, 3)


async def test_lists_are_filtered_and_paged(client: Client) -> None:
    for n in range(105):
        id = f"{n:08d}-36fc-47ed-9826-97828b5b2fdd"
        await client.put(Company(id=id, name=f"Company {n}", is_cpo=n % 2 == 0, is_emp=n % 3 == 0), 1)

    async def names(**filters: Any) -> tuple[int, list[str]]:
        page = await client.list(**filters)
        return page.meta.overall_count, [company.attributes.name.removeprefix("Company ") for company in page.data]

    everything = [str(n) for n in range(105)]
    assert await names() == (105, everything[:100])
    assert await names(page_number=2) == (105, everything[100:])
    assert await names(page_size=1000) == (105, everything[:100])
    assert await names(page_size=10, page_number=3) == (105, everything[20:30])
    assert await names(page_number=9) == (105, [])
    assert await names(filter_is_cpo=False, page_size=2) == (52, ["1", "3"])
    assert await names(filter_is_cpo=True, filter_is_emp=True, page_size=2) == (18, ["0", "6"])
    assert await names(q="company 10") == (6, ["10", "100", "101", "102", "103", "104"])
    ids = ",".join(f"{n:08d}-36fc-47ed-9826-97828b5b2fdd" for n in (7, 3, 999))
    assert await names(filter_id=ids) == (2, ["3", "7"])
    assert await names(filter_id="nobody") == (0, [])
    assert isinstance(await refusal(client.list(page_number=-1)), PartnerRejected)


async def test_a_company_is_deleted_unless_it_has_tariffs(client: Client, simulator: Simulator) -> None:
    assert isinstance(await refusal(client.delete(ID)), PartnerNotFound)
    await client.put(ENBW, 1)
    simulator.with_tariffs.add(ID)
    assert isinstance(await refusal(client.delete(ID)), PartnerRejected)
    simulator.with_tariffs.clear()
    await client.delete(ID)
    assert simulator.companies == {}
    await client.put(ENBW, 1)


# Faults.

FAULTS: dict[str, tuple[type[EvbridgeError], bool]] = {
    # what the sender of a change sees, and whether the change took effect
    "lose_answer": (PartnerOutcomeUnknown, True),
    "cut": (PartnerOutcomeUnknown, False),
    "delay:60": (PartnerOutcomeUnknown, False),
    "status:429:7": (PartnerRateLimited, False),
    "status:500": (PartnerFault, False),
    "status:503": (PartnerUnavailable, False),
    "garbage": (PartnerOutcomeUnknown, False),
    "wrong_envelope": (PartnerOutcomeUnknown, False),
    "huge": (PartnerOutcomeUnknown, False),
    "gzip_bomb": (PartnerOutcomeUnknown, False),
    "drip": (PartnerOutcomeUnknown, False),
    "redirect:http://127.0.0.1:1/": (PartnerFault, False),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_happens_once_and_is_seen_as_the_error_it_is(
    ports: FakePorts, connect: Connect, simulator: Simulator, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected, took_effect = FAULTS[fault]
    ports.timeout_s = 0.7 if fault in ("drip", "delay:60") else 15
    client = Client(connect(ports))
    simulator.faults.append(parse_fault(fault))
    assert type(await refusal(client.put(ENBW, 1))) is expected
    assert simulator.history == ([(ID, 1)] if took_effect else [])
    await client.put(ENBW, 2 if took_effect else 1)
    assert len(simulator.requests) == 2
    assert not simulator.faults
    await simulator.stop()
    assert "Traceback" not in caplog.text


async def test_a_fault_waits_for_its_method(client: Client, simulator: Simulator) -> None:
    simulator.faults.extend([parse_fault("PUT=status:500"), parse_fault("DELETE=status:500")])
    await client.list()
    assert isinstance(await refusal(client.put(ENBW, 1)), PartnerFault)
    await client.put(ENBW, 1)
    assert isinstance(await refusal(client.delete(ID)), PartnerFault)
    await client.delete(ID)


async def test_a_delayed_request_is_answered_late(client: Client, simulator: Simulator) -> None:
    simulator.faults.append(Fault("delay", seconds=0.05))
    await client.put(ENBW, 1)
    assert simulator.history == [(ID, 1)]


async def test_it_counts_what_is_in_flight(client: Client, simulator: Simulator, ports: FakePorts) -> None:
    ports.free_slots = 3
    await client.list()
    assert simulator.max_in_flight == 1
    simulator.faults.extend([Fault("delay", seconds=0.2)] * 3)
    await asyncio.gather(*(client.list() for _ in range(3)))
    assert simulator.max_in_flight == 3
    assert [request.time for request in simulator.requests] == sorted(request.time for request in simulator.requests)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("lose_answer", Fault("lose_answer")),
        ("cut", Fault("cut")),
        ("delay:2.5", Fault("delay", seconds=2.5)),
        ("status:503", Fault("status", status=503)),
        ("status:429:30", Fault("status", status=429, retry_after="30")),
        ("redirect:https://a.example/?x=1", Fault("redirect", url="https://a.example/?x=1")),
        ("PUT=lose_answer", Fault("lose_answer", "PUT")),
        ("GET=status:503:5", Fault("status", "GET", status=503, retry_after="5")),
        ("gzip_bomb", Fault("gzip_bomb")),
    ],
)
def test_a_fault_is_written_in_a_few_letters(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    "text", ["", "nothing", "delay", "delay:x", "status", "status:x", "redirect", "redirect:", "cut:1", "put=cut"]
)
def test_an_unknown_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_fault(text)
