"""An OCPI party on loopback that does all that the specification wants, and what a test changes of it."""

import base64
import gzip
import json
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from evbridge.v1.hub_client_pb2 import HUB_CLIENT_STATUS_CONNECTED, HubClient
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO

from service.partners.ocpi.mapping import VERSIONS, object_to
from tests.charged import SESSION_START_S, a_cdr, a_session
from tests.front_door import a_location, a_record, a_token

TOKEN = "token-of-the-party"
X_LIMIT = 50
EXAMPLES = Path(__file__).parent / "examples"
LISTS = {
    "locations": "id",
    "tariffs": "id",
    "sessions": "id",
    "cdrs": "id",
    "tokens": "uid",
    "hubclientinfo": "party_id",
    "invoicereconciliation": "id",
}
"""Module -> what its objects are told apart by."""


def _example(module: str, version: str) -> dict[str, Any]:
    """An object of a module; empty in a version that does not have it."""
    kind = module.removesuffix("s")
    if (written := EXAMPLES / f"{kind}_{version}.json").exists():
        return json.loads(written.read_text(encoding="utf-8"))
    ours = {
        "session": a_session(location=a_location()),
        "cdr": a_cdr(),
        "token": a_token(),
        "hubclientinfo": HubClient(
            country_code="DE", party_id="ABC", role=PARTY_ROLE_CPO, status=HUB_CLIENT_STATUS_CONNECTED
        ),
        "invoicereconciliation": a_record(),
    }[kind]
    ours.last_updated.seconds = SESSION_START_S
    return object_to(ours, version).object if type(ours).DESCRIPTOR.name in VERSIONS[version].TO else {}


@dataclass
class Said:
    """An answer before it is sent; `body` is an envelope, or bytes. `query` is what was asked for."""

    path: str
    query: dict[str, str]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None

    @property
    def page(self) -> str:
        """The module whose list this is, empty otherwise."""
        name = self.path.rstrip("/").rpartition("/")[2]
        return name if name in LISTS and self.status == 200 else ""


@dataclass
class Party:
    """`change` may change what it says; it heeds no parameter that is `ignored`, nor the token of what is `open`."""

    versions: tuple[str, ...] = ("2.1.1", "2.2.1", "2.3.0")
    modules: Collection[str] = tuple(LISTS)
    change: Callable[[Said], None] = lambda said: None
    ignored: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    encoded: bool = True
    plain: bool = True
    scheme: tuple[str, ...] = ("Token", "token")
    strict_slash: bool = False
    objects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    url: str = ""
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        version = max(self.versions)
        for module, id in LISTS.items():
            example = _example(module, version)
            self.objects[module] = [
                example | {id: f"{module[0]}{number:02}", "last_updated": f"2026-03-0{number + 1}T08:00:00Z"}
                for number in range(5 if module == "locations" else 3)
                if example and module in self.modules
            ]

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(f"{request.method} {request.path_qs}")
        said = Said(request.path, dict(request.query))
        names = ("X-Request-ID", "X-Correlation-ID")
        said.headers = {name: request.headers[name] for name in names if name in request.headers}
        said.headers["Content-Type"] = "application/json"
        if any(part in request.path for part in self.open) or self._is_known(request.headers.get("Authorization", "")):
            self._serve(said)
        else:
            said.status, said.body = 401, {"status_code": 2000}
        said.body |= {"timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        self.change(said)
        body = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
        if said.headers.get("Content-Encoding") == "gzip":
            body = gzip.compress(body)
        return web.Response(status=said.status, body=body, headers=said.headers)

    def _is_known(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        forms = {base64.b64encode(TOKEN.encode()).decode()} if self.encoded else set()
        return scheme in self.scheme and token in forms | ({TOKEN} if self.plain else set())

    def _serve(self, said: Said) -> None:
        path = said.path.strip("/") if not self.strict_slash else said.path.removeprefix("/")
        match path.split("/"):
            case ["ocpi", "versions"]:
                data: Any = [{"version": each, "url": f"{self.url}/ocpi/{each}"} for each in self.versions]
            case ["ocpi", version] if version in self.versions:
                data = {"version": version, "endpoints": self._endpoints(version)}
            case ["ocpi", _, module] if module in LISTS:
                data = self._page(module, said)
            case ["ocpi", _, "locations", id] if held := [x for x in self.objects["locations"] if x["id"] == id]:
                data = held[0]
            case _:
                said.status, said.body = 404, {"status_code": 2000}
                return
        said.body = {"data": deepcopy(data), "status_code": 1000, "status_message": "Success"}

    def _endpoints(self, version: str) -> list[dict[str, str]]:
        sent = ("credentials", *(module for module in LISTS if self.objects[module]))
        found = [
            {"identifier": module, "role": role, "url": f"{self.url}/ocpi/{version}/{module}"}
            for role, modules in (("SENDER", sent), ("RECEIVER", (*sent[1:], "commands", "chargingprofiles")))
            for module in modules
            if role == "SENDER" or version > "2.2"
        ]
        return found if version > "2.2" else [{n: v for n, v in each.items() if n != "role"} for each in found]

    def _page(self, module: str, said: Said) -> list[dict[str, Any]]:
        query = {name: value for name, value in said.query.items() if name not in self.ignored}
        found = [
            each
            for each in self.objects[module]
            if query.get("date_from", "") <= each["last_updated"] < query.get("date_to", "9")
        ]
        start, limit = int(query.get("offset", "0")), min(int(query.get("limit", X_LIMIT)), X_LIMIT)
        said.headers |= {"X-Total-Count": str(len(found)), "X-Limit": str(X_LIMIT)}
        if start + limit < len(found):
            following = urlencode(said.query | {"offset": str(start + limit), "limit": str(limit)})
            said.headers["Link"] = f'<{self.url}{said.path}?{following}>; rel="next"'
        return found[start : start + limit]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Party"]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()


def in_days(days: int) -> str:
    return f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
