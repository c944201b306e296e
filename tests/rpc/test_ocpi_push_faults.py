"""What is pushed to an OCPI party arrives whatever its receiver answers meanwhile, and nothing goes where none is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from evbridge.v1 import error_reason_pb2 as reasons
from evbridge.v1.delivery_pb2 import (
    DELIVERY_STATE_DELIVERED,
    DELIVERY_STATE_IN_PROGRESS,
    DELIVERY_STATE_PARKED,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_TARIFF,
    Delivery,
    GetDeliveryRequest,
    ListDeliveriesRequest,
    ObjectKind,
)
from evbridge.v1.integration_pb2 import Integration, IntegrationModels, UpdateIntegrationRequest
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_AVAILABLE,
    EVSE_STATUS_CHARGING,
    BatchUpsertLocationsRequest,
    EvseStatusReport,
    Location,
    LocationKey,
    ReportEvseStatusRequest,
)
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest
from evbridge.v1.tariff_pb2 import TARIFF_TYPE_PROFILE_FAST, CreateTariffRequest, Tariff, UpdateTariffRequest
from google.protobuf.field_mask_pb2 import FieldMask

from service.storage.clock import Clock
from tests.conftest import Tenant
from tests.front_door import a_connector, a_location, a_rule, a_tariff, an_evse, at_rest, settled
from tests.ocpi_schema import complaints
from tests.partners import OcpiPartner
from tests.rpc.test_credentials import ID, ocpi, ours, outcome, register

__all__ = ["ours"]
BOTH = IntegrationModels(push_location=True, push_tariff=True)


@dataclass
class Receiver(OcpiPartner):
    """Holds what it is pushed, by its place; `refusals` are what its next answers are: HTTP and OCPI status, or only
    HTTP status.
    """

    role: str | None = "RECEIVER"
    modules: tuple[str, ...] = ("credentials", "locations", "tariffs")
    held: dict[str, Any] = field(default_factory=dict)
    pushed: list[tuple[str, str]] = field(default_factory=list)
    refusals: list[tuple[int, int]] = field(default_factory=list)
    down: bool = False

    async def answer(self, request: web.Request) -> web.Response:
        place = request.path.removeprefix("/ocpi/")
        if place == "2.3.0":
            sides = [{"identifier": each, "role": self.role, "url": f"{self.url}/ocpi/{each}"} for each in self.modules]
            self.own[request.path] = _envelope() | {"data": {"version": place, "endpoints": sides}}
        if place.count("/") < 3:
            return await super().answer(request)
        if self.down:
            return web.Response(status=503)
        self.pushed.append((request.method, place))
        if self.refusals:
            status, code = self.refusals.pop(0)
            return web.json_response(_envelope(code), status=status) if code else web.Response(status=status)
        found = self._store(request.method, place, await request.json() if request.can_read_body else None)
        return web.json_response(_envelope(1000 if found else 2003), status=200 if found else 404)

    def _store(self, method: str, place: str, sent: Any) -> bool:
        if method == "PUT":
            self.held[place] = sent
            return True
        if method == "DELETE":
            return self.held.pop(place, None) is not None
        location, _, uid = place.rpartition("/")
        evses = [evse for evse in self.held.get(location, {"evses": []})["evses"] if evse["uid"] == uid]
        for evse in evses:
            evse |= sent
        return bool(evses)

    def tariff_ids(self, id: str = "L1") -> list[str]:
        """What the first connector names."""
        named: list[str] = self.held[place_of(id)]["evses"][0]["connectors"][0].get("tariff_ids", [])
        return named

    def statuses(self, id: str = "L1") -> list[str]:
        return [evse["status"] for evse in self.held[place_of(id)]["evses"]]


def _envelope(code: int = 1000) -> dict[str, Any]:
    return {"status_code": code, "status_message": "of token-c", "timestamp": "2026-01-01T00:00:00Z"}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().listening() as listening:
        assert isinstance(listening, Receiver)
        yield listening


async def connect(ours: Tenant, receiver: Receiver, models: IntegrationModels = BOTH) -> None:
    """The partner sees everything: so far the tariff T1, which nothing names."""
    await ours.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id="T1")))
    assert outcome(await register(ours, ocpi(receiver, models=models))) == "OK"
    rule = CreatePublicationRuleRequest(rule=a_rule(integration_id=ID, id="all", priority=5))
    await ours.writer.publication.CreatePublicationRule(rule)


async def store(ours: Tenant, *locations: Location) -> None:
    request = BatchUpsertLocationsRequest(locations=locations, allow_missing=True)
    assert not [each for each in (await ours.writer.locations.BatchUpsertLocations(request)).results if each.error.code]


def a_place(id: str = "L1", evses: int = 1, tariff_ids: tuple[str, ...] = ("T1",), **changes: Any) -> Location:
    """Its EVSEs are available."""
    connector = a_connector(tariff_ids=tariff_ids)
    each = [an_evse(f"E{number}", connectors=[connector]) for number in range(evses)]
    return a_location(id=id, evses=each, **changes)


def tariff_key(id: str, **changes: Any) -> Tariff:
    return Tariff(country_code="DE", party_id="ABC", id=id, **changes)


def place_of(id: str = "L1") -> str:
    return f"locations/DE/ABC/{id}"


async def report(ours: Tenant, status: Any, *ids: str) -> None:
    """Of the first EVSE of each location, L1 when none is named."""
    keys = [LocationKey(country_code="DE", party_id="ABC", id=id) for id in ids or ["L1"]]
    reports = [EvseStatusReport(location=key, evse_uid="E0", status=status) for key in keys]
    await ours.writer.locations.ReportEvseStatus(ReportEvseStatusRequest(reports=reports))


async def pushed(ours: Tenant, receiver: Receiver) -> list[tuple[str, str]]:
    """The method and the place of what was sent, once nothing is due any more."""
    await at_rest(ours.reader, ID)
    sent, receiver.pushed = receiver.pushed, []
    return sent


async def nothing_under_way(ours: Tenant) -> None:
    """What is sent from here on is not older than this: an attempt may have begun before the last change."""
    request = ListDeliveriesRequest(integration_id=ID, state=DELIVERY_STATE_IN_PROGRESS)
    while (await ours.reader.deliveries.ListDeliveries(request)).deliveries:
        pass


async def delivery(ours: Tenant, kind: ObjectKind.ValueType = OBJECT_KIND_LOCATION) -> Delivery:
    (each,) = (
        await ours.reader.deliveries.ListDeliveries(ListDeliveriesRequest(integration_id=ID, object_kind=kind))
    ).deliveries
    found: Delivery = await ours.reader.deliveries.GetDelivery(GetDeliveryRequest(id=each.id))
    return found


PATCHED, PUT = ("PATCH", f"{place_of()}/E0"), ("PUT", place_of())
# What the receiver answers a status; what it is sent, of which repeated requests count once; why it is parked.
ANSWERS: dict[str, tuple[list[tuple[int, int]], list[tuple[str, str]], str]] = {
    "it takes it": ([], [PATCHED], ""),
    "404 and 2003": ([(404, 2003)], [PATCHED, PUT], ""),
    "200 and 2003": ([(200, 2003)], [PATCHED, PUT], ""),
    "a bare 404": ([(404, 0)], [PATCHED, PUT], ""),
    "it loses the location twice": ([(404, 2003), (404, 2003)], [PATCHED, PUT], ""),
    "3000": ([(200, 3000)] * 2, [PATCHED, PUT], ""),
    "500": ([(500, 3000)] * 2, [PATCHED, PUT], ""),
    "503, with no envelope": ([(503, 0)] * 2, [PATCHED, PUT], ""),
    "2001": ([(200, 2001)], [PATCHED], "PARTNER_REJECTED"),
    "400 and 2001": ([(400, 2001)], [PATCHED], "PARTNER_REJECTED"),
}


@pytest.mark.parametrize(("answers", "sent", "parked"), ANSWERS.values(), ids=ANSWERS)
async def test_a_status_arrives_whatever_the_receiver_answers_first(
    ours: Tenant,
    receiver: Receiver,
    answers: list[tuple[int, int]],
    sent: list[tuple[str, str]],
    parked: str,
) -> None:
    await connect(ours, receiver)
    await store(ours, a_place())
    assert (await pushed(ours, receiver))[-2:] == [("PUT", "tariffs/DE/ABC/T1"), PUT]
    assert not [*complaints("2.3.0", "Location", receiver.held[place_of()])]
    assert not [*complaints("2.3.0", "Tariff", receiver.held["tariffs/DE/ABC/T1"])]
    receiver.refusals += answers
    await report(ours, EVSE_STATUS_CHARGING)
    assert [*dict.fromkeys(await pushed(ours, receiver))] == sent
    ended = await delivery(ours)
    assert receiver.statuses() == ["AVAILABLE" if parked else "CHARGING"]
    assert ended.state == (DELIVERY_STATE_PARKED if parked else DELIVERY_STATE_DELIVERED), ended
    assert reasons.ErrorReason.Name(ended.reason) == (parked or "ERROR_REASON_UNSPECIFIED")
    assert "token-c" not in str(ended)
    # The next change is sent on top of what is known to be there: the partner is not asked.
    await report(ours, EVSE_STATUS_AVAILABLE)
    assert await pushed(ours, receiver) == [PUT if parked else PATCHED]
    assert receiver.statuses() == ["AVAILABLE"]


async def test_a_location_waits_for_its_tariff(ours: Tenant, receiver: Receiver) -> None:
    await connect(ours, receiver)
    receiver.refusals += [(200, 2001)] * 100
    await store(ours, a_place())
    async with asyncio.timeout(20):
        while (await delivery(ours)).reason != reasons.TARIFF_NOT_DELIVERED:
            await asyncio.sleep(0.02)
    assert (await settled(ours.reader, "DE*ABC*T1")).state == DELIVERY_STATE_PARKED
    receiver.refusals.clear()
    changed = a_tariff(id="T1", currency="CHF")
    await ours.writer.tariffs.UpdateTariff(UpdateTariffRequest(tariff=changed))
    *tariffs, last = await pushed(ours, receiver)
    assert ({*tariffs}, last) == ({("PUT", "tariffs/DE/ABC/T1")}, PUT)
    assert receiver.held["tariffs/DE/ABC/T1"]["currency"] == "CHF"


async def test_a_tariff_goes_once_no_location_names_it_at_the_partner(ours: Tenant, receiver: Receiver) -> None:
    await connect(ours, receiver)
    await store(ours, a_place())
    assert await pushed(ours, receiver) == [("PUT", "tariffs/DE/ABC/T1"), PUT]
    receiver.refusals.append((200, 2001))
    await store(ours, a_place(tariff_ids=()))
    async with asyncio.timeout(20):
        while (await delivery(ours, OBJECT_KIND_TARIFF)).reason != reasons.TARIFF_STILL_NAMED:
            await asyncio.sleep(0.02)
    assert (await settled(ours.reader, "DE*ABC*L1")).state == DELIVERY_STATE_PARKED
    assert (receiver.pushed, receiver.tariff_ids()) == ([PUT], ["T1"])
    await store(ours, a_place(tariff_ids=(), name="Renamed"))
    assert await pushed(ours, receiver) == [PUT, PUT, ("DELETE", "tariffs/DE/ABC/T1")]


async def test_a_price_changes_at_midnight_without_a_caller(ours: Tenant, receiver: Receiver, clock: Clock) -> None:
    """The next tariff is there before it begins; the one that ended goes after no connector names it any more."""
    midnight = (datetime.now(UTC) + timedelta(days=30)).replace(hour=0, minute=0, second=0, microsecond=0)
    await connect(ours, receiver)
    await ours.writer.tariffs.UpdateTariff(UpdateTariffRequest(tariff=tariff_key("T1", end_date_time=midnight)))
    # Of another type, for the first one will hold longer beside it.
    following = a_tariff(id="T2", type=TARIFF_TYPE_PROFILE_FAST, start_date_time=midnight)
    await ours.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=following))
    await store(ours, a_place(tariff_ids=("T1", "T2")))
    await pushed(ours, receiver)
    assert receiver.tariff_ids() == ["T1", "T2"]
    clock.ahead = midnight - datetime.now(UTC)
    async with asyncio.timeout(20):
        while "tariffs/DE/ABC/T1" in receiver.held:
            await asyncio.sleep(0.02)
    assert await pushed(ours, receiver) == [PUT, ("DELETE", "tariffs/DE/ABC/T1")]
    assert receiver.tariff_ids() == ["T2"]
    # It holds longer after all.
    later = midnight + timedelta(days=1)
    for moved in (tariff_key("T2", start_date_time=later), tariff_key("T1", end_date_time=later)):
        await ours.writer.tariffs.UpdateTariff(UpdateTariffRequest(tariff=moved))
    async with asyncio.timeout(20):
        while receiver.tariff_ids() != ["T1", "T2"]:
            await asyncio.sleep(0.02)
    assert (await pushed(ours, receiver))[-2:] == [("PUT", "tariffs/DE/ABC/T1"), PUT]


async def test_an_end_that_was_taken_back_changes_nothing(ours: Tenant, receiver: Receiver, clock: Clock) -> None:
    """T2's, which is due after it, does."""
    soon, later = (datetime.now(UTC) + timedelta(days=days) for days in (30, 31))
    await connect(ours, receiver)
    await ours.writer.tariffs.UpdateTariff(UpdateTariffRequest(tariff=tariff_key("T1", end_date_time=soon)))
    await ours.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id="T2", end_date_time=later)))
    await store(ours, a_place(), a_place("L2", tariff_ids=("T2",)))
    request = UpdateTariffRequest(tariff=tariff_key("T1"), update_mask=FieldMask(paths=["end_date_time"]))
    await ours.writer.tariffs.UpdateTariff(request)
    await pushed(ours, receiver)
    clock.ahead = timedelta(days=32)
    async with asyncio.timeout(20):
        while "tariffs/DE/ABC/T2" in receiver.held:
            await asyncio.sleep(0.02)
    assert await pushed(ours, receiver) == [("PUT", place_of("L2")), ("DELETE", "tariffs/DE/ABC/T2")]


MODULES = ("credentials", "locations", "tariffs")
# What the integration asks for, what the partner has, what is sent, and what its deliveries say.
MODELS: dict[str, tuple[IntegrationModels, tuple[str, ...], set[str], str]] = {
    "nothing": (IntegrationModels(), MODULES, set(), "not pushed: `models` asks for no push of locations"),
    "tariffs": (IntegrationModels(push_tariff=True), MODULES, {"tariffs"}, "not pushed: `models` asks"),
    "locations": (IntegrationModels(push_location=True), MODULES, {"locations"}, "stored at the partner"),
    "both": (BOTH, MODULES, {"locations", "tariffs"}, "stored at the partner"),
    "no receiver of tariffs": (BOTH, MODULES[:2], {"locations"}, "stored at the partner"),
    "no receiver": (BOTH, MODULES[:1], set(), "SERVED_BY_PULL: the partner has no receiver of locations"),
}


@pytest.mark.parametrize(("models", "modules", "sent", "described"), MODELS.values(), ids=MODELS)
async def test_what_is_pushed_is_asked_for_and_has_a_receiver(
    ours: Tenant,
    receiver: Receiver,
    models: IntegrationModels,
    modules: tuple[str, ...],
    sent: set[str],
    described: str,
) -> None:
    receiver.modules = modules
    await connect(ours, receiver, models)
    await store(ours, a_place())
    assert {place.partition("/")[0] for _, place in await pushed(ours, receiver)} == sent
    assert (await delivery(ours)).attempts[0].description.startswith(described)
    assert (await delivery(ours, OBJECT_KIND_TARIFF)).state == DELIVERY_STATE_DELIVERED
    everything = IntegrationModels(push_location=True, push_tariff=True)
    request = UpdateIntegrationRequest(integration=Integration(id=ID, models=everything))
    await ours.admin.integrations.UpdateIntegration(request)
    await pushed(ours, receiver)
    assert {place.partition("/")[0] for place in receiver.held} == {*modules} - {"credentials"}


async def test_after_an_outage_each_evse_is_sent_once_as_it_is_then(
    ours: Tenant, receiver: Receiver, soak: Callable[[int], int]
) -> None:
    """While the partner answers, as a control, each change is a request."""
    evses, rounds = soak(500), 20
    await connect(ours, receiver, IntegrationModels(push_location=True))
    await store(ours, *(a_place(f"L{number}", tariff_ids=()) for number in range(evses)))
    await pushed(ours, receiver)
    for status in (EVSE_STATUS_CHARGING, EVSE_STATUS_AVAILABLE):
        await report(ours, status, "L0")
        assert await pushed(ours, receiver) == [("PATCH", f"{place_of('L0')}/E0")]
    receiver.down = True
    for number in range(rounds):
        status = EVSE_STATUS_CHARGING if number % 2 else EVSE_STATUS_AVAILABLE
        await report(ours, status, *(f"L{each}" for each in range(evses)))
    await nothing_under_way(ours)
    receiver.down = False
    assert len(await pushed(ours, receiver)) <= evses
    assert [receiver.statuses(f"L{number}") for number in range(evses)] == [["CHARGING"]] * evses
