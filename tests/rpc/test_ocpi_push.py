"""An operator pushes its locations and tariffs to a provider, another evbridge: whole at first, then statuses alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from evbridge.v1.integration_pb2 import Integration, IntegrationModels, UpdateIntegrationRequest
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_AVAILABLE,
    EVSE_STATUS_CHARGING,
    EVSE_STATUS_REMOVED,
    BatchUpsertLocationsRequest,
    EvseStatusReport,
    GetLocationRequest,
    Location,
    LocationKey,
    ReportEvseStatusRequest,
)
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest, DeletePublicationRuleRequest
from evbridge.v1.tariff_pb2 import CreateTariffRequest, GetTariffRequest, Tariff, TariffKey

from tests.front_door import a_connector, a_location, a_rule, a_tariff, an_evse, at_rest, fails
from tests.rpc.test_registration import ID, SPOKEN, Side, Sides, outcome, sides

__all__ = ["sides"]
HERS = {"country_code": "DE", "party_id": "CPO"}
BOTH = IntegrationModels(push_location=True, push_tariff=True)


@asynccontextmanager
async def registered(
    sides: Sides, version: str = "2.3.0", models: IntegrationModels = BOTH
) -> AsyncIterator[tuple[Side, Side]]:
    """An operator with the tariff T1, and what it shows the provider: all there is."""
    async with sides(*({"ocpi_versions": each} for each in SPOKEN[version])) as (cpo, emsp):
        tariff = a_tariff(**HERS, id="T1")
        await cpo.client.tariffs.CreateTariff(CreateTariffRequest(tariff=tariff))
        await show(cpo)
        await pushing(cpo, models)
        await cpo.given(*(await emsp.issue()))
        assert outcome(await cpo.registers()) == "OK"
        await quiet(cpo, emsp)
        yield cpo, emsp


async def pushing(cpo: Side, models: IntegrationModels) -> None:
    request = UpdateIntegrationRequest(integration=Integration(id=ID, models=models))
    await cpo.client.integrations.UpdateIntegration(request)


async def show(cpo: Side) -> None:
    rule = a_rule(id="all", priority=5, integration_id=ID)
    await cpo.client.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=rule))


async def hide(cpo: Side) -> None:
    request = DeletePublicationRuleRequest(integration_id=ID, id="all")
    await cpo.client.publication.DeletePublicationRule(request)


def a_place(evses: int = 2, **changes: Any) -> Location:
    each = [an_evse(f"E{number}", connectors=[a_connector(tariff_ids=["T1"])]) for number in range(evses)]
    return a_location(**{**HERS, "id": "L1", "evses": each, **changes})


async def store(cpo: Side, location: Location) -> None:
    request = BatchUpsertLocationsRequest(locations=[location], allow_missing=True)
    response = await cpo.client.locations.BatchUpsertLocations(request)
    assert not response.results[0].HasField("error"), response


async def report(cpo: Side, location: Location, uid: str, status: Any) -> None:
    key = LocationKey(**HERS, id=location.id)
    reports = [EvseStatusReport(location=key, evse_uid=uid, status=status)]
    await cpo.client.locations.ReportEvseStatus(ReportEvseStatusRequest(reports=reports))


async def quiet(cpo: Side, emsp: Side) -> None:
    await at_rest(cpo.client, ID)
    emsp.wire.carried.clear()


async def pushed(cpo: Side, emsp: Side) -> list[tuple[str, str]]:
    """The method and the place of the requests that reached the provider, once nothing is due any more."""
    await at_rest(cpo.client, ID)
    carried = [(method, "/".join(path.split("/")[4:])) for method, path in emsp.wire.carried]
    emsp.wire.carried.clear()
    return carried


async def received(emsp: Side) -> Location:
    key = LocationKey(**HERS, id="L1", integration_id=ID)
    location: Location = await emsp.client.locations.GetLocation(GetLocationRequest(key=key))
    return location


async def received_tariff(emsp: Side) -> Tariff:
    key = TariffKey(**HERS, id="T1", integration_id=ID)
    tariff: Tariff = await emsp.client.tariffs.GetTariff(GetTariffRequest(key=key))
    return tariff


@pytest.mark.parametrize("version", SPOKEN)
async def test_first_all_of_it_then_a_status_then_it_is_withdrawn(sides: Sides, version: str) -> None:
    async with registered(sides, version) as (cpo, emsp):
        await store(cpo, place := a_place())
        at = "locations/DE/CPO/L1"
        assert await pushed(cpo, emsp) == [("PUT", "tariffs/DE/CPO/T1"), ("PUT", at)]
        assert (await received_tariff(emsp)).elements[0].price_components[0].price.value == "0.25"
        assert [evse.uid for evse in (await received(emsp)).evses] == ["E0", "E1"]
        await report(cpo, place, "E1", EVSE_STATUS_CHARGING)
        assert await pushed(cpo, emsp) == [("PATCH", f"{at}/E1")]
        assert [evse.status for evse in (await received(emsp)).evses] == [
            EVSE_STATUS_AVAILABLE,
            EVSE_STATUS_CHARGING,
        ]
        await store(cpo, a_place(name="Renamed"))
        assert await pushed(cpo, emsp) == [("PUT", at)]
        assert (await received(emsp)).name == "Renamed"
        await hide(cpo)
        assert sorted(await pushed(cpo, emsp)) == [("DELETE", "tariffs/DE/CPO/T1"), ("PUT", at)]
        assert {evse.status for evse in (await received(emsp)).evses} == {EVSE_STATUS_REMOVED}
        assert (await fails(received_tariff(emsp))).reason == "RESOURCE_NOT_FOUND"


async def test_in_2_1_1_drivers_see_no_location_that_is_not_published(sides: Sides) -> None:
    async with registered(sides, "2.1.1") as (cpo, emsp):
        await store(cpo, a_place(publish=False))
        assert ("PUT", "locations/DE/CPO/L1") not in await pushed(cpo, emsp)
        await store(cpo, a_place(publish=True))
        assert await pushed(cpo, emsp) == [("PUT", "locations/DE/CPO/L1")]
        await store(cpo, a_place(publish=False))
        assert await pushed(cpo, emsp) == [("PATCH", f"locations/DE/CPO/L1/{uid}") for uid in ("E0", "E1")]
        assert {evse.status for evse in (await received(emsp)).evses} == {EVSE_STATUS_REMOVED}
