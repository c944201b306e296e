"""What operators push to our OCPI endpoints, in every version, and what our callers read of it."""

import json
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import EVSE_STATUS_CHARGING, EVSE_STATUS_REMOVED, GetLocationRequest, Location
from evbridge.v1.location_pb2 import LocationKey as LocationKeyMessage
from evbridge.v1.ocpi_connection_pb2 import PartnerCompany
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP, PARTY_ROLE_HUB, UpdatePartyRequest
from evbridge.v1.tariff_pb2 import GetTariffRequest, Tariff
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.app import Evbridge
from service.resources.documents import by_size
from service.storage.integration import integration_lock, integration_replace
from tests.conftest import Tenant
from tests.front_door import a_party, fails
from tests.ocpi.door import ID, VERSIONS, Ask, Partner, ask, mutated, partner

__all__ = ["ask", "partner"]

EXAMPLES = Path(__file__).parents[1] / "ocpi" / "examples"
BASE = "/ocpi/emsp"
MODULES = ("cdrs", "commands", "locations", "sessions", "tariffs", "tokens")
"""Those of which we have both sides, in every version."""


def nested(levels: int) -> list[Any]:
    return [nested(levels - 1)] if levels > 1 else []


def example(name: str, version: str, **changes: Any) -> dict[str, Any]:
    object: dict[str, Any] = json.loads((EXAMPLES / f"{name}_{version}.json").read_text(encoding="utf-8"))
    return object | changes


@pytest.fixture
async def operator(partner: Partner, tenant: Tenant, running: Evbridge) -> AsyncIterator[Partner]:
    """The partner is the operator NL*TNM, and we are a provider too."""
    await tenant.admin.parties.UpdateParty(UpdatePartyRequest(party=a_party(roles=[PARTY_ROLE_CPO, PARTY_ROLE_EMSP])))
    await companies(running, tenant, PARTY_ROLE_CPO)
    yield partner


async def companies(running: Evbridge, tenant: Tenant, *roles: Any) -> None:
    async with running.database.transaction() as conn:
        integration: Integration = await integration_lock(conn, tenant.name, ID)
        del integration.partner_company_details[:]
        for role in roles:
            integration.partner_company_details.append(PartnerCompany(role=role, country_code="NL", party_id="TNM"))
        await integration_replace(conn, tenant.name, integration)


async def location(tenant: Tenant, id: str) -> Location:
    key = LocationKeyMessage(country_code="NL", party_id="TNM", id=id, integration_id=ID)
    return await tenant.reader.locations.GetLocation(GetLocationRequest(key=key))


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_modules_are_offered_to_who_meets_a_provider(
    ask: Ask, operator: Partner, running: Evbridge, version: str
) -> None:
    answer = await ask("GET", f"/ocpi/{version}", operator.registered)
    offered = {each["identifier"]: each for each in answer.body["data"]["endpoints"]}
    sides = sorted((each["identifier"], each.get("role")) for each in answer.body["data"]["endpoints"])
    if version == "2.1.1":  # its modules have no sides
        assert sides == [(module, None) for module in sorted({"credentials", *MODULES})]
    else:
        newer = ("chargingprofiles", *(("invoicereconciliation",) if version == "2.3.0" else ()))
        both = [(module, role) for module in (*MODULES, *newer) for role in ("RECEIVER", "SENDER")]
        only = [("credentials", "SENDER"), ("hubclientinfo", "RECEIVER")]
        assert sides == sorted([*both, *only])
    for module in ("locations", "tariffs"):
        assert offered[module]["url"] == f"{running.ocpi_url}{BASE}/{version}/{module}"
        assert offered[module].get("role") == ("RECEIVER" if version > "2.2" else None)


async def test_an_operator_alone_offers_no_receiver(ask: Ask, partner: Partner) -> None:
    answer = await ask("GET", "/ocpi/2.2.1", partner.registered)
    receivers = {each["url"] for each in answer.body["data"]["endpoints"] if "/emsp/" in each["url"]}
    assert not receivers


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_location_is_stored_read_and_given_back_as_it_was_sent(
    ask: Ask, operator: Partner, tenant: Tenant, version: str
) -> None:
    sent = example("location", version, country_code="NL", party_id="TNM", id="L1", de_abc_own={"x": 1})
    path = f"{BASE}/{version}/locations/NL/TNM/L1"
    assert (await ask("PUT", path, operator.registered, json=sent)).status == 201
    again = await ask("PUT", f"{path}/", operator.registered, json=sent)
    assert (again.status, again.code, again.body.get("data")) == (200, 1000, None)
    stored = await location(tenant, "L1")
    assert stored.city == sent["city"]
    assert [evse.uid for evse in stored.evses] == [evse["uid"] for evse in sent["evses"]]
    got = await ask("GET", path, operator.registered)
    assert got.body["data"] == sent
    uid = sent["evses"][0]["uid"]
    connector = sent["evses"][0]["connectors"][0]
    assert (await ask("GET", f"{path}/{uid}", operator.registered)).body["data"] == sent["evses"][0]
    assert (await ask("GET", f"{path}/{uid}/{connector['id']}", operator.registered)).body["data"] == connector


async def test_an_evse_that_no_url_can_name_is_left_out_of_its_location(
    ask: Ask, operator: Partner, tenant: Tenant
) -> None:
    evse = VALID["evses"][0]
    sent = VALID | {"evses": [evse | {"uid": uid} for uid in ("..", "a/b", "a/./b", "...")]}
    assert (await ask("PUT", f"{LOCATION}/NL/TNM/L1", operator.registered, json=sent)).code == 1000
    assert [each.uid for each in (await location(tenant, "L1")).evses] == ["a/b", "..."]
    alone = await ask("PUT", f"{LOCATION}/NL/TNM/L1/a%2F..", operator.registered, json=evse | {"uid": "a/.."})
    assert alone.status == 404, "no such URL"
    taken = await ask("PUT", f"{LOCATION}/NL/TNM/L1/c%2Fd", operator.registered, json=evse | {"uid": "c/d"})
    assert taken.code == 1000
    assert [each.uid for each in (await location(tenant, "L1")).evses] == ["a/b", "...", "c/d"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_status_arrives_as_a_patch_and_moves_its_location(
    ask: Ask, operator: Partner, tenant: Tenant, version: str
) -> None:
    sent = example("location", version, country_code="NL", party_id="TNM", id="L1")
    path = f"{BASE}/{version}/locations/NL/TNM/L1"
    await ask("PUT", path, operator.registered, json=sent)
    before = await location(tenant, "L1")
    uid = sent["evses"][0]["uid"]
    patch = {"status": "CHARGING", "last_updated": "2026-11-01T00:00:00Z"}
    assert (await ask("PATCH", f"{path}/{uid}", operator.registered, json=patch)).code == 1000
    after = await location(tenant, "L1")
    assert after.evses[0].status == EVSE_STATUS_CHARGING
    assert after.last_updated.ToJsonString() == patch["last_updated"] > before.last_updated.ToJsonString()
    older = {"status": "REMOVED", "last_updated": "2020-01-01T00:00:00Z"}
    assert (await ask("PATCH", f"{path}/{uid}", operator.registered, json=older)).code == 1000
    assert (await location(tenant, "L1")).evses[0].status == EVSE_STATUS_CHARGING
    gone = {"status": "REMOVED", "last_updated": "2026-11-02T00:00:00Z"}
    assert (await ask("PATCH", f"{path}/{uid}", operator.registered, json=gone)).code == 1000
    assert (await location(tenant, "L1")).evses[0].status == EVSE_STATUS_REMOVED


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_tariff_is_stored_and_deleted(ask: Ask, operator: Partner, tenant: Tenant, version: str) -> None:
    sent = example("tariff", version, country_code="NL", party_id="TNM", id="T1")
    path = f"{BASE}/{version}/tariffs/NL/TNM/T1"
    assert (await ask("PUT", path, operator.registered, json=sent)).status == 201
    key = {"country_code": "NL", "party_id": "TNM", "id": "T1", "integration_id": ID}
    stored: Tariff = await tenant.reader.tariffs.GetTariff(GetTariffRequest(key=key))
    assert stored.currency == sent["currency"]
    assert (await ask("GET", path, operator.registered)).body["data"] == sent
    patched = await ask("PATCH", path, operator.registered, json={"last_updated": "2026-11-01T00:00:00Z"})
    assert patched.status == (200 if version == "2.1.1" else 405)
    assert (await ask("DELETE", path, operator.registered)).code == 1000
    assert (await ask("GET", path, operator.registered)).status == 404
    assert (await ask("DELETE", path, operator.registered)).status == 404
    assert (await fails(tenant.reader.tariffs.GetTariff(GetTariffRequest(key=key)))).reason == "RESOURCE_NOT_FOUND"


LOCATION = f"{BASE}/2.2.1/locations"
VALID = example("location", "2.2.1", country_code="NL", party_id="TNM", id="L1")
PATCH = {"last_updated": "2026-11-01T00:00:00Z"}
# Method, path, body; HTTP status, status code of OCPI's.
REFUSED: dict[str, tuple[str, str, Any, int, int]] = {
    "another party": ("PUT", "/NL/XXX/L1", VALID | {"party_id": "XXX"}, 404, 2001),
    "another country": ("PUT", "/DE/TNM/L1", VALID | {"country_code": "DE"}, 404, 2001),
    "an object of another party": ("PUT", "/NL/TNM/L1", VALID | {"party_id": "XXX"}, 404, 2001),
    "another id": ("PUT", "/NL/TNM/L2", VALID, 200, 2001),
    "no id": ("PUT", "/NL/TNM/" + "x" * 300, VALID, 200, 2001),
    "a patch of nothing": ("PATCH", "/NL/TNM/L9", PATCH, 404, 2003),
    "a patch without a time": ("PATCH", "/NL/TNM/L1", {"name": "x"}, 200, 2001),
    "an EVSE of nothing": ("PUT", "/NL/TNM/L9/E1", VALID["evses"][0] | {"uid": "E1"}, 404, 2003),
    "a list": ("PUT", "/NL/TNM/L1", [VALID], 200, 2001),
    "a time that is none": ("PUT", "/NL/TNM/L1", VALID | {"last_updated": "soon"}, 200, 2001),
    "a time far ahead": ("PUT", "/NL/TNM/L1", VALID | {"last_updated": "2096-01-01T00:00:00Z"}, 200, 2001),
    "no such method": ("POST", "/NL/TNM/L1", VALID, 405, 2000),
    "nothing there": ("GET", "/NL/TNM/L9", None, 404, 2003),
}


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), REFUSED.values(), ids=REFUSED)
async def test_what_is_not_taken_is_said_and_not_stored(
    ask: Ask, operator: Partner, method: str, path: str, body: Any, status: int, code: int
) -> None:
    answer = await ask(method, LOCATION + path, operator.registered, json=body)
    assert (answer.status, answer.code) == (status, code), answer.body
    assert (await ask("GET", f"{LOCATION}{path}", operator.registered)).status == 404


async def test_a_provider_pushes_no_locations_and_a_hub_those_of_anybody(
    ask: Ask, operator: Partner, tenant: Tenant, running: Evbridge
) -> None:
    await companies(running, tenant, PARTY_ROLE_EMSP)
    assert (await ask("PUT", f"{LOCATION}/NL/TNM/L1", operator.registered, json=VALID)).status == 404
    await companies(running, tenant, PARTY_ROLE_HUB)
    foreign = VALID | {"country_code": "FR", "party_id": "XYZ"}
    routing = {"OCPI-from-country-code": "FR", "OCPI-from-party-id": "XYZ", "OCPI-to-party-id": "ABC"}
    answer = await ask("PUT", f"{LOCATION}/FR/XYZ/L1", operator.registered, json=foreign, headers=routing)
    assert answer.status == 201
    assert answer.headers["OCPI-to-country-code"] == "FR" and answer.headers["OCPI-from-party-id"] == "ABC"


async def test_a_first_token_opens_no_module(ask: Ask, operator: Partner) -> None:
    answer = await ask("PUT", f"{LOCATION}/NL/TNM/L1", operator.initial, json=VALID)
    assert (answer.status, answer.code) == (401, 2000)


async def test_whatever_is_pushed_there_is_an_envelope_and_no_fault(
    ask: Ask, operator: Partner, soak: Callable[[int], int]
) -> None:
    owned = {"country_code": "NL", "party_id": "TNM"}
    evse = VALID["evses"][0]
    places = {
        f"locations/NL/TNM/{VALID['id']}": VALID,
        f"locations/NL/TNM/{VALID['id']}/{evse['uid']}": evse,
        f"locations/NL/TNM/{VALID['id']}/{evse['uid']}/{evse['connectors'][0]['id']}": evse["connectors"][0],
        "tariffs/NL/TNM/T1": example("tariff", "2.2.1", id="T1", **owned),
    }
    sent: list[tuple[str, bytes]] = []

    @hypothesis_settings(max_examples=soak(500), suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.sampled_from(sorted(places)).flatmap(lambda path: st.tuples(st.just(path), mutated(places[path]))))
    def collect(each: tuple[str, bytes]) -> None:
        sent.append(each)

    collect()
    await ask("PUT", f"{LOCATION}/NL/TNM/{VALID['id']}", operator.registered, json=VALID)
    for number, (path, body) in enumerate(sent):
        method, version = ("PUT", "PATCH")[number % 2], VERSIONS[number % 3]
        answer = await ask(method, f"{BASE}/{version}/{path}", operator.registered, data=body)
        assert answer.status in (200, 201, 400, 404, 405), (path, body, answer)
        assert answer.code // 1000 in (1, 2), (path, body, answer)


EVSE = VALID["evses"][0] | {"uid": "E1"}
CONNECTOR = EVSE["connectors"][0] | {"id": "1"}
# What is put first, then what is asked; the HTTP status of that.
UNTIDY: dict[str, tuple[dict[str, Any], str, str, Any, int]] = {
    "evses are null": ({"evses": None}, "GET", "", None, 200),
    "evses are a number": ({"evses": 5}, "GET", "", None, 200),
    "the first moment of .NET": ({"last_updated": "0001-01-01T00:00:00Z"}, "PATCH", "", PATCH | {"name": "x"}, 200),
    "two connectors of one id, one without a time": (
        {
            "evses": [
                EVSE
                | {
                    "last_updated": "2020-01-01T00:00:00Z",
                    "connectors": [CONNECTOR, CONNECTOR | {"last_updated": "2021-01-01T00:00:00Z"}],
                }
            ]
        },
        "PUT",
        "/E1/1",
        {name: value for name, value in CONNECTOR.items() if name != "last_updated"},
        200,
    ),
    "NUL in an id": ({}, "GET", "%00", None, 404),
    "a line end in an id": ({}, "PUT", "%0A", EVSE, 404),
    "nested deeper than any object is": ({}, "PUT", "", json.dumps(VALID | {"x": nested(64)}).encode(), 400),
    "nested as deep as a thread can read": (
        {},
        "PUT",
        "",
        json.dumps(VALID | {"text": "x" * 300_000}).encode()[:-1] + b',"x":' + b"[" * 960 + b"]" * 960 + b"}",
        400,
    ),
}


@pytest.mark.parametrize(("first", "method", "path", "body", "status"), UNTIDY.values(), ids=UNTIDY)
async def test_what_partners_leave_untidy_is_no_fault(
    ask: Ask, operator: Partner, first: dict[str, Any], method: str, path: str, body: Any, status: int
) -> None:
    assert (await ask("PUT", f"{LOCATION}/NL/TNM/L1", operator.registered, json=VALID | first)).status == 201
    content = {"data": body} if isinstance(body, bytes) else {"json": body}
    answer = await ask(method, f"{LOCATION}/NL/TNM/L1{path}", operator.registered, **content)
    assert answer.status == status, answer.body


@pytest.mark.parametrize(("values", "aside"), [(10, False), (5000, True)])
async def test_the_loop_goes_on_while_a_large_document_is_read(values: int, aside: bool) -> None:
    thread = await by_size(threading.current_thread, {"evses": [{"x": [0] * values}]})
    assert (thread is not threading.current_thread()) == aside
