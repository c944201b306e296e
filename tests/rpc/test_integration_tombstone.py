"""An integration through which much went is deleted: at once for who looks, in slices behind them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from evbridge.v1.delivery_pb2 import GetDeliveryRequest, ListDeliveriesRequest
from evbridge.v1.disclosure_pb2 import GetDisclosureRequest, ListDisclosuresRequest
from evbridge.v1.integration_pb2 import (
    CreateIntegrationRequest,
    DeleteIntegrationRequest,
    GetIntegrationRequest,
    ListIntegrationsRequest,
    PauseIntegrationRequest,
)
from evbridge.v1.location_pb2 import (
    BatchGetLocationsRequest,
    BoundingBox,
    GeoLocation,
    GetLocationRequest,
    ListLocationsRequest,
    LocationKey,
    NearPoint,
    SearchLocationsRequest,
)
from evbridge.v1.partner_pb2 import GetPartnerStatusRequest
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest
from evbridge.v1.session_pb2 import (
    BatchGetSessionsRequest,
    GetSessionRequest,
    ListSessionsRequest,
    Session,
    SessionKey,
)
from evbridge.v1.tariff_pb2 import BatchGetTariffsRequest, GetTariffRequest, ListTariffsRequest, TariffKey
from evbridge.v1.token_pb2 import (
    WHITELIST_TYPE_ALWAYS,
    BatchGetTokensRequest,
    GetTokenRequest,
    ListTokensRequest,
    TokenKey,
)
from evbridge.v1.watch_pb2 import WatchIntegrationsRequest

from service.app import Evbridge, evbridge
from service.storage.integration import tombstones_due
from service.storage.slices import SLICE
from service.storage.statements import Statement
from service.storage.token import tokens_named
from tests.conftest import Tenant, tenant_of
from tests.front_door import a_location, a_rule, a_tariff, a_token, an_integration, fails, settings

MUCH = SLICE + 500
DELIVERED = Statement(
    "delivered",
    """
    INSERT INTO delivery (tenant_id, integration_id, object_kind, object_id, state)
    SELECT $1, 'cp', 1, gen_random_uuid(), 3 FROM generate_series(1, $2::integer)
    """,
)
DISCLOSED = Statement(
    "disclosed",
    """
    INSERT INTO disclosure (tenant_id, integration_id, object_kind, object_id, method, document_type)
    SELECT $1, 'cp', 1, gen_random_uuid(), 1, '' FROM generate_series(1, $2::integer)
    """,
)
RECEIVED = {
    "location": "latitude, longitude, etag, payload, last_updated) SELECT {key}, 50, 8, '', $3, now()",
    "tariff": "type, currency, etag, payload) SELECT {key}, 0, 'EUR', '', $3",
    "session": """status, start_time, update_time, token_party, token_key, contract_key, location_key, recipient_id,
        etag, payload) SELECT {key}, 1, now(), now(), '', '', '', '', '', '', $3""",
    "token": """type, contract_key, group_key, whitelist, valid, etag, payload)
        SELECT {key}, 2, '', '', 1, true, '', $3""",
}
KEY = "$1, 'cp', 'NL', 'TNM', CASE WHEN n = 1 THEN $4 ELSE n::text END"
LEFT = Statement(
    "left",
    """
    SELECT
        (SELECT count(*) FROM integration WHERE tenant_id = $1),
        (SELECT count(*) FROM delivery WHERE tenant_id = $1),
        (SELECT count(*) FROM disclosure WHERE tenant_id = $1)
    """,
)


@pytest.fixture
async def idle(database_url: str) -> AsyncIterator[Evbridge]:
    """A server that leaves the background to others."""
    async with evbridge(settings(database_url, delivery=False)) as started:
        yield started


@pytest.fixture
async def tenant(idle: Evbridge) -> AsyncIterator[Tenant]:
    async with grpc.aio.insecure_channel(idle.address) as channel:
        yield await tenant_of(idle, channel)


async def left(server: Evbridge, tenant: Tenant) -> tuple[int, ...]:
    row = await server.database.row(LEFT, tenant.name)
    assert row is not None
    return tuple(row)


async def test_nobody_sees_anything_of_it_while_the_rest_is_removed(
    idle: Evbridge, tenant: Tenant, database_url: str
) -> None:
    create = CreateIntegrationRequest(integration=an_integration(id="cp", enabled=False))
    await tenant.admin.integrations.CreateIntegration(create)
    for statement in (DELIVERED, DISCLOSED):
        await idle.database.run(statement, tenant.name, MUCH)
    listed = await tenant.reader.deliveries.ListDeliveries(ListDeliveriesRequest(page_size=1))
    disclosed = await tenant.reader.disclosures.ListDisclosures(
        ListDisclosuresRequest(integration_id="cp", page_size=1)
    )
    watch = tenant.reader.watch.WatchIntegrations(WatchIntegrationsRequest(snapshot=True))
    assert [each.integration.id for each in (await anext(aiter(watch))).changes] == ["cp"]

    await tenant.admin.integrations.DeleteIntegration(DeleteIntegrationRequest(id="cp", force=True))
    assert await left(idle, tenant) == (1, MUCH - SLICE, MUCH)
    calls = tenant.admin
    assert not (await calls.integrations.ListIntegrations(ListIntegrationsRequest())).integrations
    assert not (await calls.deliveries.ListDeliveries(ListDeliveriesRequest())).deliveries
    assert not (await calls.deliveries.ListDeliveries(ListDeliveriesRequest(object_kind=1, state=3))).deliveries
    object_id = listed.deliveries[0].object_id
    assert not (await calls.deliveries.ListDeliveries(ListDeliveriesRequest(object_id=object_id))).deliveries
    for call in (
        calls.integrations.GetIntegration(GetIntegrationRequest(id="cp")),
        calls.integrations.PauseIntegration(PauseIntegrationRequest(id="cp", reason="maintenance")),
        calls.integrations.DeleteIntegration(DeleteIntegrationRequest(id="cp")),
        calls.deliveries.GetDelivery(GetDeliveryRequest(id=listed.deliveries[0].id)),
        calls.disclosures.GetDisclosure(GetDisclosureRequest(id=disclosed.disclosures[0].id)),
        calls.disclosures.ListDisclosures(ListDisclosuresRequest(integration_id="cp")),
        calls.partners.GetPartnerStatus(GetPartnerStatusRequest(integration_id="cp")),
        calls.publication.CreatePublicationRule(CreatePublicationRuleRequest(rule=a_rule())),
    ):
        assert (await fails(call)).reason in ("RESOURCE_NOT_FOUND", "REFERENCE_NOT_FOUND")
    changes = [each async for answer in _until_changed(watch) for each in answer.changes]
    assert [(each.id, each.HasField("integration")) for each in changes] == [("cp", False)]
    failure = await fails(calls.integrations.CreateIntegration(create))
    assert (failure.reason, "still being removed" in failure.message) == ("RESOURCE_EXISTS", True)

    # A process removes one more slice and dies; another one goes on.
    assert await tombstones_due(idle.database)
    assert await left(idle, tenant) == (1, 0, MUCH - SLICE)
    while await tombstones_due(idle.database):
        pass
    assert await left(idle, tenant) == (0, 0, 0)
    await tenant.admin.integrations.CreateIntegration(create)


def received(noun: str) -> Statement:
    """Stores as many as $2 says through the integration, each with the payload $3, the first one by the key $4."""
    columns = "tenant_id, integration_id, country_code, party_id, key, "
    rows = RECEIVED[noun].format(key=KEY)
    return Statement(noun, f"INSERT INTO {noun} ({columns}{rows} FROM generate_series(1, $2::integer) AS n")


async def test_what_was_received_goes_in_slices_too_and_nobody_sees_or_charges_with_it(
    idle: Evbridge, tenant: Tenant
) -> None:
    integration = CreateIntegrationRequest(integration=an_integration(id="cp", enabled=False))
    await tenant.admin.integrations.CreateIntegration(integration)
    side: dict[str, Any] = {"country_code": "NL", "party_id": "TNM", "integration_id": "cp"}
    objects: dict[str, Any] = {
        "location": a_location(**side, id="L1"),
        "tariff": a_tariff(**side, id="L1"),
        "session": Session(**side, id="L1"),
        "token": a_token(**side, uid="L1", valid=True, whitelist=WHITELIST_TYPE_ALWAYS),
    }
    for noun, stored in objects.items():
        key = "rfid/l1" if noun == "token" else "l1"
        await idle.database.run(received(noun), tenant.name, MUCH, stored.SerializeToString(), key)
    calls = tenant.reader
    place = GeoLocation(latitude="50.00000", longitude="8.00000")
    around, near = BoundingBox(south_west=place, north_east=place), NearPoint(point=place, radius_m=1000)

    async def seen() -> list[int]:
        """How many objects each way of reading shows; -1 where there is nothing of that name."""
        lists = [
            (await calls.locations.ListLocations(ListLocationsRequest(integration_id="cp", page_size=3))).locations,
            (await calls.tariffs.ListTariffs(ListTariffsRequest(integration_id="cp", page_size=3))).tariffs,
            (await calls.sessions.ListSessions(ListSessionsRequest(integration_id="cp", page_size=3))).sessions,
            (await calls.tokens.ListTokens(ListTokensRequest(integration_id="cp", page_size=3))).tokens,
            (
                await calls.locations.SearchLocations(SearchLocationsRequest(integration_id="cp", limit=3, box=around))
            ).locations,
            (
                await calls.locations.SearchLocations(SearchLocationsRequest(integration_id="cp", limit=3, near=near))
            ).locations,
        ]
        singles = (
            calls.locations.GetLocation(GetLocationRequest(key=LocationKey(**side, id="L1"))),
            calls.locations.BatchGetLocations(BatchGetLocationsRequest(keys=[LocationKey(**side, id="L1")])),
            calls.tariffs.GetTariff(GetTariffRequest(key=TariffKey(**side, id="L1"))),
            calls.tariffs.BatchGetTariffs(BatchGetTariffsRequest(keys=[TariffKey(**side, id="L1")])),
            calls.sessions.GetSession(GetSessionRequest(key=SessionKey(**side, id="L1"))),
            calls.sessions.BatchGetSessions(BatchGetSessionsRequest(keys=[SessionKey(**side, id="L1")])),
            calls.tokens.GetToken(GetTokenRequest(key=TokenKey(**side, uid="L1"))),
            calls.tokens.BatchGetTokens(BatchGetTokensRequest(keys=[TokenKey(**side, uid="L1")])),
        )
        found = []
        for call in singles:
            try:
                await call
                found.append(1)
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.NOT_FOUND
                found.append(-1)
        named = await tokens_named(idle.database, tenant.name, "RFID/L1")
        return [*map(len, lists), *found, len(named)]

    assert await seen() == [3] * 6 + [1] * 9
    await tenant.admin.integrations.DeleteIntegration(DeleteIntegrationRequest(id="cp"))
    assert await seen() == [0] * 6 + [-1] * 8 + [0]
    assert await held(idle, tenant) == [MUCH, MUCH, MUCH, MUCH - SLICE]
    assert (await fails(tenant.admin.integrations.CreateIntegration(integration))).reason == "RESOURCE_EXISTS"
    while await tombstones_due(idle.database):
        pass
    assert await held(idle, tenant) == [0, 0, 0, 0]
    await tenant.admin.integrations.CreateIntegration(integration)


async def held(server: Evbridge, tenant: Tenant) -> list[int]:
    """How many rows there are of each noun."""
    return [
        await server.database.value(Statement("held", f"SELECT count(*) FROM {noun} WHERE tenant_id = $1"), tenant.name)
        for noun in RECEIVED
    ]


async def _until_changed(watch: Any) -> AsyncIterator[Any]:
    async for answer in watch:
        if answer.changes:
            yield answer
            return


async def test_a_server_removes_what_another_one_left(idle: Evbridge, tenant: Tenant, database_url: str) -> None:
    create = CreateIntegrationRequest(integration=an_integration(id="cp", enabled=False))
    await tenant.admin.integrations.CreateIntegration(create)
    await idle.database.run(DELIVERED, tenant.name, MUCH)
    await tenant.admin.integrations.DeleteIntegration(DeleteIntegrationRequest(id="cp", force=True))
    assert (await left(idle, tenant))[0]
    async with evbridge(settings(database_url)):
        while await left(idle, tenant) != (0, 0, 0):
            await asyncio.sleep(0.02)
