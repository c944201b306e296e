"""An OCPI party with a first token: its versions, their modules, its credentials, and what it is pushed.

It calls nobody back.
"""

import base64
import json
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from evbridge.partner.ocpi.v2 import credentials_pb2, locations_pb2, tariffs_pb2, versions_pb2
from google.protobuf.message import Message

from service.bridge.edge import Call, Refused, Reply
from service.bridge.registry import Operation, Parameter, Registry
from service.bridge.values import scalar
from service.simulator import simulator
from service.simulator.objects import Object

_MODULES = {
    "2.1.1": ("cdrs", "commands", "credentials", "locations", "sessions", "tariffs", "tokens"),
    "2.2.1": ("cdrs", "chargingprofiles", "commands", "credentials", "locations", "sessions", "tariffs", "tokens"),
}
_RECEIVED = ("GetReceivedLocation", "PutLocation", "PatchEvse", "GetReceivedTariff", "PutTariff", "DeleteTariff")
_SENT = ("chargingprofiles", "commands", "credentials", "tokens")


class Simulator(simulator.Simulator):
    """An eMSP: it receives what a CPO pushes, and sends its tokens, commands and charging profiles."""

    path = "/ocpi/versions"

    def __init__(self, *, api_key: str) -> None:
        files = (each.DESCRIPTOR for each in (versions_pb2, credentials_pb2, locations_pb2, tariffs_pb2))
        operations = filter(_is_served, Registry.of([*files]).operations.values())
        self._first_key = base64.b64encode(api_key.encode()).decode()
        super().__init__(map(_at_its_path, operations), api_key=self._first_key)

    async def _serve(self, operation: Operation, request: Message, call: Call) -> Reply:
        if call.path.endswith("/credentials"):
            return self._credentials(operation, call.headers["Authorization"].removeprefix("Token "))
        if operation.name.endswith(_RECEIVED):
            return self._receive(operation, call)
        return await super()._serve(operation, request, call)

    def _receive(self, operation: Operation, call: Call) -> Reply:
        """What is pushed is kept as it is sent, by its path; a PATCH is of an EVSE in a location."""
        path, method = call.path, operation.http_method
        if method == "PUT":
            status = 200 if path in self.objects else 201
            self.objects[path] = json.loads(call.body)
            return replace(_reply(operation, _envelope()), status=status)
        at, _, uid = path.rpartition("/") if method == "PATCH" else (path, "", "")
        if (held := self.objects.get(at)) is None:
            raise Refused(404)
        if method == "GET":
            return _reply(operation, _envelope(data=held))
        if method == "DELETE":
            del self.objects[at]
            return _reply(operation, _envelope())
        sent = json.loads(call.body)
        evses = [each | sent if each["uid"] == uid else each for each in held.get("evses", [])]
        if uid not in (each["uid"] for each in evses):
            raise Refused(404)
        self.objects[at] = held | {"evses": evses, "last_updated": sent["last_updated"]}
        return _reply(operation, _envelope())

    def _credentials(self, operation: Operation, key: str) -> Reply:
        """Each POST and PUT gives out a new token, and DELETE lets the first one register again."""
        registered = self._api_key != self._first_key
        if operation.http_method != "GET" and registered == (operation.http_method == "POST"):
            raise Refused(405)
        if operation.http_method == "DELETE":
            self._api_key = self._first_key
            return _reply(operation, _envelope())
        token = base64.b64decode(key).decode()
        if operation.http_method != "GET":
            token = secrets.token_urlsafe(32)
            self._api_key = base64.b64encode(token.encode()).decode()
        role = {"role": "EMSP", "country_code": "DE", "party_id": "SIM", "business_details": {"name": "Simulated"}}
        return _reply(operation, _envelope(data={"token": token, "url": f"{self.url}{self.path}", "roles": [role]}))

    def got(self, operation: Operation, request: Message, call: Call) -> Any:
        if not operation.address_field:
            return _envelope(data=[{"version": each, "url": f"{self.url}/ocpi/{each}"} for each in _MODULES])
        version = call.path.rpartition("/")[2]
        if version not in _MODULES:
            raise Refused(404)
        endpoints = [
            {
                "identifier": module,
                "url": f"{self.url}/ocpi/{version}/{module}",
                **(
                    {"role": "SENDER" if module in ("credentials", "tokens") else "RECEIVER"} if version > "2.2" else {}
                ),
            }
            for module in _MODULES[version]
        ]
        return _envelope(data={"version": version, "endpoints": endpoints})

    def error_body(self, refused: Refused) -> bytes:
        code = 2003 if refused.status == 404 else 2001 if 400 <= refused.status < 500 else 3000
        return json.dumps(_envelope(code, refused.code.replace("_", " ").capitalize())).encode()


def _envelope(code: int = 1000, message: str = "Success", **members: Any) -> Object:
    return members | {
        "status_code": code,
        "status_message": message,
        "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }


def _is_served(operation: Operation) -> bool:
    service, _, name = operation.name.rpartition("/")
    return name in _RECEIVED or service.endswith(("VersionsService", "CredentialsService"))


def _at_its_path(operation: Operation) -> Operation:
    """The contract has no paths, as each party gives out its own: these are the ones here."""
    if not operation.address_field:
        return replace(operation, path=("ocpi", "versions"))
    field: Any = operation.request_type.DESCRIPTOR.fields_by_name[operation.address_field]
    modules = ("credentials", "locations", "tariffs")
    module = (each for each in modules if f".{each.capitalize()}" in operation.name)
    return replace(operation, path=("ocpi", Parameter(field.name, field, scalar(field)), *module, *operation.path))


def _reply(operation: Operation, body: Object) -> Reply:
    return Reply(operation.reply.decode(json.dumps(body)).message)
