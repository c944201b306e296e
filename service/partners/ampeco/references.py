"""What a session of AMPECO's refers to, here: the connector that it is at, and the token that it was started with."""

from typing import Final

from evbridge.partner.ampeco.v3.session_pb2 import Session
from evbridge.v1.charger_pb2 import Charger
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CONNECTOR, OBJECT_KIND_EVSE
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import TOKEN_TYPE_RFID, Location, TokenType
from evbridge.v1.token_pb2 import Token

from service.domain.billing import Place
from service.domain.keys import ObjectKey, charger_key
from service.domain.origin import imported_id
from service.domain.token import token_id
from service.errors import InvalidArgument, ResourceNotFound
from service.storage.charger import charger_get
from service.storage.location import location_find
from service.storage.peer import part_found
from service.storage.pool import Database
from service.storage.token import tokens_named

_TYPES: Final = sorted((type for type in TokenType.values() if type), key=lambda type: type != TOKEN_TYPE_RFID)


async def place_of(database: Database, tenant_id: str, integration: Integration, remote: Session) -> Place:
    """Where it is: at a location that was imported, or at one of ours that was delivered there.

    Raises InvalidArgument, with the member of AMPECO's, when it is at neither.
    """
    if not remote.HasField("evse_id"):
        raise InvalidArgument.field("/evseId", "is required")
    if part := await part_found(database, tenant_id, integration.id, OBJECT_KIND_EVSE, str(remote.evse_id)):
        key, (_, (uid, *_)) = part
    else:
        key, uid = await _imported(database, tenant_id, integration, remote), str(remote.evse_id)
    location = Location.FromString((await location_find(database, tenant_id, [key])).get(key, b""))
    evse = next((each for each in location.evses if each.uid.casefold() == uid.casefold()), None)
    if evse is None:
        raise InvalidArgument.field("/evseId", "is not an EVSE that was imported or delivered")
    connector_id = str(remote.connector_id)
    if not remote.HasField("connector_id") and len(evse.connectors) == 1:  # such a one may go unnamed
        connector_id = evse.connectors[0].id
    elif named := await part_found(database, tenant_id, integration.id, OBJECT_KIND_CONNECTOR, connector_id):
        connector_id = named[1].ids[-1]
    place = Place.of(location, evse.uid, connector_id)
    if place is None:
        raise InvalidArgument.field("/connectorId", "is not a connector of the EVSE that was imported or delivered")
    return place


async def token_of(database: Database, tenant_id: str, remote: Session) -> Token:
    """Raises InvalidArgument when no provider is known to have issued it, or several are."""
    if not remote.id_tag:
        raise InvalidArgument.field("/idTag", "is required: without a token nobody knows who pays")
    for type in _TYPES:
        tokens = await tokens_named(database, tenant_id, token_id(type, remote.id_tag))
        found = [token for token in tokens if token.valid] or tokens
        if len(found) > 1:
            raise InvalidArgument.field("/idTag", "is a token of several providers")
        if found:
            return found[0]
    raise InvalidArgument.field("/idTag", "is not a token that is stored here, of ours or of a provider")


async def _imported(database: Database, tenant_id: str, integration: Integration, remote: Session) -> ObjectKey:
    """The location of its charge point. Raises InvalidArgument."""
    if not remote.HasField("charge_point_id"):
        raise InvalidArgument.field("/chargePointId", "is required")
    try:
        key = charger_key(imported_id(integration.id, str(remote.charge_point_id)))
        charger = Charger.FromString(await charger_get(database, tenant_id, key))
    except ResourceNotFound:
        raise InvalidArgument.field("/chargePointId", "is not a charge point that was imported or delivered") from None
    owner = integration.parties[0]
    return ObjectKey.of(owner.country_code, owner.party_id, charger.site_id)
