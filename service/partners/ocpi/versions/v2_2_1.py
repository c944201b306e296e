"""OCPI 2.2.1: ours, without what came later."""

from evbridge.options.v1.options_pb2 import OCPI_RELEASE_2_2_1
from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.hub_client_pb2 import HubClient
from evbridge.v1.location_pb2 import Connector, Evse, Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token

from service.partners.ocpi.versions.form import Object, pruned
from service.partners.ocpi.versions.v2_3_0 import same, with_times, without_old_parking

_INSTEAD = {"EMAID": "OTHER"}


def location_to(ours: Object) -> Object:
    return without_old_parking(pruned(Location.DESCRIPTOR, ours, OCPI_RELEASE_2_2_1))


def evse_to(ours: Object) -> Object:
    return pruned(Evse.DESCRIPTOR, ours, OCPI_RELEASE_2_2_1)


def connector_to(ours: Object) -> Object:
    return pruned(Connector.DESCRIPTOR, ours, OCPI_RELEASE_2_2_1)


def tariff_to(ours: Object) -> Object:
    return pruned(Tariff.DESCRIPTOR, ours, OCPI_RELEASE_2_2_1)


def token_to(ours: Object) -> Object:
    return pruned(Token.DESCRIPTOR, ours, OCPI_RELEASE_2_2_1, _INSTEAD)


def session_to(ours: Object) -> Object:
    return pruned(Session.DESCRIPTOR, ours, OCPI_RELEASE_2_2_1, _INSTEAD)


def cdr_to(ours: Object) -> Object:
    return with_times(pruned(Cdr.DESCRIPTOR, ours, OCPI_RELEASE_2_2_1, _INSTEAD))


def hub_client_to(ours: Object) -> Object:
    return pruned(HubClient.DESCRIPTOR, ours, OCPI_RELEASE_2_2_1)


TO = {
    "Location": location_to,
    "Evse": evse_to,
    "Connector": connector_to,
    "Tariff": tariff_to,
    "Token": token_to,
    "Session": session_to,
    "Cdr": cdr_to,
    "HubClient": hub_client_to,
}
FROM = dict.fromkeys(TO, same)
