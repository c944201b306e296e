"""What RUN_KIND_SYNC pulls from OCPI operators, page by page, and what becomes of it here."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.delivery_pb2 import OBJECT_KIND_LOCATION
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    CreateIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    IntegrationModels,
    UpdateIntegrationRequest,
)
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_REMOVED,
    CreateLocationRequest,
    GetLocationRequest,
    ListLocationsRequest,
    Location,
    LocationKey,
)
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_SENDER, OcpiConnection
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP, CreatePartyRequest, PartyKey, PartyRole
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest
from evbridge.v1.registration_pb2 import RegisterIntegrationRequest
from evbridge.v1.run_pb2 import (
    RUN_FINDING_OUTCOME_REFUSED,
    RUN_KIND_SYNC,
    RUN_STATE_FAILED,
    RUN_STATE_SUCCEEDED,
    RUN_STEP_STATE_FAILED,
    RUN_STEP_STATE_SUCCEEDED,
    ListRunFindingsRequest,
    ListRunsRequest,
    Run,
    RunFinding,
    RunStep,
    StartRunRequest,
    SyncOptions,
    WaitRunRequest,
)
from evbridge.v1.tariff_pb2 import CreateTariffRequest, ListTariffsRequest, Tariff
from evbridge.v1.token_pb2 import ListTokensRequest

from service.app import Evbridge, evbridge
from service.storage.pool import Database
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.front_door import (
    Client,
    a_location,
    a_party,
    a_rule,
    a_tariff,
    an_integration_of,
    environment,
    serving,
    settings,
)
from tests.partners import OcpiPartner
from tests.rpc.test_registration import Sides, outcome, sides
from tests.rpc.test_run import admin_key, client_of

__all__ = ["admin_key", "sides"]

ID = "operator"
EXAMPLES = Path(__file__).parents[1] / "ocpi" / "examples"
BOTH = IntegrationModels(pull_location=True, pull_tariff=True)


def example(name: str, version: str = "2.2.1", **changes: Any) -> dict[str, Any]:
    object: dict[str, Any] = json.loads((EXAMPLES / f"{name}_{version}.json").read_text(encoding="utf-8"))
    return object | {"country_code": "NL", "party_id": "TNM"} | changes


def the_location(number: int, **changes: Any) -> dict[str, Any]:
    return example("location", **{"id": f"L{number}", "last_updated": f"2026-03-0{number}T12:00:00Z"} | changes)


def the_tariff(number: int) -> dict[str, Any]:
    return example("tariff", id=f"T{number}", last_updated=f"2026-03-0{number}T12:00:00Z")


def the_token(number: int) -> dict[str, Any]:
    return {
        "country_code": "NL",
        "party_id": "TNM",
        "uid": f"U{number}",
        "type": "RFID",
        "contract_id": f"NL-TNM-C{number}",
        "issuer": "The New",
        "valid": True,
        "whitelist": "ALLOWED",
        "last_updated": "2026-03-01T12:00:00Z",
    }


@pytest.fixture
async def operator() -> AsyncIterator[OcpiPartner]:
    """NL*TNM with three tariffs and five locations, two at a time."""
    partner = OcpiPartner(party_role="CPO", modules=("credentials", "locations", "tariffs"), versions=("2.2.1",))
    partner.lists["tariffs"] = [the_tariff(number) for number in range(1, 4)]
    partner.lists["locations"] = [the_location(number) for number in range(1, 6)]
    async with partner.listening():
        yield partner


_BY_HAND = Statement("by_hand", "UPDATE integration SET pull_time = 'infinity'")


async def registered(
    client: Client,
    operator: OcpiPartner,
    models: IntegrationModels = BOTH,
    by_hand: Database | None = None,
    role: PartyRole.ValueType = PARTY_ROLE_EMSP,
) -> None:
    """Of who pulls `by_hand` nothing begins by itself."""
    await client.parties.CreateParty(CreatePartyRequest(party=a_party(roles=[role])))
    integration = an_integration_of(
        "ocpi",
        "",
        id=ID,
        parties=[PartyKey(country_code="DE", party_id="ABC")],
        models=models,
        ocpi=OcpiConnection(
            endpoint_url=f"{operator.url}/ocpi/versions", initial_token="token-a", initial_role=INTERFACE_ROLE_SENDER
        ),
    )
    await client.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    if by_hand:
        await by_hand.run(_BY_HAND)
    run = await client.registration.RegisterIntegration(RegisterIntegrationRequest(integration_id=ID))
    assert outcome(await client.runs.WaitRun(WaitRunRequest(id=run.id))) == "OK"


@pytest.fixture
async def client(tenant: Tenant, running: Evbridge, operator: OcpiPartner) -> Client:
    await registered(tenant.admin, operator, by_hand=running.database)
    return tenant.admin


async def pulled(client: Client, **options: Any) -> Run:
    request = StartRunRequest(integration_id=ID, kind=RUN_KIND_SYNC, sync_options=SyncOptions(**options))
    run = await client.runs.StartRun(request)
    ended: Run = await client.runs.WaitRun(WaitRunRequest(id=run.id))
    return ended


async def locations(client: Client) -> dict[str, Location]:
    page = await client.locations.ListLocations(ListLocationsRequest(integration_id=ID))
    return {each.id: each for each in page.locations}


async def tariffs(client: Client) -> dict[str, Tariff]:
    page = await client.tariffs.ListTariffs(ListTariffsRequest(integration_id=ID))
    return {each.id: each for each in page.tariffs}


async def findings(client: Client, run: Run) -> list[RunFinding]:
    return list((await client.runs.ListRunFindings(ListRunFindingsRequest(run_id=run.id))).findings)


def counts(step: RunStep) -> dict[str, int]:
    """Those that are not 0."""
    return {field.name: value for field, value in step.ListFields() if field.name.endswith("_count")}


def removed(location: Location) -> bool:
    return {evse.status for evse in location.evses} == {EVSE_STATUS_REMOVED}


async def test_what_an_operator_has_is_pulled_page_by_page(client: Client, operator: OcpiPartner) -> None:
    run = await pulled(client)
    assert outcome(run) == "OK"
    assert {step.name: counts(step) for step in run.steps} == {
        "tariffs": {"page_count": 2, "read_count": 3, "created_count": 3},
        "locations": {"page_count": 3, "read_count": 5, "created_count": 5},
    }
    assert (run.progress.done, run.progress.total) == (5, 5)
    assert sorted(await tariffs(client)) == ["T1", "T2", "T3"]
    stored = await locations(client)
    assert sorted(stored) == ["L1", "L2", "L3", "L4", "L5"]
    assert stored["L1"].city == operator.lists["locations"][0]["city"]
    assert stored["L1"].integration_id == ID
    assert [query.get("offset") for query in operator.asked["locations"]] == [None, "2", "4"]
    assert all("date_from" not in query for query in operator.asked["locations"])


async def test_the_next_run_reads_what_changed_since_by_the_clock_of_the_partner(
    client: Client, operator: OcpiPartner
) -> None:
    await pulled(client)
    operator.lists["locations"][1] |= {"name": "Renamed", "last_updated": "2026-03-05T11:30:00Z"}
    operator.asked.clear()
    run = await pulled(client)
    assert counts(run.steps[1]) == {"page_count": 1, "read_count": 2, "updated_count": 1, "unchanged_count": 1}
    assert operator.asked["locations"] == [{"limit": "100", "date_from": "2026-03-05T11:00:00Z"}]
    assert (await locations(client))["L2"].name == "Renamed"
    whole = await pulled(client, whole=True)
    assert counts(whole.steps[1]) == {"page_count": 3, "read_count": 5, "unchanged_count": 5}


async def test_tariffs_of_one_type_at_one_connector_are_kept_and_said(client: Client, operator: OcpiPartner) -> None:
    connector = operator.lists["locations"][0]["evses"][0]["connectors"][0]
    connector["tariff_ids"] = ["T1", "T2"]
    for other, number in (({}, 1), ({"type": "PROFILE_FAST"}, 0)):
        operator.lists["tariffs"][0] |= other | {"last_updated": f"2026-04-0{2 - number}T12:00:00Z"}
        operator.lists["locations"][0] |= {"last_updated": f"2026-04-0{2 - number}T12:00:00Z"}
        connector["last_updated"] = operator.lists["locations"][0]["last_updated"]
        connector["tariff_ids"] = sorted(connector["tariff_ids"], reverse=not number)
        run = await pulled(client)
        said = [each for each in await findings(client, run) if "tariff_ids" in str(each)]
        assert len(said) == number
        assert sorted((await locations(client))["L1"].evses[0].connectors[0].tariff_ids) == ["T1", "T2"]


async def test_what_is_gone_from_the_whole_list_is_removed_and_comes_back(
    client: Client, operator: OcpiPartner
) -> None:
    await pulled(client)
    gone = operator.lists["locations"].pop(0), operator.lists["tariffs"].pop(0)
    assert outcome(await pulled(client)) == "OK"
    assert not removed((await locations(client))["L1"])
    run = await pulled(client, whole=True)
    assert [step.removed_count for step in run.steps] == [1, 1]
    stored = await locations(client)
    assert [id for id in sorted(stored) if removed(stored[id])] == ["L1"]
    assert sorted(await tariffs(client)) == ["T2", "T3"]
    again = await pulled(client, whole=True)
    assert [step.removed_count for step in again.steps] == [0, 0]
    operator.lists["locations"].append(gone[0])
    operator.lists["tariffs"].append(gone[1])
    back = await pulled(client, whole=True)
    assert [counts(step) for step in back.steps] == [
        {"page_count": 2, "read_count": 3, "created_count": 1, "unchanged_count": 2},
        {"page_count": 3, "read_count": 5, "updated_count": 1, "unchanged_count": 4},
    ]
    assert not removed((await locations(client))["L1"])


async def test_tokens_that_are_not_in_the_whole_list_are_invalid_until_they_are(
    tenant: Tenant, running: Evbridge, operator: OcpiPartner
) -> None:
    operator.party_role, operator.modules = "EMSP", ("credentials", "tokens")
    shown = [the_token(number) for number in range(1, 6)]
    models = IntegrationModels(pull_tokens_all=True)
    await registered(tenant.admin, operator, models, running.database, PARTY_ROLE_CPO)
    valid: list[list[str]] = []
    for listed in (shown, shown[1:], shown):
        operator.lists["tokens"] = listed
        assert outcome(await pulled(tenant.admin, whole=True)) == "OK"
        page = await tenant.admin.tokens.ListTokens(ListTokensRequest(integration_id=ID))
        valid.append([token.uid for token in page.tokens if token.valid])
    assert valid == [["U1", "U2", "U3", "U4", "U5"], ["U2", "U3", "U4", "U5"], ["U1", "U2", "U3", "U4", "U5"]]


async def test_a_module_that_the_partner_lacks_costs_no_other(
    tenant: Tenant, running: Evbridge, operator: OcpiPartner
) -> None:
    models = IntegrationModels(pull_tariff=True, pull_session=True, pull_location=True)
    await registered(tenant.admin, operator, by_hand=running.database)
    update = UpdateIntegrationRequest(integration=Integration(id=ID, models=models))
    await tenant.admin.integrations.UpdateIntegration(update)
    await running.database.run(_BY_HAND)
    run = await pulled(tenant.admin)
    assert outcome(run) == "ENDPOINT_MISSING"
    succeeded, failed = RUN_STEP_STATE_SUCCEEDED, RUN_STEP_STATE_FAILED
    states = {"tariffs": succeeded, "locations": succeeded, "sessions": failed}
    assert {step.name: step.state for step in run.steps} == states
    assert run.steps[-1].description == "the partner has no sender of sessions"


async def test_a_list_that_empties_removes_nothing_until_that_is_confirmed(
    client: Client, operator: OcpiPartner
) -> None:
    await pulled(client)
    operator.lists["locations"].clear()
    for _ in range(2):
        run = await pulled(client, whole=True)
        assert (run.state, run.reason) == (RUN_STATE_FAILED, reasons.MASS_REMOVAL)
        assert "5 of 5 locations" in run.description
        assert not any(map(removed, (await locations(client)).values()))
    run = await pulled(client, allow_mass_removal=True)
    assert outcome(run) == "OK"
    assert run.steps[1].removed_count == 5
    assert all(map(removed, (await locations(client)).values()))


NO_DOCUMENT: dict[str, tuple[Any, str]] = {
    "a text": ("L2", "/data/1"),
    "no id": (the_location(2, id=None), "/data/1/id"),
    "no party": (the_location(2, party_id=7), "/data/1/party_id"),
}


@pytest.mark.parametrize(("bad", "path"), NO_DOCUMENT.values(), ids=NO_DOCUMENT)
async def test_an_object_that_nobody_can_name_costs_itself_and_nothing_is_removed_then(
    client: Client, operator: OcpiPartner, bad: Any, path: str
) -> None:
    await pulled(client)
    operator.lists["locations"][1] = bad
    operator.lists["locations"][2] |= {"name": "Renamed", "last_updated": "2026-04-01T00:00:00Z"}
    run = await pulled(client, whole=True)
    assert outcome(run) == "OK"
    assert counts(run.steps[1]) == {
        "page_count": 3,
        "read_count": 5,
        "updated_count": 1,
        "unchanged_count": 3,
        "refused_count": 1,
    }
    (found,) = await findings(client, run)
    assert (found.step, found.outcome, found.path) == ("locations", RUN_FINDING_OUTCOME_REFUSED, path)
    assert "nothing was removed" in run.steps[1].description
    stored = await locations(client)
    assert stored["L3"].name == "Renamed"
    assert not removed(stored["L2"])


@pytest.mark.parametrize("per_page", [1, 2], ids=["on two pages", "on one page"])
@pytest.mark.parametrize("order", [1, -1], ids=["older first", "newer first"])
async def test_of_an_object_that_is_shown_twice_the_newer_is_kept(
    client: Client, operator: OcpiPartner, per_page: int, order: int
) -> None:
    newer = the_location(1) | {"name": "Renamed", "last_updated": "2026-04-01T00:00:00Z"}
    operator.lists["locations"], operator.per_page = [the_location(1), newer][::order], per_page
    run = await pulled(client)
    assert outcome(run) == "OK"
    assert run.steps[1].read_count == 2
    assert (await locations(client))["L1"].name == "Renamed"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another party": ({"party_id": "XXX"}, "/data/1"),
    "a time that is none": ({"last_updated": "soon"}, "/data/1/last_updated"),
    "a time far ahead": ({"last_updated": "2096-01-01T00:00:00Z"}, "/data/1/last_updated"),
    "no coordinates": ({"coordinates": None}, "/data/1/coordinates"),
    "too deep": ({"own": json.loads("[" * 300 + "]" * 300)}, "/data/1"),
    "a number that is none": ({"own": [{"x": float("nan")}]}, "/data/1/own/0/x"),
}


@pytest.mark.parametrize(("change", "path"), BAD.values(), ids=BAD)
async def test_a_bad_object_is_a_finding_and_costs_no_other(
    client: Client, operator: OcpiPartner, change: dict[str, Any], path: str
) -> None:
    operator.lists["locations"][1] |= change
    run = await pulled(client)
    assert outcome(run) == "OK"
    assert counts(run.steps[1]) == {"page_count": 3, "read_count": 5, "created_count": 4, "refused_count": 1}
    refused = [each for each in await findings(client, run) if each.outcome == RUN_FINDING_OUTCOME_REFUSED]
    assert [(each.object_id, each.path) for each in refused] == [("L2", path)]
    assert sorted(await locations(client)) == ["L1", "L3", "L4", "L5"]


async def test_an_object_that_was_refused_is_not_gone(client: Client, operator: OcpiPartner) -> None:
    await pulled(client)
    operator.lists["locations"][1]["coordinates"] = None
    run = await pulled(client, whole=True)
    assert (run.steps[1].refused_count, run.steps[1].removed_count) == (1, 0)
    assert not removed((await locations(client))["L2"])


async def test_nothing_is_gone_from_a_list_that_shrinks_while_it_is_read(client: Client, operator: OcpiPartner) -> None:
    """The third location moves into the page that was read already: the list is read on from one earlier."""
    await pulled(client)

    async def shrinks() -> web.Response:
        del operator.lists["locations"][0]
        return await operator.page(asking, "locations")

    asking: Any = SimpleNamespace(query={"limit": "2", "offset": "2"})
    operator.instead["locations", 2] = shrinks
    run = await pulled(client, whole=True)
    assert "nothing was removed" in run.steps[1].description
    assert [query.get("offset") for query in operator.asked["locations"][-3:]] == ["2", "1", "3"]
    stored = await locations(client)
    assert not any(map(removed, stored.values()))
    run = await pulled(client, whole=True)
    stored = await locations(client)
    assert [id for id in sorted(stored) if removed(stored[id])] == ["L1"]


async def test_a_list_that_shrinks_to_a_page_before_goes_in_no_circle(client: Client, operator: OcpiPartner) -> None:
    operator.lists["locations"] += [the_location(number) for number in (6, 7)]

    async def shrinks() -> web.Response:
        del operator.lists["locations"][:2]
        return await operator.page(asking, "locations")

    asking: Any = SimpleNamespace(query={"limit": "100", "offset": "4"})
    operator.instead["locations", 4] = shrinks
    run = await pulled(client)
    assert outcome(run) == "OK"
    assert [query.get("offset") for query in operator.asked["locations"]] == [None, "2", "4", "4", "2", "4"]
    assert sorted(await locations(client)) == ["L1", "L2", "L3", "L4", "L5", "L6", "L7"]


@pytest.mark.parametrize("slice_s", [60.0, 0.0], ids=["at once", "in an attempt for each page"])
@pytest.mark.parametrize("circle", [2, 3, 5, 0])
async def test_a_list_that_goes_in_a_circle_fails_the_run(
    client: Client, operator: OcpiPartner, monkeypatch: pytest.MonkeyPatch, circle: int, slice_s: float
) -> None:
    """Of pages that a cursor leads to; one that leads on is the control."""
    monkeypatch.setattr("service.runs.worker.SLICE_S", slice_s)
    cursors = [f"c{number}" for number in range(8)]
    following = dict(zip(cursors, [*cursors[1:], f"c{8 - circle}"], strict=True))
    asked: list[str] = []

    async def locations_page(request: web.Request) -> web.Response:
        cursor = request.query.get("cursor", "c0")
        asked.append(cursor)
        link = following[cursor]
        headers = {"Link": f'</ocpi/locations?cursor={link}>; rel="next"'} if link in following else {}
        return answer({"data": [the_location(cursors.index(cursor) + 1)]}, **headers)

    operator.page = lambda request, module: locations_page(request)  # type: ignore[method-assign]
    models = Integration(id=ID, models=IntegrationModels(pull_location=True, pull_tariff=False))
    await client.integrations.UpdateIntegration(UpdateIntegrationRequest(integration=models))
    run = await pulled(client, whole=True)
    assert outcome(run) == ("PARTNER_FAULT" if circle else "OK")
    assert ("goes in a circle" in run.description) == bool(circle)
    assert len(asked) <= 3 * len(cursors)
    assert len(await locations(client)) == 8


def again(link: str) -> str:
    """The page's own URL, however often it is asked for."""
    return '</elsewhere?offset=0&limit=100>; rel="next"'


PAGED: dict[str, tuple[dict[str, Any], list[str | None], bool]] = {
    "no Link": ({"link": lambda link: ""}, [None, "2", "4"], True),
    "no X-Total-Count": ({"total": lambda total: ""}, [None, "2", "4"], True),
    "a total that is none": ({"total": lambda total: "many"}, [None, "2", "4"], True),
    "a Link to itself": ({"link": again}, [None, "2", "4"], True),
    "a Link to itself, no total": ({"link": again, "total": lambda total: ""}, [None], False),
    "no Link, and a total that is too high": (
        {"link": lambda link: "", "total": lambda total: str(total + 3)},
        [None, "2", "4", "5"],
        False,
    ),
}


@pytest.mark.parametrize(("made", "offsets", "whole"), PAGED.values(), ids=PAGED)
async def test_a_list_is_read_to_its_end_however_it_is_paged(
    client: Client, operator: OcpiPartner, made: dict[str, Any], offsets: list[str | None], whole: bool
) -> None:
    await pulled(client)
    operator.asked.clear()
    for name, value in made.items():
        setattr(operator, name, value)
    del operator.lists["locations"][0]
    operator.lists["locations"].append(the_location(6))
    run = await pulled(client, whole=True)
    assert outcome(run) == "OK"
    asked = operator.asked["locations"]
    assert [query.get("offset") for query in asked] == offsets
    assert {query["limit"] for query in asked} == {"100"}
    stored = await locations(client)
    assert removed(stored["L1"]) == whole
    assert ("L6" in stored) == (len(offsets) > 1)
    assert ("nothing was removed" in run.steps[1].description) != whole


async def test_a_run_rests_between_its_pages_and_goes_on_with_what_it_found(
    client: Client, operator: OcpiPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (0, 4):
        operator.lists["locations"][number]["coordinates"] = None
    monkeypatch.setattr("service.runs.worker.SLICE_S", 0.0)
    run = await pulled(client)
    assert outcome(run) == "OK"
    assert {step.name: counts(step) for step in run.steps} == {
        "tariffs": {"page_count": 2, "read_count": 3, "created_count": 3},
        "locations": {"page_count": 3, "read_count": 5, "created_count": 3, "refused_count": 2},
    }
    assert [query.get("offset") for query in operator.asked["locations"]] == [None, "2", "4"]
    assert [each.object_id for each in await findings(client, run)] == ["L1", "L5"]


async def test_a_page_that_the_partner_could_not_serve_is_asked_for_again(
    client: Client, operator: OcpiPartner
) -> None:
    async def busy() -> web.Response:
        return web.json_response({"status_code": 3000, "timestamp": "2026-01-01T00:00:00Z"}, status=503)

    operator.instead["locations", 2] = busy
    run = await pulled(client)
    assert outcome(run) == "OK"
    assert run.steps[1].read_count == 5


WRONG: dict[str, tuple[Callable[[], web.Response], str]] = {
    "no list": (lambda: answer({"data": {"id": "L1"}}), "PARTNER_FAULT"),
    "a status of its own": (lambda: answer({"status_code": 2001}), "PARTNER_REJECTED"),
    "a page elsewhere": (
        lambda: answer({"data": []}, **{"X-Total-Count": "5", "Link": '<https://other.example/x>; rel="next"'}),
        "EGRESS_DENIED",
    ),
    "no JSON": (lambda: web.Response(body=b"<html>", content_type="application/json"), "PARTNER_FAULT"),
    "too much": (lambda: web.Response(body=b" " * (9 << 20), content_type="application/json"), "PARTNER_FAULT"),
}


def answer(members: dict[str, Any], **headers: str) -> web.Response:
    return web.json_response({"status_code": 1000, "timestamp": "2026-01-01T00:00:00Z"} | members, headers=headers)


@pytest.mark.parametrize(("wrong", "reason"), WRONG.values(), ids=WRONG)
async def test_an_answer_that_is_no_page_fails_the_run_and_what_was_read_stays(
    client: Client, operator: OcpiPartner, wrong: Callable[[], web.Response], reason: str
) -> None:
    async def instead() -> web.Response:
        return wrong()

    operator.instead["locations", 2] = instead
    run = await pulled(client)
    assert outcome(run) == reason
    assert sorted(await locations(client)) == ["L1", "L2"]
    assert outcome(await pulled(client)) == "OK"
    assert len(await locations(client)) == 5


async def test_a_token_that_comes_back_is_hidden(client: Client, operator: OcpiPartner) -> None:
    token = operator.authorization.removeprefix("Token ")
    operator.lists["locations"][0] |= {"name": f"it is {token}", "token": token}
    await pulled(client)
    assert (await locations(client))["L1"].name == "it is ***"


MODELS: dict[str, tuple[IntegrationModels, list[str]]] = {
    "locations": (IntegrationModels(pull_location=True), ["locations"]),
    "tariffs": (IntegrationModels(pull_tariff=True, pull_location=False), ["tariffs"]),
    "both": (BOTH, ["tariffs", "locations"]),
}


@pytest.mark.parametrize(("models", "modules"), MODELS.values(), ids=MODELS)
async def test_the_models_say_what_is_pulled(
    tenant: Tenant, running: Evbridge, operator: OcpiPartner, models: IntegrationModels, modules: list[str]
) -> None:
    await registered(tenant.admin, operator, models, by_hand=running.database)
    run = await pulled(tenant.admin)
    assert [step.name for step in run.steps] == modules
    assert sorted(operator.asked) == sorted(modules)


async def test_a_run_needs_something_to_pull_and_a_registration(
    tenant: Tenant, running: Evbridge, operator: OcpiPartner
) -> None:
    await registered(tenant.admin, operator, IntegrationModels(), by_hand=running.database)
    assert outcome(await pulled(tenant.admin)) == "ENDPOINT_MISSING"
    models = Integration(id=ID, models=IntegrationModels(pull_location=True))
    await tenant.admin.integrations.UpdateIntegration(UpdateIntegrationRequest(integration=models))
    assert outcome(await pulled(tenant.admin)) == "OK"
    integration = an_integration_of("ocpi", "", id="other", models=BOTH)
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    run = await tenant.admin.runs.StartRun(StartRunRequest(integration_id="other", kind=RUN_KIND_SYNC))
    assert outcome(await tenant.admin.runs.WaitRun(WaitRunRequest(id=run.id))) == "NOT_REGISTERED"


_DUE = Statement("time_passes", "UPDATE integration SET pull_time = now() WHERE tenant_id = $1")
_DUE_LAST = Statement(
    "due_last", "UPDATE integration SET status = 2, pull_minutes = 60, pull_time = now() WHERE tenant_id = $1"
)
_WHEN = Statement("when_due", "SELECT pull_time - now() FROM integration WHERE tenant_id = $1 AND integration_id = $2")


async def pulled_last(running: Evbridge, other: Tenant) -> None:
    """Whoever was due is pulled before the other one, who is due last."""
    await running.database.run(_DUE_LAST, other.name)
    while (await running.database.value(_WHEN, other.name, "other")).total_seconds() <= 0:
        await asyncio.sleep(0.02)


async def test_an_active_integration_is_pulled_at_intervals(
    tenant: Tenant, running: Evbridge, operator: OcpiPartner, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    models = IntegrationModels(pull_location=True, pull_interval_minutes=60)
    await registered(tenant.admin, operator, models)
    listed = ListRunsRequest(integration_id=ID, kind=RUN_KIND_SYNC)
    for count in (1, 2):
        async with asyncio.timeout(30):
            while len(runs := (await tenant.admin.runs.ListRuns(listed)).runs) < count:
                await asyncio.sleep(0.05)
        run = await tenant.admin.runs.WaitRun(WaitRunRequest(id=runs[0].id))
        assert (run.state, run.requested_by) == (RUN_STATE_SUCCEEDED, "schedule")
        minutes = (await running.database.value(_WHEN, tenant.name, ID)).total_seconds() / 60
        assert 50 < minutes <= 66
        integration = await tenant.admin.integrations.GetIntegration(GetIntegrationRequest(id=ID))
        assert (integration.status, integration.latest_run_id) == (INTEGRATION_STATUS_ACTIVE, run.id)
        await running.database.run(_DUE, tenant.name)
    # The controls: nothing to pull, and a disabled integration.
    other = await new_tenant()
    integration = an_integration_of("ocpi", id="other")
    await other.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    for change in (
        Integration(id=ID, models=IntegrationModels(pull_location=False)),
        Integration(id=ID, enabled=False, models=models),
    ):
        update = UpdateIntegrationRequest(integration=change)
        if change.models == models:
            update.update_mask.paths.extend(["enabled", "models"])
        await tenant.admin.integrations.UpdateIntegration(update)
        await pulled_last(running, other)
        before = (await tenant.admin.runs.ListRuns(listed)).runs
        await tenant.admin.runs.WaitRun(WaitRunRequest(id=before[0].id))
        await running.database.run(_DUE, tenant.name)
        await pulled_last(running, other)
        assert len((await tenant.admin.runs.ListRuns(listed)).runs) == len(before)


_NEXT_LINK = Statement("next link", f"SELECT next_link FROM pull WHERE object_kind = {OBJECT_KIND_LOCATION}")


async def test_a_run_whose_process_is_killed_goes_on_at_its_page(
    database_url: str, database: Database, admin_key: str, operator: OcpiPartner
) -> None:
    asked, forever = asyncio.Event(), asyncio.Event()

    async def hangs() -> web.Response:
        asked.set()
        await forever.wait()
        raise web.HTTPGone

    operator.instead["locations", 4] = hangs
    async with serving(environment(database_url)) as server:
        async with client_of(server.address, admin_key) as client:
            await registered(client, operator, by_hand=database)
            request = StartRunRequest(integration_id=ID, kind=RUN_KIND_SYNC)
            run = await client.runs.StartRun(request)
            await asyncio.wait_for(asked.wait(), 30)
            async with asyncio.timeout(30):  # meanwhile the page before it is stored
                while "offset=4" not in (await database.value(_NEXT_LINK) or ""):
                    await asyncio.sleep(0.02)
        server.process.kill()
        await server.process.wait()
    for table in ("run", "gate_slot"):
        await database.run(Statement("time passes", f"UPDATE {table} SET lease_until = now()"))
    operator.asked.clear()
    async with evbridge(settings(database_url)) as running, client_of(running.address, admin_key) as client:
        run = await client.runs.WaitRun(WaitRunRequest(id=run.id))
        assert outcome(run) == "OK"
        assert {step.name: counts(step) for step in run.steps} == {
            "tariffs": {"page_count": 2, "read_count": 3, "created_count": 3},
            "locations": {"page_count": 3, "read_count": 5, "created_count": 5},
        }
        assert sorted(await locations(client)) == ["L1", "L2", "L3", "L4", "L5"]
    assert {module: [each["offset"] for each in queries] for module, queries in operator.asked.items()} == {
        "locations": ["4"]
    }


@pytest.mark.parametrize("version", ["2.3.0", "2.2.1", "2.1.1"])
async def test_one_evbridge_pulls_what_another_shows_it(sides: Sides, version: str) -> None:
    async with sides({"ocpi_versions": version}) as (cpo, emsp):
        owner = {"country_code": "DE", "party_id": "CPO"}
        await cpo.client.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id="T1", **owner)))
        for number in (1, 2, 3):
            location = a_location(id=f"L{number}", name="Wattwerk", **owner)
            await cpo.client.locations.CreateLocation(CreateLocationRequest(location=location))
        rule = a_rule(integration_id="roaming", id="all")
        await cpo.client.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=rule))
        await emsp.given(*await cpo.issue())
        models = Integration(id="roaming", models=IntegrationModels(pull_location=True))
        await emsp.client.integrations.UpdateIntegration(UpdateIntegrationRequest(integration=models))
        await emsp.running.database.run(_BY_HAND)
        assert outcome(await emsp.registers()) == "OK"
        async with asyncio.timeout(30):
            while True:
                assert outcome(await emsp.synced()) == "OK"
                page = await emsp.client.locations.ListLocations(ListLocationsRequest(integration_id="roaming"))
                if len(page.locations) == 3:
                    break
        key = LocationKey(id="L1", integration_id="roaming", **owner)
        got = await emsp.client.locations.GetLocation(GetLocationRequest(key=key))
        ours = await cpo.client.locations.GetLocation(GetLocationRequest(key=LocationKey(id="L1", **owner)))
        assert (got.name, got.address, got.coordinates) == (ours.name, ours.address, ours.coordinates)
        assert [evse.uid for evse in got.evses] == ["E1", "E2"]
        assert datetime.now(UTC) > got.last_updated.ToDatetime(UTC) > datetime(2026, 1, 1, tzinfo=UTC)
