"""An AMPECO: numbers as ids, envelopes and pages by cursor or number, errors as its API writes them."""

import hmac
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from aiohttp import ClientSession
from google.protobuf.message import Message

from service.bridge.edge import Call, Refused
from service.bridge.registry import Operation, Registry, contract_files
from service.simulator import simulator
from service.simulator.objects import Object


class Simulator(simulator.Simulator):
    invalid_status = 422

    def __init__(self, *, api_key: str) -> None:
        files = contract_files("evbridge.partner.ampeco.v3")
        super().__init__(Registry.of(files).operations.values(), api_key=api_key)

    def charge(self, id: int, **members: Any) -> None:
        """A session begins, goes on or ends: what changes of it."""
        path, now = f"{SESSIONS}/{id}", _now()
        held = self.objects.get(path, {"id": id, "status": "active", "startedAt": now, "energy": 0})
        self.objects[path] = held | {"lastUpdatedAt": now} | members

    async def acted(self, operation: Operation, request: Message) -> Object | None:
        """A session that is started takes 20 kWh, and has them when it is stopped."""
        asked: Any = request
        match operation.name.rpartition("/")[2]:
            case "StartSession":
                id, session = self.new_id(), asked.session
                place = {"chargePointId": asked.charge_point_id, "evseId": asked.evse_id}
                connector = {"connectorId": session.connector_id} if session.HasField("connector_id") else {}
                self.charge(id, **place, **connector, idTag=session.id_tag)
            case "StopSession" if f"{SESSIONS}/{asked.session_id}" in self.objects:
                id = asked.session_id
                self.charge(id, status="finished", energy=20_000, stoppedAt=_now())
            case _:
                return None
        await self.notify("SessionStartStopNotification", session=self.objects[f"{SESSIONS}/{id}"])
        return {"success": True, "sessionId": id}

    async def notify(self, event: str, **members: Any) -> list[int]:
        """Calls all who subscribed to the event, signed with the token; the statuses of their answers."""
        body = json.dumps({"notification": event, **members}).encode()
        signature = hmac.new(self._api_key.encode(), body, sha256).hexdigest()
        headers = {"X-Signature": signature, "Content-Type": "application/json"}
        statuses = []
        async with ClientSession(headers=headers) as http:
            for held in self.objects.below(_NOTIFICATIONS):
                if event in held["notifications"]:
                    async with http.post(held["webhook"]["callbackUrl"], data=body) as answer:
                        statuses.append(answer.status)
        return statuses

    def new_id(self) -> int:
        return int(super().new_id())

    def written(self, operation: Operation, request: Message, before: Object | None, sent: Object) -> Object:
        identity = _ocpp_identity(sent)
        changed = identity and identity != _ocpp_identity(before or {})
        if changed and any(_ocpp_identity(held) == identity for held in self.objects.values()):
            raise Refused(422, problems={"/network/id": "The network id has already been taken."})
        if not simulator.knows(operation, "lastUpdatedAt"):
            return sent
        return sent | {"lastUpdatedAt": _now()}

    def holds(self, path: str) -> bool:
        """An EVSE may have been made on its own or below its charge point."""
        alone = re.sub(r"/charge-points/v2\.0/[^/]+/evses/([^/]+)$", r"/evses/v2.1/\1", path)
        return super().holds(path) or super().holds(alone)

    def page(self, operation: Operation, request: Message, found: Iterator[Object], call: Call) -> Any:
        query = dict(call.query)
        if call.path == _EVSES:
            found = self._evses(("include[]", "connectors") in call.query)
        size = min(_number(query, "per_page", 100), 100) or 1
        objects = (each for each in sorted(found, key=_id) if _matches(each, query))
        meta: Object = {"path": _url(call, {}), "per_page": size}
        if "cursor" in query:
            after = _number(query, "cursor", 0)
            data = list(islice((each for each in objects if _id(each) > after), size + 1))
            cursor = str(_id(data[size - 1])) if len(data) > size else None
            following = cursor and _url(call, {"cursor": cursor})
            links = {"first": None, "last": None, "prev": None, "next": following}
            return {"data": data[:size], "links": links, "meta": meta | {"next_cursor": cursor, "prev_cursor": None}}
        data, number = list(objects), _number(query, "page", 1) or 1
        last = -(-len(data) // size) or 1
        links = {
            "first": _url(call, {"page": "1"}),
            "last": _url(call, {"page": str(last)}),
            "prev": _url(call, {"page": str(number - 1)}) if number > 1 else None,
            "next": _url(call, {"page": str(number + 1)}) if number < last else None,
        }
        return {"data": data[size * (number - 1) :][:size], "links": links, "meta": meta | {"total": len(data)}}

    def _evses(self, with_connectors: bool) -> Iterator[Object]:
        """All there are, also those that were made below their charge point, and their connectors when asked for."""
        below: dict[str, list[str]] = {}
        for path in self.objects if with_connectors else ():
            below.setdefault(path.rpartition("/")[0], []).append(path)
        for path in list(self.objects):
            place = _BELOW.fullmatch(path)
            if not place and path.rpartition("/")[0] != _EVSES:
                continue
            evse = self.objects[path]
            if with_connectors:
                charge_point = place[1] if place else evse.get("chargePointId")
                paths = below.get(f"{_CHARGE_POINTS}/{charge_point}/evses/{evse.get('id')}/connectors", ())
                evse["connectors"] = [*evse.get("connectors", ()), *(self.objects[each] for each in paths)]
            yield evse

    def error_body(self, refused: Refused) -> bytes:
        body: Object = {"message": _MESSAGES.get(refused.status, refused.code.replace("_", " ").capitalize())}
        if refused.status == 422:
            places = {place[1:].replace("/", "."): [problem] for place, problem in refused.problems.items()}
            body["errors"] = places
        return json.dumps(body).encode()

    def error_headers(self, status: int) -> Mapping[str, str]:
        return {"X-RateLimit-Limit": "1000", "X-RateLimit-Remaining": "0"} if status == 429 else {}


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _ocpp_identity(charge_point: Object) -> Any:
    network = charge_point.get("network")
    return network.get("id") if isinstance(network, dict) else None


def _id(held: Object) -> int:
    return int(held.get("id", 0))


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name) or str(default)
    if not text.isdecimal() or len(text) > 18:
        raise Refused(422, problems={f"/{name}": "must be a number"})
    return int(text)


def _matches(held: Object, query: Mapping[str, str]) -> bool:
    """Whether an object passes filter[member], and filter[xAfter] and filter[xBefore] of its member xAt."""
    for name, wanted in query.items():
        if (match := _FILTER.fullmatch(name)) is None:
            continue
        value = held.get(f"{match[1]}At" if match[2] else match[1])
        if value is None:
            return False
        text = value if isinstance(value, str) else json.dumps(value)
        if text < wanted if match[2] == "After" else text > wanted if match[2] == "Before" else text != wanted:
            return False
    return True


def _url(call: Call, changed: Mapping[str, str]) -> str:
    """The URL of the list, or with `changed` that of another page of it."""
    url = f"http://{call.headers['Host']}{call.path}"
    kept = [(name, value) for name, value in call.query if name not in changed]
    return f"{url}?{urlencode([*kept, *changed.items()])}" if changed else url


SESSIONS = "/public-api/resources/sessions/v1.0"
_NOTIFICATIONS = "/public-api/notifications/v2.0"
_EVSES = "/public-api/resources/evses/v2.1"
_CHARGE_POINTS = "/public-api/resources/charge-points/v2.0"
_BELOW = re.compile(rf"{re.escape(_CHARGE_POINTS)}/([^/]+)/evses/[^/]+")
_FILTER = re.compile(r"filter\[(\w+?)(After|Before)?\]")
_MESSAGES = {
    401: "Unauthenticated.",
    403: "This action is unauthorized.",
    404: "Not Found",
    422: "The given data was invalid.",
    429: "Too Many Attempts.",
    500: "Server Error",
}
