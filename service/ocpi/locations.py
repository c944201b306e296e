"""OCPI's locations module: what operators push to us, at three levels. Source: OCPI 2.2.1, locations."""

from typing import Any

from evbridge.partner.ocpi.v2 import locations_pb2 as ocpi
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO

from service.bridge.edge import Reply
from service.ocpi.listener import Visit
from service.ocpi.modules import caller_of, check_owner, document_in, done, key_in, refusing, sender_of, shown
from service.resources.received import WHOLE, Place, location_received, received_location
from service.runs.worker import Tools


class LocationsReceiver:
    """evbridge.partner.ocpi.v2.LocationsReceiverService, served."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def GetReceivedLocation(self, request: ocpi.GetReceivedLocationRequest, visit: Visit) -> Reply:
        return await self._get(request, visit, WHOLE)

    async def PutLocation(self, request: ocpi.PutLocationRequest, visit: Visit) -> Reply:
        return await self._receive(request, visit, WHOLE)

    async def PatchLocation(self, request: ocpi.PatchLocationRequest, visit: Visit) -> Reply:
        return await self._receive(request, visit, WHOLE, patch=True)

    async def GetReceivedEvse(self, request: ocpi.GetReceivedEvseRequest, visit: Visit) -> Reply:
        return await self._get(request, visit, Place(request.evse_uid))

    async def PutEvse(self, request: ocpi.PutEvseRequest, visit: Visit) -> Reply:
        return await self._receive(request, visit, Place(request.evse_uid))

    async def PatchEvse(self, request: ocpi.PatchEvseRequest, visit: Visit) -> Reply:
        return await self._receive(request, visit, Place(request.evse_uid), patch=True)

    async def GetReceivedConnector(self, request: ocpi.GetReceivedConnectorRequest, visit: Visit) -> Reply:
        return await self._get(request, visit, Place(request.evse_uid, request.connector_id))

    async def PutConnector(self, request: ocpi.PutConnectorRequest, visit: Visit) -> Reply:
        return await self._receive(request, visit, Place(request.evse_uid, request.connector_id))

    async def PatchConnector(self, request: ocpi.PatchConnectorRequest, visit: Visit) -> Reply:
        return await self._receive(request, visit, Place(request.evse_uid, request.connector_id), patch=True)

    async def _get(self, request: Any, visit: Visit, place: Place) -> Reply:
        key = key_in(request, request.location_id, visit)
        with refusing():
            return shown(await received_location(self._tools.database, visit.tenant_id, key, place))

    async def _receive(self, request: Any, visit: Visit, place: Place, *, patch: bool = False) -> Reply:
        key, document = key_in(request, request.location_id, visit), await document_in(visit)
        if place is WHOLE:
            check_owner(document, key)
        sender = await sender_of(self._tools, visit, key, PARTY_ROLE_CPO)
        with refusing():
            receipt = await location_received(
                self._tools.database, caller_of(visit), sender, key, document, place, patch=patch
            )
        return done(receipt, key, visit)
