"""An eMabler: an integration changes by what is set and is read with its locations; errors are a line of plain text."""

from urllib.parse import quote

from evbridge.partner.emabler.v2.integration_pb2 import AddLocationRequest
from google.protobuf.message import Message

from service.bridge.edge import Refused
from service.bridge.registry import Operation, Registry, contract_files
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

    def written(self, operation: Operation, before: Object | None, sent: Object) -> Object:
        return simulator.merged(before or {}, sent)

    def read(self, path: str, held: Object) -> Object:
        return held | {"locations": list(self.objects.below(f"{path}/locations"))}

    def error_body(self, refused: Refused) -> bytes:
        return _MESSAGES.get(refused.status, "Something went wrong").encode()


_MESSAGES = {401: "Not authorised", 404: "Customer not found"}
