"""An eMabler: an integration changes by what is set and is read with its locations; errors are a line of plain text."""

from typing import Any, Final
from urllib.parse import quote

from evbridge.partner.emabler.v2.integration_pb2 import AddLocationRequest, UpdatedIntegration
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from service.bridge.edge import Refused
from service.bridge.registry import Operation, Registry, contract_files
from service.bridge.values import WELL_KNOWN_TYPES
from service.bridge.wire import fields_on_the_wire
from service.simulator import simulator
from service.simulator.objects import Object


class Simulator(simulator.Simulator):
    """It has the integrations that were updated once: the contract has no way to make one."""

    created_status = 200
    error_type = "text/plain"

    def __init__(self, *, api_key: str) -> None:
        files = contract_files("evbridge.partner.emabler.v2")
        super().__init__(Registry.of(files).operations.values(), api_key=api_key)

    def new_id(self) -> str:
        return f"Loc-{super().new_id()}"

    def check(self, operation: Operation, request: Message) -> None:
        super().check(operation, request)
        unknown = isinstance(request, AddLocationRequest) and (
            f"/integrations/{quote(request.emabler_integration_id, safe='')}" not in self.objects
        )
        if unknown:
            raise Refused(404)

    def written(self, operation: Operation, request: Message, before: Object | None, sent: Object) -> Object:
        if not isinstance(request, AddLocationRequest):
            return simulator.merged(before or _NEW, sent)
        if request.create_empty:
            return sent | {"chargers": []}
        return sent | {"chargers": [*sent.get("chargers", ()), *_chargers(sent.get("siteId"))]}

    def read(self, path: str, held: Object) -> Object:
        return held | {"locations": list(self.objects.below(f"{path}/locations"))}

    def shown(self, operation: Operation, held: Object) -> Object:
        """An update is answered with every member that the documents list."""
        path = f"/integrations/{quote(str(held.get('id')), safe='')}"
        whole = self.read(path, simulator.merged(_EMPTY, held)) if operation.http_method == "PUT" else held
        return super().shown(operation, whole)

    def error_body(self, refused: Refused) -> bytes:
        return _MESSAGES.get(refused.status, "Something went wrong").encode()


_MESSAGES = {401: "Not authorised", 404: "Customer not found"}
_NEW: Final[Object] = {"integrationStatus": "Active", "customerRoles": ["CPO"]}


def _chargers(site_id: Any) -> list[Object]:
    """Each site has two, of one socket each."""
    if site_id is None:
        return []
    socket = {
        "id": 1,
        "type": "IEC_62196_T2",
        "status": "AVAILABLE",
        "format": "SOCKET",
        "socketPowerType": "AC_3_PHASE",
    }
    names = (f"CP-{site_id}-{number}" for number in (1, 2))
    return [{"chargerID": name, "chargerName": name, "amountOfSockets": 1, "sockets": [socket]} for name in names]


def _empty(descriptor: Descriptor) -> Object:
    """Every member that travels, with nothing in it."""
    members: Object = {}
    for name, (*_, field) in fields_on_the_wire(descriptor, False):
        below = field.message_type
        if field.is_repeated:
            members[name] = []
        elif below is None:
            members[name] = field.default_value
        elif below.full_name not in WELL_KNOWN_TYPES:
            members[name] = _empty(below)
    return members


_EMPTY: Final = _empty(UpdatedIntegration.DESCRIPTOR)
