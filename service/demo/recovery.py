"""The demo's last part: a partner that is down and comes back, and a price that changes at midnight without a call."""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from typing import Any

from evbridge.v1 import delivery_pb2, location_pb2, publication_pb2, tariff_pb2, tariff_pb2_grpc
from google.protobuf.json_format import ParseDict

from service.bridge.ports import Exchange
from service.demo.story import Story, say, show_exchange
from service.partners.ocpi.simulator import Simulator
from service.simulator.faults import parse_fault
from service.storage.clock import Clock

ROUNDS = 40
_UIDS = ("Q1", "Q2", "Q3", "Q4", "Q5")
_PARTY: dict[str, Any] = {"country_code": "BE", "party_id": "BEC"}
_CONNECTOR = {
    "id": "1",
    "standard": "CONNECTOR_TYPE_IEC_62196_T2_COMBO",
    "format": "CONNECTOR_FORMAT_CABLE",
    "power_type": "POWER_TYPE_DC",
    "max_voltage": 920,
    "max_amperage": 400,
    "tariff_ids": ["today", "tomorrow"],
}
_QUAY = _PARTY | {
    "id": "QUAY",
    "publish": True,
    "address": "Kaai 1",
    "city": "Gent",
    "country": "BEL",
    "coordinates": {"latitude": "51.070000", "longitude": "3.730000"},
    "time_zone": "Europe/Brussels",
    "evses": [{"uid": uid, "status": "EVSE_STATUS_AVAILABLE", "connectors": [_CONNECTOR]} for uid in _UIDS],
}
_HELD = "/ocpi/2.2.1/locations/BE/BEC/QUAY"
_TARIFFS = "/ocpi/2.2.1/tariffs/BE/BEC/"
_PUSHED = delivery_pb2.ListDeliveriesRequest(integration_id="ocpi-demo")


class Exchanges:
    """Shows each as it ends, unless it is `quiet`, and keeps its status."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.quiet = False

    def __call__(self, exchange: Exchange) -> None:
        if not self.quiet:
            show_exchange(exchange)
        self.statuses.append(exchange.status)


class Recovery(Story):
    """Told after `roam`, through the integration that it made."""

    async def outage(self, party: Simulator, exchanges: Exchanges, midnight: datetime) -> None:
        say(f"14. A location with two tariffs: one ends as the other begins, at {midnight:%Y-%m-%dT%H:%M:%SZ}")
        await self._price_list(midnight)
        await self._quay()

        reports = len(_UIDS) * ROUNDS
        say(f"15. The OCPI party is down while the status of its EVSEs changes {reports} times")
        party.faults.append(parse_fault(f"{reports}*status:503"))
        statuses = cycle((location_pb2.EVSE_STATUS_CHARGING, location_pb2.EVSE_STATUS_AVAILABLE))
        for status in islice(statuses, ROUNDS - 1):
            await self._report(status)
        await _until(lambda: 503 in exchanges.statuses)
        await self._report(location_pb2.EVSE_STATUS_OUTOFORDER)
        await self._none_under_way()
        print(f"  {reports} reports are stored; the party still has {_statuses(party)}, and comes back")
        party.faults.clear()
        before = len(exchanges.statuses)
        await self._delivered(_PUSHED)
        sent = len(exchanges.statuses) - before
        print(f"  reports in the outage: {reports}, requests after it: {sent}. The party has {_statuses(party)}")
        if not 0 < sent <= len(_UIDS) + 1 or _statuses(party) != {"OUTOFORDER"}:
            sys.exit("the state did not arrive, or arrived more than once")

    async def midnight(self, party: Simulator, clock: Clock, at: datetime) -> None:
        say("16. One second to midnight, by a clock that is set ahead. Nobody calls")
        print(f"  the party's connectors name {_named(party)}")
        clock.ahead = at - timedelta(seconds=1) - datetime.now(UTC)
        await _until(lambda: f"{_TARIFFS}today" not in party.objects)
        print(f"  they name {_named(party)}, and the tariff that ended is deleted there")
        if _named(party) != ["tomorrow"]:
            sys.exit("the price did not change at midnight")

    async def _price_list(self, midnight: datetime) -> None:
        tariffs = tariff_pb2_grpc.TariffServiceStub(self._channel)
        for id, price, bound in (("today", "0.49", "end_date_time"), ("tomorrow", "0.45", "start_date_time")):
            component = {"type": "TARIFF_DIMENSION_TYPE_ENERGY", "price": {"value": price}, "step_size": 1}
            tariff = _PARTY | {"id": id, "currency": "EUR", "elements": [{"price_components": [component]}]}
            tariff[bound] = f"{midnight:%Y-%m-%dT%H:%M:%SZ}"
            request = ParseDict({"tariff": tariff}, tariff_pb2.CreateTariffRequest())
            await self._call(tariffs.CreateTariff, request)

    async def _quay(self) -> None:
        request = ParseDict({"location": _QUAY}, location_pb2.CreateLocationRequest())
        await self._locations.CreateLocation(request, metadata=self._credential, timeout=30)
        rule = {
            "integration_id": "ocpi-demo",
            "id": "quay",
            "connectors": {"locations": [_PARTY | {"id": "QUAY"}]},
            "effect": "PUBLICATION_EFFECT_VISIBLE",
        }
        shown = ParseDict({"rule": rule}, publication_pb2.CreatePublicationRuleRequest())
        await self._call(self._publication.CreatePublicationRule, shown)
        await self._delivered(_PUSHED)

    async def _none_under_way(self) -> None:
        """Whatever is sent from then on is the state as it is now."""
        async with asyncio.timeout(60):
            while True:
                page = await self._deliveries.ListDeliveries(_PUSHED, metadata=self._credential, timeout=30)
                if all(each.state != delivery_pb2.DELIVERY_STATE_IN_PROGRESS for each in page.deliveries):
                    return
                await asyncio.sleep(0.05)

    async def _report(self, status: location_pb2.EvseStatus.ValueType) -> None:
        key = location_pb2.LocationKey(country_code="BE", party_id="BEC", id="QUAY")
        reports = [location_pb2.EvseStatusReport(location=key, evse_uid=uid, status=status) for uid in _UIDS]
        request = location_pb2.ReportEvseStatusRequest(reports=reports)
        await self._locations.ReportEvseStatus(request, metadata=self._credential, timeout=30)


def _statuses(party: Simulator) -> set[str]:
    return {evse["status"] for evse in party.objects[_HELD]["evses"]}


def _named(party: Simulator) -> list[str]:
    named = {id for evse in party.objects[_HELD]["evses"] for each in evse["connectors"] for id in each["tariff_ids"]}
    return sorted(named)


async def _until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not reached():
            await asyncio.sleep(0.05)
