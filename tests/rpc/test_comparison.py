"""What an OCPI party holds, read from its receivers, beside ours now and ours as last sent."""

from typing import Any

import asyncpg
import pytest
from aiohttp import web
from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CDR,
    OBJECT_KIND_LOCATION,
    CompareWithPartnerRequest,
    CompareWithPartnerResponse,
    ListDeliveriesRequest,
)
from evbridge.v1.integration_pb2 import PauseIntegrationRequest
from evbridge.v1.location_pb2 import EVSE_STATUS_CHARGING

from tests.front_door import fails
from tests.partners import listening
from tests.rpc.test_ocpi_charged import bill, charging, tell
from tests.rpc.test_ocpi_push import a_place, pushed, report
from tests.rpc.test_registration import ID, SPOKEN, Side, Sides, sides

__all__ = ["sides"]
PUSHED = {"push_location": True, "push_tariff": True, "push_session": True, "push_cdr": True}


async def compared(cpo: Side, kind: Any) -> CompareWithPartnerResponse:
    return await cpo.client.deliveries.CompareWithPartner(await request_of(cpo, kind))


async def request_of(cpo: Side, kind: Any) -> CompareWithPartnerRequest:
    (delivery, *_) = (await cpo.client.deliveries.ListDeliveries(ListDeliveriesRequest(object_kind=kind))).deliveries
    return CompareWithPartnerRequest(delivery_id=delivery.id)


@pytest.mark.parametrize("version", SPOKEN)
async def test_each_kind_of_object_is_compared_field_by_field(sides: Sides, version: str) -> None:
    async with charging(sides, version, **PUSHED) as (cpo, emsp):
        await tell(cpo)
        await bill(cpo)
        await pushed(cpo, emsp)
        kinds = {
            each.object_kind
            for each in (await cpo.client.deliveries.ListDeliveries(ListDeliveriesRequest())).deliveries
        }
        assert len(kinds) == 4
        for kind in kinds:
            same = await compared(cpo, kind)
            assert (same.HasField("ours"), [*same.differences]) == (True, []), same
            assert same.remote == same.sent
        await cpo.client.integrations.PauseIntegration(PauseIntegrationRequest(id=ID, reason="to compare"))
        await report(cpo, a_place(), "E1", EVSE_STATUS_CHARGING)
        await changed(emsp, """UPDATE received_document SET document = replace(document, '"Berlin"', '"Bonn"')""")
        found = (await compared(cpo, OBJECT_KIND_LOCATION)).differences
        assert [(each.path, each.ours, each.sent, each.remote) for each in found] == [
            ("city", '"Berlin"', '"Berlin"', '"Bonn"'),
            ("evses[E1].status", '"CHARGING"', '"AVAILABLE"', '"AVAILABLE"'),
        ]
        assert {method for method, _ in emsp.wire.carried} == {"GET"}


async def changed(emsp: Side, statement: str) -> None:
    """What the partner holds, by another way than ours."""
    connection = await asyncpg.connect(emsp.database_url)
    await connection.execute(statement)
    await connection.close()


async def test_a_partner_that_lacks_it_or_lets_nobody_read_says_so(sides: Sides) -> None:
    async with charging(sides, **PUSHED) as (cpo, emsp):
        await bill(cpo)
        await pushed(cpo, emsp)
        await changed(emsp, "DELETE FROM received_document; DELETE FROM evse; DELETE FROM location")
        gone = await compared(cpo, OBJECT_KIND_LOCATION)
        assert (gone.HasField("sent"), gone.HasField("remote")) == (True, False)
        assert {each.remote for each in gone.differences} == {""}

        async def refuse(request: web.Request) -> web.Response:
            return web.Response(status=405)

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", refuse)
        async with listening(application) as url:
            emsp.wire.to = url
            for kind in (OBJECT_KIND_LOCATION, OBJECT_KIND_CDR):
                failure = await fails(cpo.client.deliveries.CompareWithPartner(await request_of(cpo, kind)))
                assert failure.reason == "ENDPOINT_MISSING"
                assert "does not let its copy be read: it answers HTTP 405" in failure.message
