"""What can go wrong with a request, on purpose: written in a few letters, done to an HTTP request."""

import asyncio
import re
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from aiohttp import web
from aiohttp.typedefs import Handler

from service.bridge.edge import Refused

FaultKind = Literal[
    "lose_answer",  # processed, then the connection is cut without an answer
    "cut",  # the connection is cut before the request is processed
    "delay",  # processed after `seconds`
    "status",  # answered with `status`, the partner's own error body and `retry_after`, not processed
    "empty",  # 200 and no body
    "garbage",  # 200 and no JSON
    "wrong_envelope",  # 200 and JSON of another shape
    "huge",  # 200 and a body that never ends
    "gzip_bomb",  # 200 and 64 MiB of zeros in 64 KiB
    "drip",  # 200 and a body of one byte every 50 ms
    "redirect",  # 307 to `url`
]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with the next `times` requests, of one HTTP method or of one rpc where they are named."""

    kind: FaultKind
    method: str = ""
    seconds: float = 0.0
    status: int = 0
    retry_after: str = ""
    url: str = ""
    operation: str = ""
    times: int = 1


def parse_fault(text: str) -> Fault:
    """Reads `[TIMES*][METHOD=|Rpc=]KIND[:ARGUMENT]`: `cut`, `delay:2.5`, `3*PUT=status:429:30`, `GetLocation=drip`.

    Raises ValueError, which says what was expected, when the text is none of these.
    """
    kinds: tuple[FaultKind, ...] = get_args(FaultKind)
    match = _FAULT.fullmatch(text)
    kind = next((kind for kind in kinds if match and match["kind"] == kind), None)
    if match is None or kind is None:
        raise ValueError(f"the fault {text!r} is not [TIMES*][METHOD=|Rpc=] and one of {', '.join(map(_form, kinds))}")
    argument = match["argument"]
    try:
        arguments = _ARGUMENTS[kind][1](argument or "") if kind in _ARGUMENTS else {}
    except ValueError:
        arguments = None
    if arguments is None or (argument and not arguments):
        raise ValueError(f"the fault {text!r} is not of the form {_form(kind)}")
    where = match["where"] or ""
    method, operation = (where, "") if where.isupper() else ("", where)
    return Fault(kind, method, operation=operation, times=int(match["times"] or 1), **arguments)


def _form(kind: str) -> str:
    return f"{kind}:{_ARGUMENTS[kind][0]}" if kind in _ARGUMENTS else kind


async def misbehave(fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers as the fault says, or not at all. Raises Refused for a `status`."""
    match fault.kind:
        case "delay":
            await asyncio.sleep(fault.seconds)
            return await handler(request)
        case "status":
            raise Refused(fault.status, headers={"Retry-After": fault.retry_after} if fault.retry_after else None)
        case "empty":
            return web.Response()
        case "garbage":
            return web.Response(text="<html>It works!</html>", content_type="text/html")
        case "wrong_envelope":
            return web.json_response({"surprise": {"name": "another API"}})
        case "redirect":
            return web.Response(status=307, headers={"Location": fault.url})
        case "gzip_bomb":
            return web.Response(body=bomb(), headers={"Content-Encoding": "gzip"}, content_type="application/json")
        case "huge":
            return await _stream(request, bytes(64 * 1024), pause_s=0)
        case "drip":
            return await _stream(request, b" ", pause_s=0.05)
        case "lose_answer":
            await handler(request)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


@cache
def bomb() -> bytes:
    """Made once: it takes a third of a second."""
    gzip = zlib.compressobj(wbits=31)
    return b"".join(gzip.compress(bytes(1024 * 1024)) for _ in range(64)) + gzip.flush()


async def _stream(request: web.Request, chunk: bytes, *, pause_s: float) -> web.StreamResponse:
    """Writes until the client goes away."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    with suppress(ConnectionError):
        while True:
            await response.write(chunk)
            await asyncio.sleep(pause_s)
    return response


def _seconds(text: str) -> dict[str, Any]:
    if not 0 <= (seconds := float(text)) <= 3600:
        raise ValueError
    return {"seconds": seconds}


def _status(text: str) -> dict[str, Any]:
    status, _, retry_after = text.partition(":")
    if not 400 <= int(status) <= 599:
        raise ValueError
    return {"status": int(status), "retry_after": retry_after}


def _url(text: str) -> dict[str, Any]:
    if not text:
        raise ValueError
    return {"url": text}


# A redirect's URL may itself hold "="; what stands before ours starts with a capital.
_FAULT = re.compile(
    r"(?:(?P<times>[1-9][0-9]{0,5})\*)?(?:(?P<where>[A-Z][A-Za-z0-9]*)=)?(?P<kind>[a-z_]+)(?::(?P<argument>.*))?"
)
_ARGUMENTS: Mapping[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "delay": ("SECONDS", _seconds),
    "status": ("400..599[:RETRY_AFTER]", _status),
    "redirect": ("URL", _url),
}
