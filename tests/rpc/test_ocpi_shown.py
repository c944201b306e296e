"""What partners pull from our OCPI endpoints: their view of locations and tariffs, page by page, in every version."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_OUTOFORDER,
    CreateLocationRequest,
    EvseStatusReport,
    LocationKey,
    ReportEvseStatusRequest,
)
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest, DeletePublicationRuleRequest
from evbridge.v1.tariff_pb2 import CreateTariffRequest

from tests.conftest import Tenant
from tests.front_door import a_connector, a_location, a_rule, a_tariff, an_evse
from tests.ocpi.door import ID, VERSIONS, Answer, Ask, Partner, ask, partner

__all__ = ["ask", "partner"]

COUNT = 5
BASE = "/ocpi/cpo"


@pytest.fixture
async def shown(partner: Partner, tenant: Tenant, ask: Ask) -> AsyncIterator[Partner]:
    """The partner sees L1 to L5, each with an EVSE that names the tariff T1."""
    await tenant.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id="T1")))
    for number in range(1, COUNT + 1):
        location = a_location(
            id=f"L{number}", evses=[an_evse(f"E{number}", connectors=[a_connector(tariff_ids=["T1"])])]
        )
        await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=location))
    rule = a_rule(integration_id=ID, id="all")
    await tenant.admin.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=rule))
    await until(ask, partner, "locations", COUNT)
    await until(ask, partner, "tariffs", 1)
    yield partner


async def until(ask: Ask, partner: Partner, module: str, count: int, query: str = "", version: str = "2.2.1") -> Answer:
    async with asyncio.timeout(30):
        while True:
            answer = await ask("GET", f"{BASE}/{version}/{module}{query}", partner.registered)
            if answer.headers["X-Total-Count"] == str(count):
                return answer
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_partner_pulls_what_it_sees_as_its_version_writes_it(ask: Ask, shown: Partner, version: str) -> None:
    for module, count in (("locations", COUNT), ("tariffs", 1)):
        answer = await ask("GET", f"{BASE}/{version}/{module}/", shown.registered)
        assert (answer.status, answer.code) == (200, 1000)
        assert (answer.headers["X-Total-Count"], answer.headers["X-Limit"]) == (str(count), "100")
        assert "Link" not in answer.headers
        assert len(answer.body["data"]) == count
        for each in answer.body["data"]:
            assert each["id"] and each["last_updated"]
            assert ("country_code" in each) == (version != "2.1.1")
    location = (await ask("GET", f"{BASE}/{version}/locations/l1", shown.registered)).body["data"]
    assert (location["id"], location["city"]) == ("L1", "Berlin")
    evse = (await ask("GET", f"{BASE}/{version}/locations/L1/E1/", shown.registered)).body["data"]
    assert evse == location["evses"][0]
    connector = (await ask("GET", f"{BASE}/{version}/locations/L1/E1/1", shown.registered)).body["data"]
    assert connector == evse["connectors"][0]
    for path in ("/L9", "/L1/E9", "/L1/E1/9"):
        answer = await ask("GET", f"{BASE}/{version}/locations{path}", shown.registered)
        assert (answer.status, answer.code) == (404, 2003)


@pytest.mark.parametrize("follow", ["link", "offset"])
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
async def test_pages_hold_everything_once_whether_links_are_followed_or_offsets_counted(
    ask: Ask, shown: Partner, running: Any, follow: str, limit: int
) -> None:
    everything = [each["id"] for each in (await ask("GET", f"{BASE}/2.2.1/locations", shown.registered)).body["data"]]
    assert sorted(everything) == [f"L{number}" for number in range(1, COUNT + 1)]
    path, found, pages = f"{BASE}/2.2.1/locations?limit={limit}&date_from=2020-01-01T00:00:00Z", [], 0
    while path:
        answer = await ask("GET", path, shown.registered)
        found += [each["id"] for each in answer.body["data"]]
        pages += 1
        assert answer.headers["X-Total-Count"] == str(COUNT)
        link = re.fullmatch('<(.*)>; rel="next"', answer.headers.get("Link", ""))
        assert (link is None) == (len(found) == COUNT)
        path = ""
        if link:
            assert link[1].startswith(f"{running.ocpi_url}{BASE}/2.2.1/locations?")
            assert "date_from=2020-01-01" in link[1] and f"limit={limit}" in link[1]
            path = link[1].removeprefix(running.ocpi_url)
            if follow == "offset":
                path = re.sub(r"&after=\d+", "", path)
    assert found == everything
    assert pages == -(-COUNT // limit)


async def test_a_status_moves_one_location_and_the_dates_find_it(ask: Ask, shown: Partner, tenant: Tenant) -> None:
    before = {each["id"]: each["last_updated"] for each in (await until(ask, shown, "locations", COUNT)).body["data"]}
    latest = max(before.values())
    report = EvseStatusReport(
        evse_uid="E3",
        status=EVSE_STATUS_OUTOFORDER,
        location=LocationKey(country_code="DE", party_id="ABC", id="L3"),
    )
    await tenant.writer.locations.ReportEvseStatus(ReportEvseStatusRequest(reports=[report]))
    async with asyncio.timeout(30):
        while (await ask("GET", f"{BASE}/2.2.1/locations/L3/E3", shown.registered)).body["data"][
            "status"
        ] == "AVAILABLE":
            await asyncio.sleep(0.02)
    after = {each["id"]: each["last_updated"] for each in (await until(ask, shown, "locations", COUNT)).body["data"]}
    assert {id for id in after if after[id] != before[id]} == {"L3"}
    moved = after["L3"]
    assert moved > latest
    changed = await until(ask, shown, "locations", 1, f"?date_from={moved}")
    assert [each["id"] for each in changed.body["data"]] == ["L3"]
    assert len((await until(ask, shown, "locations", COUNT - 1, f"?date_to={moved}")).body["data"]) == COUNT - 1


async def test_what_a_rule_shows_no_more_is_removed_once_more(ask: Ask, shown: Partner, tenant: Tenant) -> None:
    request = DeletePublicationRuleRequest(integration_id=ID, id="all")
    await tenant.admin.publication.DeletePublicationRule(request)
    await until(ask, shown, "tariffs", 0)
    async with asyncio.timeout(30):
        while True:
            answer = await ask("GET", f"{BASE}/2.2.1/locations", shown.registered)
            statuses = {evse["status"] for each in answer.body["data"] for evse in each["evses"]}
            if statuses == {"REMOVED"}:
                break
            await asyncio.sleep(0.02)
    assert len(answer.body["data"]) == COUNT


WRONG = ["limit=x", "limit=0", "limit=-1", "offset=x", "offset=-1", "date_from=today", "date_to=2026-13-01T00:00:00Z"]
WRONG += ["date_from=2026-01-01T00:00:00%2B01:00", "after=x", "limit=" + "9" * 30]


@pytest.mark.parametrize("query", WRONG)
async def test_what_is_no_number_and_no_time_is_2001(ask: Ask, partner: Partner, query: str) -> None:
    answer = await ask("GET", f"{BASE}/2.2.1/locations?{query}", partner.registered)
    assert (answer.status, answer.code) == (200, 2001)


async def test_more_than_a_page_holds_is_a_page_and_an_end_is_empty(ask: Ask, shown: Partner) -> None:
    everything = (await ask("GET", f"{BASE}/2.2.1/locations", shown.registered)).body["data"]
    answer = await ask("GET", f"{BASE}/2.2.1/locations?limit=100000&offset=2", shown.registered)
    assert answer.body["data"] == everything[2:]
    answer = await ask("GET", f"{BASE}/2.2.1/locations?offset=100", shown.registered)
    assert (answer.body["data"], answer.headers["X-Total-Count"]) == ([], str(COUNT))
