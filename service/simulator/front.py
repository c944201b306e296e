"""What every simulated partner has: an address, the requests that came in, and faults that it makes on demand."""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from service.bridge.edge import Edge, Refused, read
from service.simulator.faults import Fault, misbehave, parse_fault

MAX_REQUESTS: Final = 2000
MAX_REMEMBERED_BODY: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came in. `path` is raw and holds the query; `time` is a monotonic clock's."""

    method: str
    path: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes
    time: float


class Front(ABC):
    """`faults` are what goes wrong next; `requests` are the last ones that came in, with the first 64 KiB of each body;
    `in_flight` counts those that are open, `max_in_flight` the most there ever were; `start` sets `url`.

    `path` is what stands behind the URL in the address of an integration.
    """

    path: ClassVar[str] = ""
    _edge: Edge

    def __init__(self, name: str, rpcs: Iterable[str]) -> None:
        self.faults: deque[Fault] = deque()
        self.requests: list[Received] = []
        self.in_flight = self.max_in_flight = 0
        self.url = ""
        self._name = name
        self._rpcs = frozenset(rpcs)
        # aiohttp marks a middleware with an attribute, which a method cannot have.
        self.middleware = web.middleware(partial(self._observe))

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listens; returns the base URL. Raises OSError when the port is taken."""
        self.url = f"http://{host}:{await self._edge.start(host, port)}"
        return self.url

    async def stop(self) -> None:
        await self._edge.stop()

    def inject(self, text: str) -> None:
        """Adds a fault. Raises ValueError for one nobody knows, or of an rpc the partner does not have."""
        fault = parse_fault(text)
        if fault.operation and fault.operation not in self._rpcs:
            raise ValueError(f"{self._name} has no rpc {fault.operation}, which the fault {text!r} names")
        self.faults.append(fault)

    @abstractmethod
    def rpc(self, method: str, path: str) -> str:
        """The name of the rpc that sends such a request, or nothing."""

    def error_headers(self, status: int) -> Mapping[str, str]:
        return {}

    async def _observe(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            body = (await read(request))[:MAX_REMEMBERED_BODY]
            self.requests.append(Received(request.method, request.raw_path, request.headers, body, time.monotonic()))
            del self.requests[:-MAX_REQUESTS]
            fault = self._fault(request)
            return await (misbehave(fault, request, handler) if fault else handler(request))
        except Refused as refused:
            refused.headers |= self.error_headers(refused.status)
            raise
        finally:
            self.in_flight -= 1

    def _fault(self, request: web.Request) -> Fault | None:
        """Takes the first fault that is meant for the request."""
        rpc = self.rpc(request.method, request.raw_path.partition("?")[0])
        for position, fault in enumerate(self.faults):
            if fault.method in ("", request.method) and fault.operation in ("", rpc):
                if fault.times > 1:
                    self.faults[position] = replace(fault, times=fault.times - 1)
                else:
                    del self.faults[position]
                return fault
        return None
