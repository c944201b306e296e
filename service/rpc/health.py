"""grpc.health.v1, which is open to everybody, and so has budgets of its own: what it takes, no call with a key misses.

A check always has its answer. Those whose message does not come make room for others.
"""

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2

from service.errors import EvbridgeError, MalformedRequest, ServerBusy
from service.rpc.receiving import Receiver, abort, abort_later, serialize, whole

NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
MAX_WATCHES = 256
MAX_READING = 256
_MAX_BYTES = 1024  # of a service's name


class Health:
    """The state of each service, for `Check` and `Watch`."""

    def __init__(self, receive_s: float) -> None:
        self._servicer = health.aio.HealthServicer()
        self._receiver = Receiver(receive_s)
        self._reading: dict[Any, None] = {}
        """Calls whose message has not come, the oldest first."""
        self._watches = 0

    def handlers(self) -> dict[str, Any]:
        return {
            "Check": grpc.stream_unary_rpc_method_handler(self._check, response_serializer=serialize),
            "Watch": grpc.stream_stream_rpc_method_handler(self._watch, response_serializer=serialize),
        }

    async def set(self, service: str, serving: bool) -> None:
        answer = health_pb2.HealthCheckResponse
        await self._servicer.set(service, answer.SERVING if serving else answer.NOT_SERVING)

    async def stop(self) -> None:
        """Every service is NOT_SERVING from now on."""
        await self._servicer.enter_graceful_shutdown()

    async def _check(self, _: Any, context: Any) -> Any:
        return await self._servicer.Check(await self._request(context), context)

    async def _watch(self, _: Any, context: Any) -> None:
        request = await self._request(context)
        if self._watches >= MAX_WATCHES:
            await abort(context, ServerBusy(f"{MAX_WATCHES} callers watch the health already", retry_after_s=10.0))
        self._watches += 1
        try:
            await self._servicer.Watch(request, context)
        finally:
            self._watches -= 1

    async def _request(self, context: Any) -> Any:
        try:
            self._make_room()
            self._reading[context] = None
            try:
                data = await self._receiver.message(context)
            finally:
                self._reading.pop(context, None)
            if len(data) <= _MAX_BYTES:
                data = await whole(data)
            if len(data) > _MAX_BYTES:
                raise MalformedRequest(f"the request is longer than {_MAX_BYTES} bytes")
            try:
                return health_pb2.HealthCheckRequest.FromString(data)
            except DecodeError:
                raise MalformedRequest("the bytes are not a grpc.health.v1.HealthCheckRequest") from None
        except EvbridgeError as error:
            return await abort(context, error)

    def _make_room(self) -> None:
        """Gives up the call that has been without its message for longest. An honest one's comes with its headers."""
        if len(self._reading) >= MAX_READING:
            slowest = next(iter(self._reading))
            del self._reading[slowest]
            abort_later(slowest, ServerBusy("too many health checks are without their message", retry_after_s=1.0))
