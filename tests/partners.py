"""Small partners on loopback for what no simulator plays: one that hands out access tokens, one that speaks OCPI."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from aiohttp import web


@asynccontextmanager
async def listening(application: web.Application) -> AsyncIterator[str]:
    """Its URL, on a free port; who is still being answered at the end is cut off."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class TokenPartner:
    """Hands out `token-1`, `token-2` and so on, and takes those that are not `revoked` for its things.

    `answer` replaces members of a token's answer (None leaves one out), `status` and `body` the answer itself. Until
    `thinking` is set it hands out nothing.
    """

    url: str = ""
    secret: str = "partner-key"
    stamp: str = "token"
    answer: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    body: bytes | None = None
    thinking: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[dict[str, str]] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.thinking.set()

    async def token(self, request: web.Request) -> web.Response:
        client = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        self.asked.append({"path": request.path, "client": client, **dict(await request.post())})  # type: ignore[dict-item]
        number = len(self.asked)
        await self.thinking.wait()
        if client != f"evbridge:{self.secret}":
            answer = {"error": "invalid_client", "error_description": f"{client} is unknown", client: client}
            return web.json_response(answer, status=401)
        if self.status >= 300 or self.body is not None:
            return web.Response(status=self.status, body=self.body or b'{"error": "canary-4711"}')
        answer = {"access_token": f"{self.stamp}-{number}", "token_type": "Bearer", "issued_at": "1700000000000"}
        answer = {name: value for name, value in (answer | self.answer).items() if value is not None}
        return web.json_response(answer, status=self.status)

    async def things(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.called.append(token)
        if not token.startswith(self.stamp) or token in self.revoked:
            return web.json_response({"error": token}, status=401)
        return web.json_response({"name": "thing"})

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["TokenPartner"]:
        application = web.Application()
        for path in ("/token", "/services/oauth2/token"):
            application.router.add_post(path, self.token)
        application.router.add_get("/things/{id}", self.things)
        async with listening(application) as self.url:
            yield self
            self.thinking.set()


@dataclass
class OcpiPartner:
    """Speaks the versions it is told to, to who brings `authorization`; `own` may replace an answer by its path, or by
    the method and the path. It keeps the `credentials` it is given, gives out "token-c" and calls nobody back.

    `lists` are its objects by module, up to `per_page` at a time; `asked` are the queries for them. What stands under
    a module and a number answers the next request for the page that begins there. `link` makes another Link of the
    one that is due ("" at the end), `total` another X-Total-Count.
    """

    url: str = ""
    authorization: str = "Token " + base64.b64encode(b"token-a").decode()
    credentials: list[Any] = field(default_factory=list)
    versions: tuple[str, ...] = ("2.0", "2.1.1", "2.2.1", "2.3.0")
    role: str | None = "SENDER"
    party_role: str = "EMSP"
    modules: tuple[str, ...] = ("credentials", "locations", "de-abc-own")
    lists: dict[str, list[Any]] = field(default_factory=dict)
    per_page: int = 2
    asked: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    instead: dict[tuple[str, int], Callable[[], Awaitable[web.Response]]] = field(default_factory=dict)
    link: Callable[[str], str] = str
    total: Callable[[int], str] = str
    own: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append((request.path, dict(request.headers)))
        if request.headers.get("Authorization") != self.authorization:
            return web.json_response({"status_code": 2001, "timestamp": "2026-01-01T00:00:00Z"}, status=401)
        if (module := request.path.rpartition("/")[2]) in self.lists:
            return await self.page(request, module)
        if (own := self.own.get(f"{request.method} {request.path}", self.own.get(request.path))) is not None:
            return own if isinstance(own, web.Response) else web.json_response(own)
        data: Any = [{"version": each, "url": f"{self.url}/ocpi/{each}"} for each in self.versions]
        if request.path.endswith("/credentials"):
            if request.method in ("POST", "PUT"):
                self.credentials.append(await request.json())
                plain = self.authorization in ("Token token-a", "Token token-c")
                self.authorization = "Token " + ("token-c" if plain else base64.b64encode(b"token-c").decode())
            role = {
                "role": self.party_role,
                "country_code": "NL",
                "party_id": "TNM",
                "business_details": {"name": "The New"},
            }
            data = {"token": "token-c", "url": f"{self.url}/ocpi/versions", "roles": [role]}
        elif not request.path.endswith("/versions"):
            modules = [
                {"identifier": module, "role": self.role, "url": f"{self.url}/ocpi/{module}"} for module in self.modules
            ]
            data = {"version": request.path.rpartition("/")[2], "endpoints": modules}
        return web.json_response({"data": data, "status_code": 1000, "timestamp": "2026-01-01T00:00:00Z"})

    async def page(self, request: web.Request, module: str) -> web.Response:
        query = dict(request.query)
        self.asked.setdefault(module, []).append(query)
        offset, date_from = int(query.get("offset", 0)), query.get("date_from", "")
        if instead := self.instead.pop((module, offset), None):
            return await instead()
        found = [each for each in self.lists[module] if not date_from or each["last_updated"] >= date_from]
        end = offset + min(self.per_page, int(query.get("limit", self.per_page)))
        headers = {"X-Total-Count": self.total(len(found)), "X-Limit": str(self.per_page)}
        following = urlencode(query | {"offset": str(end)})
        link = f'<{self.url}/elsewhere?{following}>; rel="next"' if end < len(found) else ""
        if link := self.link(link):
            headers["Link"] = link
        answer = {"data": found[offset:end], "status_code": 1000, "timestamp": "2026-01-01T00:00:00Z"}
        return web.json_response(answer, headers=headers)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["OcpiPartner"]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        async with listening(application) as self.url:
            yield self
