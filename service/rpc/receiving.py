"""The message of a call: how it arrives, in time and whole, and what ends the call when it does not."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_status import rpc_status

from service.domain.sizes import GZIP, inflated
from service.domain.status import status_of
from service.errors import EvbridgeError, MalformedRequest, RequestIncomplete

Reply = Message | bytes


def parser(message_type: type[Message]) -> Callable[[bytes], Message]:
    """Raises MalformedRequest for bytes that are no such message."""
    parse = message_type.FromString

    def parsed(data: bytes) -> Message:
        try:
            return parse(data)
        except (DecodeError, ValueError, RecursionError):
            raise MalformedRequest(f"the bytes are not a {message_type.DESCRIPTOR.full_name}") from None

    return parsed


def serialize(reply: Reply) -> bytes:
    """Stored bytes go out as they are."""
    return reply if isinstance(reply, bytes) else reply.SerializeToString()


async def abort(context: Any, error: EvbridgeError) -> None:
    """Ends a call; raises grpc's AbortError, as a handler has to."""
    await context.abort_with_status(rpc_status.to_status(status_of(error)))


class Receiver:
    """Reads the messages of calls, each within `limit_s`.

    A timer for each call would take a tenth of the time of a read. One is enough: whoever is late first began first.
    """

    def __init__(self, limit_s: float) -> None:
        seconds = f"{limit_s:g}"
        self.late = RequestIncomplete(f"the message did not arrive within {seconds} s", limit_seconds=seconds)
        """What a call is aborted with whose message does not arrive in time."""
        self._limit_s = limit_s
        self._due: dict[Any, float] = {}
        """When the message of each call must have arrived, the oldest call first."""
        self._timer: asyncio.TimerHandle | None = None

    async def message(self, context: Any) -> bytes:
        """The message of a call that has one.

        When it is late, the call is aborted, and AbortError raised: to cancel what reads would leave the caller without
        an answer. Raises MalformedRequest when the caller ends the call without a message.
        """
        loop = asyncio.get_running_loop()
        self._due[context] = due = loop.time() + self._limit_s
        if self._timer is None:
            self._timer = loop.call_at(due, self._abort_late, loop)
        try:
            data = await context.read()
        finally:
            self._due.pop(context, None)
        if data is grpc.aio.EOF:
            raise MalformedRequest("the call has no message")
        return data  # type: ignore[no-any-return]

    def _abort_late(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        while self._due:
            context, due = next(iter(self._due.items()))
            if due > loop.time():
                self._timer = loop.call_at(due, self._abort_late, loop)
                return
            del self._due[context]
            abort_later(context, self.late)


async def whole(data: bytes) -> bytes:
    """A message as it was before its caller compressed it. Raises RequestTooLarge, MalformedRequest."""
    return await asyncio.to_thread(inflated, data) if data.startswith(GZIP) else data


def abort_later(context: Any, error: EvbridgeError) -> None:
    """Aborts a call whose handler is reading its message. That sees grpc's AbortError."""
    aborting = asyncio.ensure_future(abort(context, error))
    aborting.add_done_callback(lambda task: task.cancelled() or task.exception())
