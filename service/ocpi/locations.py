"""OCPI's locations module, at three levels: what a partner sees of ours, and what operators push to us.

Source: OCPI 2.2.1, locations.
"""

from typing import Any, TypeVar

from evbridge.partner.ocpi.v2 import locations_pb2 as ocpi
from evbridge.v1.delivery_pb2 import OBJECT_KIND_LOCATION
from evbridge.v1.location_pb2 import Connector, Evse, Location
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO

from service.bridge.edge import Reply
from service.ocpi.listener import Visit
from service.ocpi.modules import (
    caller_of,
    check_owner,
    document_in,
    done,
    enveloped,
    key_in,
    refusing,
    sender_of,
    shown,
    unknown,
)
from service.ocpi.pages import Documents, disclose, page
from service.partners.ocpi.mapping import object_to, text_of
from service.resources.documents import WHOLE, Place
from service.resources.received_location import location_received, received_location
from service.runs.worker import Tools
from service.storage.view import Viewed, view_by_id

P = TypeVar("P", Evse, Connector)


class LocationsSender:
    """evbridge.partner.ocpi.v2.LocationsSenderService, served: the partner's view."""

    def __init__(self, tools: Tools, documents: Documents) -> None:
        self._tools = tools
        self._documents = documents

    async def ListLocations(self, request: ocpi.ListLocationsRequest, visit: Visit) -> Reply:
        return await page(self._tools, self._documents, OBJECT_KIND_LOCATION, Location, visit)

    async def GetLocation(self, request: ocpi.GetLocationRequest, visit: Visit) -> Reply:
        viewed = await self._viewed(request.location_id, visit)
        (text,) = await self._documents.texts(Location, [viewed], visit.version)
        if not text:
            raise unknown()
        await disclose(self._tools, OBJECT_KIND_LOCATION, Location, [viewed], visit)
        return Reply(body=enveloped(text))

    async def GetEvse(self, request: ocpi.GetEvseRequest, visit: Visit) -> Reply:
        viewed, evse = await self._evse(request, visit)
        return await self._part(viewed, evse, visit)

    async def GetConnector(self, request: ocpi.GetConnectorRequest, visit: Visit) -> Reply:
        viewed, evse = await self._evse(request, visit)
        id = request.connector_id.casefold()
        for connector in evse.connectors:
            if connector.id.casefold() == id:
                return await self._part(viewed, connector, visit)
        raise unknown()

    async def _evse(self, request: Any, visit: Visit) -> tuple[Viewed, Evse]:
        viewed = await self._viewed(request.location_id, visit)
        for evse in viewed.parsed(Location).evses:
            if evse.uid.casefold() == request.evse_uid.casefold():
                return viewed, evse
        raise unknown()

    async def _part(self, viewed: Viewed, part: P, visit: Visit) -> Reply:
        """What is shown of a location is disclosed as that location."""
        await disclose(self._tools, OBJECT_KIND_LOCATION, Location, [viewed], visit)
        return Reply(body=enveloped(text_of(object_to(part, visit.version).object)))

    async def _viewed(self, id: str, visit: Visit) -> Viewed:
        """The location of any of our parties: OCPI's URL names none. Raises OcpiRefused."""
        view = (self._tools.database, visit.tenant_id, visit.integration_id, OBJECT_KIND_LOCATION)
        if viewed := await view_by_id(*view, id):
            return viewed
        raise unknown()


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
            return await shown(await received_location(self._tools.database, visit.tenant_id, key, place))

    async def _receive(self, request: Any, visit: Visit, place: Place, *, patch: bool = False) -> Reply:
        key, document = key_in(request, request.location_id, visit), await document_in(visit)
        if place is WHOLE:
            check_owner(document, key)
        sender = await sender_of(self._tools, visit, key, PARTY_ROLE_CPO)
        with refusing():
            receipt = await location_received(
                self._tools.database, caller_of(visit), sender, key, document, place, patch=patch
            )
        return done(receipt, key)
