"""What an AMPECO holds, and imports from it."""

from typing import Any

from evbridge.v1.ampeco_connection_pb2 import AmpecoConnection
from evbridge.v1.integration_pb2 import CreateIntegrationRequest, Integration
from evbridge.v1.location_pb2 import ListLocationsRequest, Location
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.run_pb2 import (
    RUN_KIND_SYNC,
    ListRunFindingsRequest,
    Run,
    RunFinding,
    StartRunRequest,
    SyncOptions,
    WaitRunRequest,
)
from evbridge.v1.tariff_pb2 import ListTariffsRequest, Tariff

from service.partners.ampeco.simulator import Simulator
from tests.conftest import Tenant
from tests.front_door import Client, a_party, an_integration_of

API = "/public-api/resources"
LOCATIONS, CHARGE_POINTS, EVSES = f"{API}/locations/v2.0", f"{API}/charge-points/v2.0", f"{API}/evses/v2.1"
TARIFFS, GROUPS = f"{API}/tariffs/v1.0", f"{API}/tariff-groups/v1.0"
TAXES = [{"vat": {"value": "19"}, "tax_id": 7}]


async def connect(tenant: Tenant, ampeco: Simulator) -> None:
    """Gives the tenant the party DE*ABC and an AMPECO integration that speaks for it."""
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    integration = the_integration(ampeco, parties=[{"country_code": "DE", "party_id": "ABC"}])
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))


def the_integration(ampeco: Simulator, **changes: Any) -> Integration:
    connection = AmpecoConnection(base_url=ampeco.url, api_token="partner-key", currency="EUR", taxes=TAXES)
    connection.time_zone = "Europe/Berlin"
    integration: Integration = an_integration_of("ampeco", id="am", ampeco=connection, **changes)
    return integration


def hold(ampeco: Simulator, collection: str, id: int, **members: Any) -> None:
    ampeco.objects[f"{collection}/{id}"] = {"id": id, **members}


def alter(ampeco: Simulator, path: str, **changes: Any) -> None:
    """Changes an object, or makes another like it where they name an id."""
    held = ampeco.objects[path] | changes
    ampeco.objects[f"{path.rpartition('/')[0]}/{held['id']}"] = held


def stock(ampeco: Simulator) -> None:
    """A tariff in a group, a location with a public and a private charge point, and one EVSE at each."""
    pricing = {"pricePerKwh": "0.5", "taxID": 7}
    hold(ampeco, TARIFFS, 31, name="Public", type="duration+energy", currency="EUR", pricing=pricing)
    hold(ampeco, GROUPS, 41, name="Public", tariffIds=[31])
    hold(
        ampeco,
        LOCATIONS,
        1,
        name=[{"locale": "en", "translation": "Town hall"}],
        streetAddress=[{"locale": "en", "translation": "Platz 1"}],
        city="Berlin",
        country="DE",
        geoposition={"latitude": 52.5, "longitude": 13.4},
        status="enabled",
    )
    hold(ampeco, CHARGE_POINTS, 11, locationId=1, type="public", status="enabled")
    hold(ampeco, CHARGE_POINTS, 12, locationId=1, type="private", status="enabled")
    power = {"maxVoltage": "230", "maxAmperage": 32, "phases": "three_phase"}
    for id, charge_point in ((21, 11), (22, 12)):
        hold(
            ampeco,
            EVSES,
            id,
            chargePointId=charge_point,
            networkId="1",
            currentType="ac",
            status="enabled",
            hardwareStatus="available",
            tariffGroupId=41,
            powerOptions=power,
            connectors=[{"id": id + 100, "type": "type2", "format": "socket", "status": "enabled"}],
        )


async def sync(tenant: Tenant, **options: bool) -> Run:
    return await sync_at(tenant.writer, **options)


async def sync_at(client: Client, **options: bool) -> Run:
    sync_options = SyncOptions(**options) if options else None
    request = StartRunRequest(integration_id="am", kind=RUN_KIND_SYNC, sync_options=sync_options)
    started = await client.runs.StartRun(request)
    run: Run = await client.runs.WaitRun(WaitRunRequest(id=started.id))
    return run


def steps(run: Run) -> dict[str, str]:
    return {step.name: step.description for step in run.steps}


async def locations(tenant: Tenant) -> list[Location]:
    return [*(await tenant.reader.locations.ListLocations(ListLocationsRequest())).locations]


async def tariffs(tenant: Tenant) -> list[Tariff]:
    return [*(await tenant.reader.tariffs.ListTariffs(ListTariffsRequest())).tariffs]


async def findings(tenant: Tenant, run: Run, **more: Any) -> list[RunFinding]:
    request = ListRunFindingsRequest(run_id=run.id, **more)
    return [*(await tenant.reader.runs.ListRunFindings(request)).findings]
