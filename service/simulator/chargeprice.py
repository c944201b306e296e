"""A Chargeprice for the demo and the tests: companies with lock versions, its errors, and faults on request.

Built from the seed document's PUT and the public docs' list and delete. State is in memory. A `Fault` makes the next
matching request go wrong the way networks and servers do; a test appends to `faults` and reads `requests` afterwards.
"""

import asyncio
import json
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from aiohttp import web
from aiohttp.typedefs import Handler
from evbridge.partner.chargeprice.v1 import company_pb2 as chargeprice
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from service.bridge.edge import Call, Edge, Refused, Reply
from service.bridge.registry import Operation, Registry

FaultKind = Literal[
    "lose_answer",  # processed, then the connection is cut without an answer
    "cut",  # the connection is cut before the request is processed
    "delay",  # processed after `seconds`
    "status",  # answered with `status` and `retry_after`, not processed
    "garbage",  # 200 and no JSON
    "wrong_envelope",  # 200 and JSON of another shape
    "huge",  # 200 and a body that never ends
    "gzip_bomb",  # 200 and 64 MiB of zeros in 64 KiB
    "drip",  # 200 and a body of one byte every 50 ms
    "redirect",  # 307 to `url`
]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, once, with the next request; `method` limits it to requests with that HTTP method."""

    kind: FaultKind
    method: str = ""
    seconds: float = 0.0
    status: int = 0
    retry_after: str = ""
    url: str = ""


def parse_fault(text: str) -> Fault:
    """Reads `lose_answer`, `delay:2.5`, `status:503`, `status:429:30`, `redirect:http://host/`, each also as `PUT=...`.

    Raises ValueError when the text is none of these.
    """
    method, separator, rest = text.partition("=")
    # A redirect's URL may itself hold "="; a method is upper-case letters.
    if not (separator and method.isupper() and method.isalpha()):
        method, rest = "", text
    kind, _, argument = rest.partition(":")
    if kind == "delay":
        return Fault("delay", method, seconds=float(argument))
    if kind == "status":
        status, _, retry_after = argument.partition(":")
        return Fault("status", method, status=int(status), retry_after=retry_after)
    if kind == "redirect" and argument:
        return Fault("redirect", method, url=argument)
    for known in get_args(FaultKind):
        if rest == known and known != "redirect":
            return Fault(known, method)
    raise ValueError(f"unknown fault: {text!r}")


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came in. `path` is raw and holds the query; `time` is a monotonic clock's."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    time: float


class Simulator:
    """One Chargeprice with one API key.

    `companies` is its state by id; `history` holds every (id, version) it stored, in order; `with_tariffs` names the
    companies it refuses to delete; `max_in_flight` is the most requests it ever had open at once.
    """

    def __init__(self, *, api_key: str) -> None:
        self.companies: dict[str, chargeprice.CompanyResource] = {}
        self.history: list[tuple[str, int]] = []
        self.with_tariffs: set[str] = set()
        self.faults: deque[Fault] = deque()
        self.requests: list[Received] = []
        self.max_in_flight = 0
        self._api_key = api_key
        self._in_flight = 0
        self._edge = Edge(
            Registry.of([chargeprice.DESCRIPTOR]).operations.values(),
            self._serve,
            error_body=_error_body,
            authenticate=self._authenticate,
            # aiohttp marks a middleware with an attribute, which a method cannot have.
            middlewares=(web.middleware(partial(self._observe)),),
            drain_s=0.5,
        )

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listens; returns the base URL. Raises OSError when the port is taken."""
        return f"http://{host}:{await self._edge.start(host, port)}"

    async def stop(self) -> None:
        await self._edge.stop()

    def edit(self, company_id: str, **attributes: str | bool) -> None:
        """Someone else's change: sets attributes and raises the lock version."""
        company = self.companies[company_id]
        for name, value in attributes.items():
            setattr(company.attributes, name, value)
        self._store(company, company.attributes.version + 1)

    def _store(self, company: chargeprice.CompanyResource, version: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        stored = self.companies.get(company.id)
        company.attributes.created_at = stored.attributes.created_at if stored else now_ms
        company.attributes.updated_at = now_ms
        company.attributes.version = version
        self.companies[company.id] = company
        self.history.append((company.id, version))

    async def _authenticate(self, call: Call) -> None:
        if call.headers.get("Api-Key") != self._api_key:
            raise Refused(403)

    async def _serve(self, _: Operation, request: Message, __: Call) -> Reply:
        match request:
            case chargeprice.UpsertCompanyRequest():
                return self._upsert(request)
            case chargeprice.ListCompaniesRequest():
                return self._list(request)
            case chargeprice.DeleteCompanyRequest():
                return self._delete(request)
        raise Refused(501)

    def _upsert(self, request: chargeprice.UpsertCompanyRequest) -> Reply:
        sent = chargeprice.CompanyResource()
        sent.CopyFrom(request.document.data)
        given = {field.name for field, _ in sent.attributes.ListFields()}
        if (
            sent.id != request.company_id
            or sent.type != "company"
            or not given >= {"name", "version", "is_cpo", "is_emp", "external_source_mapping"}
            or not sent.relationships.HasField("supported_emps")
        ):
            raise Refused(400)
        stored = self.companies.get(sent.id)
        if sent.attributes.version != (stored.attributes.version + 1 if stored else 1):
            raise Refused(409, "VERSION_CONFLICT")
        for group in ("cpo_group", "emp_group"):
            if stored and stored.relationships.HasField(group) and not sent.relationships.HasField(group):
                getattr(sent.relationships, group).CopyFrom(getattr(stored.relationships, group))
        self._store(sent, sent.attributes.version)
        return Reply(chargeprice.CompanyDocument(data=sent), status=200 if stored else 201)

    def _list(self, request: chargeprice.ListCompaniesRequest) -> Reply:
        tests: list[Callable[[chargeprice.CompanyResource], bool]] = []
        if request.HasField("filter_id"):
            wanted = set(request.filter_id.split(","))
            tests.append(lambda company: company.id in wanted)
        if request.HasField("filter_is_cpo"):
            tests.append(lambda company: company.attributes.is_cpo == request.filter_is_cpo)
        if request.HasField("filter_is_emp"):
            tests.append(lambda company: company.attributes.is_emp == request.filter_is_emp)
        if request.q:
            tests.append(lambda company: request.q.casefold() in company.attributes.name.casefold())
        found = [company for company in self.companies.values() if all(test(company) for test in tests)]
        size = min(request.page_size or 100, 100)
        first = size * ((request.page_number or 1) - 1)
        if size < 1 or first < 0:
            raise Refused(400)
        meta = chargeprice.ListMeta(overall_count=len(found))
        return Reply(chargeprice.CompanyListDocument(data=found[first : first + size], meta=meta))

    def _delete(self, request: chargeprice.DeleteCompanyRequest) -> Reply:
        if request.company_id not in self.companies:
            raise Refused(404)
        if request.company_id in self.with_tariffs:
            raise Refused(400)
        del self.companies[request.company_id]
        return Reply(Empty(), status=204)

    async def _observe(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self._in_flight)
        try:
            body = await request.read()
            self.requests.append(Received(request.method, request.raw_path, request.headers, body, time.monotonic()))
            fault = next((fault for fault in self.faults if fault.method in ("", request.method)), None)
            if fault is None:
                return await handler(request)
            self.faults.remove(fault)
            return await _misbehave(fault, request, handler)
        finally:
            self._in_flight -= 1


def _error_body(status: int, code: str) -> bytes:
    title = {"FORBIDDEN": "api_key missing", "VERSION_CONFLICT": "Version conflict"}.get(code, "some error")
    return json.dumps({"errors": [{"status": str(status), "code": code, "title": title}]}).encode()


async def _misbehave(fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
    match fault.kind:
        case "delay":
            await asyncio.sleep(fault.seconds)
            return await handler(request)
        case "status":
            retry_after = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            code = {429: "TOO_MANY_REQUESTS", 500: "INTERNAL_SERVER_ERROR"}.get(fault.status, "")
            body = _error_body(fault.status, code)
            return web.Response(status=fault.status, headers=retry_after, body=body, content_type="application/json")
        case "garbage":
            return web.Response(text="<html>It works!</html>", content_type="text/html")
        case "wrong_envelope":
            return web.json_response({"company": {"name": "EnBW"}})
        case "redirect":
            return web.Response(status=307, headers={"Location": fault.url})
        case "gzip_bomb":
            gzip = zlib.compressobj(wbits=31)
            bomb = b"".join(gzip.compress(bytes(1024 * 1024)) for _ in range(64)) + gzip.flush()
            return web.Response(body=bomb, headers={"Content-Encoding": "gzip"}, content_type="application/json")
        case "huge":
            return await _stream(request, bytes(64 * 1024), pause_s=0)
        case "drip":
            return await _stream(request, b" ", pause_s=0.05)
        case "lose_answer":
            await handler(request)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _stream(request: web.Request, chunk: bytes, *, pause_s: float) -> web.StreamResponse:
    """Writes until the client goes away."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    with suppress(ConnectionError):
        while True:
            await response.write(chunk)
            await asyncio.sleep(pause_s)
    return response
