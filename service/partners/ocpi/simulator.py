"""An OCPI party with a first token: versions, modules, credentials, what it is pushed, and lists of its own.

It calls nobody back. What two parties push of sessions, CDRs and tokens, and commands, is shown by two evbridges.
"""

import base64
import json
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from google.protobuf.message import Message

from service.bridge.edge import Call, Refused, Reply
from service.bridge.registry import Operation, Parameter, Registry, contract_files
from service.bridge.values import scalar
from service.simulator import simulator
from service.simulator.objects import Object

_VERSIONS = ("2.1.1", "2.2.1")
_RECEIVES = ("locations", "tariffs")
_LISTS = (*_RECEIVES, "sessions", "cdrs", "tokens")
_MODULES = ("credentials", *_LISTS)
_SHOWN = "LocationsSenderService/GetLocation"
_LISTED = tuple(f"{each.capitalize()}SenderService/List{each.capitalize()}" for each in _LISTS)
_TARIFF = {
    "id": "AC",
    "currency": "EUR",
    "elements": [{"price_components": [{"type": "ENERGY", "price": 0.49, "vat": 19.0, "step_size": 1}]}],
}
_CONNECTOR = {
    "id": "1",
    "standard": "IEC_62196_T2",
    "format": "SOCKET",
    "power_type": "AC_3_PHASE",
    "max_voltage": 400,
    "max_amperage": 32,
    "tariff_ids": ["AC"],
    "last_updated": "2026-01-01T00:00:00Z",
}
_LOCATION = {
    "id": "HARBOUR",
    "publish": True,
    "name": "Harbour",
    "address": "Kai 1",
    "city": "Hamburg",
    "postal_code": "20457",
    "country": "DEU",
    "coordinates": {"latitude": "53.541000", "longitude": "9.990000"},
    "time_zone": "Europe/Berlin",
    "evses": [
        {
            "uid": "1",
            "evse_id": "DE*SIM*E1",
            "status": "AVAILABLE",
            "connectors": [_CONNECTOR],
            "last_updated": "2026-01-01T00:00:00Z",
        }
    ],
}
_CHARGED = {
    "start_date_time": "2026-01-01T10:00:00Z",
    "end_date_time": "2026-01-01T11:00:00Z",
    "cdr_token": {
        "country_code": "DE",
        "party_id": "ABC",
        "uid": "04A1B2C3",
        "type": "RFID",
        "contract_id": "DE-ABC-C12345678-X",
    },
    "auth_method": "WHITELIST",
    "currency": "EUR",
    "charging_periods": [
        {"start_date_time": "2026-01-01T10:00:00Z", "dimensions": [{"type": "ENERGY", "volume": 20}], "tariff_id": "AC"}
    ],
    "total_cost": {"excl_vat": 9.8, "incl_vat": 11.662},
}
_SESSION = _CHARGED | {
    "id": "S1",
    "kwh": 20,
    "location_id": "HARBOUR",
    "evse_uid": "1",
    "connector_id": "1",
    "status": "COMPLETED",
}
_CDR = _CHARGED | {
    "id": "C1",
    "session_id": "S1",
    "cdr_location": {
        **{name: _LOCATION[name] for name in ("id", "address", "city", "postal_code", "country", "coordinates")},
        "evse_uid": "1",
        "evse_id": "DE*SIM*E1",
        "connector_id": "1",
        "connector_standard": "IEC_62196_T2",
        "connector_format": "SOCKET",
        "connector_power_type": "AC_3_PHASE",
    },
    "total_energy": 20,
    "total_time": 1,
}
_TOKEN = {
    "uid": "0A1B2C3D",
    "type": "RFID",
    "contract_id": "DE-SIM-C12345678-X",
    "issuer": "Simulated",
    "valid": True,
    "whitelist": "ALWAYS",
}
_RECEIVED = ("GetReceivedLocation", "PutLocation", "PatchEvse", "GetReceivedTariff", "PutTariff", "DeleteTariff")
_OWNER = {"country_code": "DE", "party_id": "SIM", "last_updated": "2026-01-01T00:00:00Z"}
_MAX_PAGE = 100


class Simulator(simulator.Simulator):
    """An eMSP that receives what a CPO pushes, and a CPO whose `lists` can be pulled, by module and the oldest first.

    What is in them is as 2.2.1 has it, whatever version is asked for.
    """

    path = "/ocpi/versions"

    def __init__(self, *, api_key: str) -> None:
        contract = Registry.of(contract_files("evbridge.partner.ocpi.v2"))
        operations = filter(_is_served, contract.operations.values())
        self._first_key = base64.b64encode(api_key.encode()).decode()
        self.lists: dict[str, list[Object]] = {
            "tariffs": [_OWNER | _TARIFF],
            "locations": [_OWNER | _LOCATION],
            "sessions": [_OWNER | _SESSION],
            "cdrs": [_OWNER | _CDR | {"tariffs": [_OWNER | _TARIFF]}],
            "tokens": [_OWNER | _TOKEN],
        }
        super().__init__(map(_at_its_path, operations), api_key=self._first_key)

    async def _serve(self, operation: Operation, request: Message, call: Call) -> Reply:
        if call.path.endswith("/credentials"):
            return self._credentials(operation, call.headers["Authorization"].removeprefix("Token "))
        if operation.name.endswith(_RECEIVED):
            return self._receive(operation, call)
        if operation.name.endswith(_LISTED):
            return self._list(call)
        if operation.name.endswith(_SHOWN):
            return self._show(call)
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

    def _show(self, call: Call) -> Reply:
        for each in self.lists["locations"]:
            if each["id"] == call.path.rpartition("/")[2]:
                return Reply(body=json.dumps(_envelope(data=each)).encode())
        raise Refused(404)

    def _list(self, call: Call) -> Reply:
        query, module = dict(call.query), call.path.rpartition("/")[2]
        try:
            offset, limit = (int(query.get(name, value)) for name, value in (("offset", 0), ("limit", _MAX_PAGE)))
        except ValueError:
            raise Refused(400) from None
        since, until = query.get("date_from", ""), query.get("date_to", "9999")
        found = [each for each in self.lists[module] if since <= each["last_updated"] < until]
        end = max(0, offset) + min(max(1, limit), _MAX_PAGE)
        headers = {"X-Total-Count": str(len(found)), "X-Limit": str(_MAX_PAGE)}
        if end < len(found):
            headers["Link"] = f'<{self.url}{call.path}?{urlencode(query | {"offset": str(end)})}>; rel="next"'
        return Reply(body=json.dumps(_envelope(data=found[max(0, offset) : end])).encode(), headers=headers)

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
        named = {"country_code": "DE", "party_id": "SIM", "business_details": {"name": "Simulated"}}
        roles = [named | {"role": role} for role in ("EMSP", "CPO")]
        return _reply(operation, _envelope(data={"token": token, "url": f"{self.url}{self.path}", "roles": roles}))

    def got(self, operation: Operation, request: Message, call: Call) -> Any:
        if not operation.address_field:
            return _envelope(data=[{"version": each, "url": f"{self.url}/ocpi/{each}"} for each in _VERSIONS])
        version = call.path.rpartition("/")[2]
        if version not in _VERSIONS:
            raise Refused(404)
        endpoints = [
            {"identifier": module, "url": f"{self.url}/ocpi/{version}/{module}", **role}
            for module in _MODULES
            for role in (_roles(module) if version > "2.2" else [{}])
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


def _roles(module: str) -> list[dict[str, str]]:
    """Of a module's endpoints, which have one address."""
    return [{"role": role} for role in (("SENDER", "RECEIVER") if module in _RECEIVES else ("SENDER",))]


def _is_served(operation: Operation) -> bool:
    service, _, name = operation.name.rpartition("/")
    if name in _RECEIVED or operation.name.endswith((*_LISTED, _SHOWN)):
        return True
    return service.endswith(("VersionsService", "CredentialsService"))


def _at_its_path(operation: Operation) -> Operation:
    """The contract has no paths, as each party gives out its own: these are the ones here."""
    if not operation.address_field:
        return replace(operation, path=("ocpi", "versions"))
    field: Any = operation.request_type.DESCRIPTOR.fields_by_name[operation.address_field]
    module = (each for each in _MODULES if f".{each.capitalize()}" in operation.name)
    return replace(operation, path=("ocpi", Parameter(field.name, field, scalar(field)), *module, *operation.path))


def _reply(operation: Operation, body: Object) -> Reply:
    return Reply(operation.reply.decode(json.dumps(body)).message)
