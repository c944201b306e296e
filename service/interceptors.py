"""What surrounds every handler: observe -> guard and errors -> authenticate -> validate, composed once per method.

A method's role and its validation are looked up when the server is built, not per call. Handlers get
`(request, caller)`, answer with a message or its bytes, or with a stream of them, and raise only errors of
`service.errors`.
"""

import asyncio
import hashlib
import logging
import math
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import cache
from typing import Any, NoReturn, TypeVar

import grpc
from evbridge.options.v1 import options_pb2 as options
from evbridge.v1 import error_reason_pb2 as reasons
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2 as codes
from grpc_status import rpc_status
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.propagate import extract

from service.domain.caller import Caller, call_deadline, role_name
from service.domain.status import status_of
from service.domain.validation import validate
from service.errors import (
    CredentialRequired,
    DeadlineLimit,
    EvbridgeError,
    MalformedRequest,
    RoleRequired,
    ServerStopping,
)
from service.storage.api_key import PURPOSE, api_key_caller, looks_like_key
from service.storage.connection import describe
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.telemetry import Durations, log_fields

log = logging.getLogger(__name__)
_duration = Durations(
    "evbridge",
    "rpc.server.call.duration",
    "From the request's arrival to the answer's departure.",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

T = TypeVar("T")
Reply = Message | bytes
Unary = Callable[[Any, Caller], Awaitable[Reply]]
Stream = Callable[[Any, Caller], AsyncGenerator[Reply, None]]
_Admit = Callable[["_Call", Any, Any, float], Awaitable[tuple[Caller, bool]]]
_CODE_NAMES: dict[int, str] = {value: name for name, value in codes.Code.items()}


class Malformed:
    """What a deserializer returns for bytes that are no message: raising there would end as UNKNOWN."""


MALFORMED = Malformed()


def deserializer(message_type: type[Message]) -> Callable[[bytes], Message | Malformed]:
    parse = message_type.FromString

    def deserialize(data: bytes) -> Message | Malformed:
        try:
            return parse(data)
        except (DecodeError, ValueError, RecursionError):
            return MALFORMED

    return deserialize


def serialize(reply: Reply) -> bytes:
    """Stored bytes go out as they are."""
    return reply if isinstance(reply, bytes) else reply.SerializeToString()


class Authenticator:
    """Turns `authorization: Bearer <key>` into a Caller. Answers are kept for `ttl_s`: so long a revoked key lives."""

    def __init__(self, database: Database, keyring: Keyring, ttl_s: float = 5.0, capacity: int = 10_000) -> None:
        self._database = database
        self._keyring = keyring
        self._ttl_s = ttl_s
        self._capacity = capacity
        # By SHA-256 of the header, so that memory holds no key. Only good keys are kept: bad ones cannot fill it.
        self._known: dict[bytes, tuple[float, Caller]] = {}

    async def caller(self, metadata: dict[str, str | bytes], role: int) -> Caller:
        """Raises CredentialRequired, or RoleRequired when the key's role is below `role`."""
        header = metadata.get("authorization", "")
        if not isinstance(header, str) or not header:
            raise CredentialRequired("send a key: authorization: Bearer <key>")
        name = hashlib.sha256(header.encode()).digest()
        now = time.monotonic()
        known = self._known.get(name)
        if known is None or known[0] < now:
            known = (now + self._ttl_s, await self._look_up(header))
            if len(self._known) >= self._capacity:
                self._known.clear()
            self._known[name] = known
        caller = known[1]
        if caller.role < role:
            needed, has = (role_name(number) for number in (role, caller.role))
            raise RoleRequired(f"the method needs the role {needed}", required=needed, role=has)
        return caller

    async def _look_up(self, header: str) -> Caller:
        scheme, _, key = header.partition(" ")
        if scheme.lower() == "bearer" and looks_like_key(key):
            caller = await api_key_caller(self._database, self._keyring.digests(PURPOSE, key.encode()))
            if caller is not None:
                return caller
        raise CredentialRequired("the key is unknown or revoked")


def _known_error(error: BaseException) -> EvbridgeError:
    """Ours as it is; a cancellation from inside as SERVER_STOPPING; anything else hidden behind a reference."""
    if isinstance(error, EvbridgeError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return ServerStopping("the call was cut short inside the server", retry_after_s=0.5)
    reference = secrets.token_hex(8)
    log.error("internal fault", exc_info=error, extra={"reference": reference, "database": describe(error)})
    return EvbridgeError("internal fault; the log has the details under this reference", reference=reference)


class Interceptors:
    """Builds the surroundings of each method."""

    def __init__(self, authenticator: Authenticator, max_deadline_s: float) -> None:
        self._authenticator = authenticator
        self._max_deadline_s = max_deadline_s
        self._tracer = trace.get_tracer("evbridge")
        self._tracing = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        self._under_way = 0
        self._stopping = False

    async def drain(self, limit_s: float) -> None:
        """From now on calls are refused. Returns once those under way have ended, or after `limit_s`.

        grpc's own stop answers a call that arrives meanwhile with CANCELLED, which no client repeats, and waits for
        watchers of the health service as long as it is let.
        """
        self._stopping = True
        end = time.monotonic() + limit_s
        await asyncio.sleep(min(_LAME_DUCK_S, limit_s))
        while self._under_way and time.monotonic() < end:
            await asyncio.sleep(0.02)

    def unary(self, method: MethodDescriptor, request_type: type[Message], handler: Unary) -> Any:
        """The grpc handler of a unary method. Raises ValueError for a method without a role."""
        begin, admit = self._surroundings(method, request_type)

        async def serve(request: Any, context: Any) -> Reply:
            call = begin(context)
            self._under_way += 1
            try:
                caller, limited = await admit(call, request, context, self._max_deadline_s)
                work = handler(request, caller)
                reply = await (self._within_limit(work) if limited else work)
                _set_trailers(context, caller)
            except BaseException as error:
                await self._fail(call, context, error)
            finally:
                self._under_way -= 1
            call.end()
            return reply

        return grpc.unary_unary_rpc_method_handler(
            serve, request_deserializer=deserializer(request_type), response_serializer=serialize
        )

    def unary_stream(self, method: MethodDescriptor, request_type: type[Message], handler: Stream) -> Any:
        """The grpc handler of a server-streaming method; the limit on a call's duration holds for each message.

        Raises ValueError for a method without a role.
        """
        begin, admit = self._surroundings(method, request_type)

        async def serve(request: Any, context: Any) -> AsyncIterator[Reply]:
            call = begin(context)
            self._under_way += 1
            try:
                caller, limited = await admit(call, request, context, math.inf)
                async with aclosing(handler(request, caller)) as replies:
                    while True:
                        work = anext(replies, None)
                        reply = await (self._within_limit(work) if limited else work)
                        if reply is None:
                            break
                        yield reply
                _set_trailers(context, caller)
            except GeneratorExit:
                call.end("CANCELLED")
                raise
            except BaseException as error:
                await self._fail(call, context, error)
            else:
                call.end()
            finally:
                self._under_way -= 1

        return grpc.unary_stream_rpc_method_handler(
            serve, request_deserializer=deserializer(request_type), response_serializer=serialize
        )

    def _surroundings(
        self, method: MethodDescriptor, request_type: type[Message]
    ) -> tuple[Callable[[Any], "_Call"], _Admit]:
        """What begins a call of the method, and what admits it: authenticate, then validate.

        A call ends when its caller says, after `longest_s` at the latest. With the caller comes whether our own limit
        must be watched: a nearer deadline of theirs is enforced by grpc.
        """
        rpc = f"{method.containing_service.full_name}/{method.name}"
        role = method.GetOptions().Extensions[options.role]
        if role == options.ROLE_UNSPECIFIED:
            raise ValueError(f"{rpc} names no role")
        patch = request_type.DESCRIPTOR.fields[0].name if method.name.startswith("Update") else ""
        level = logging.DEBUG if method.GetOptions().idempotency_level == _NO_SIDE_EFFECTS else logging.INFO
        repeatable = "request_id" in request_type.DESCRIPTOR.fields_by_name

        def begin(context: Any) -> _Call:
            return self._begin(rpc, level, dict(context.invocation_metadata()))

        async def admit(call: _Call, request: Any, context: Any, longest_s: float) -> tuple[Caller, bool]:
            if self._stopping:
                raise ServerStopping("the server is stopping", retry_after_s=0.5)
            caller = await self._authenticator.caller(call.metadata, role)
            call.describe(caller)
            if request is MALFORMED:
                raise MalformedRequest(f"the bytes are not a {request_type.DESCRIPTOR.full_name}")
            validate(request, patch=patch)
            if repeatable and request.request_id:
                call.fields["request_id"] = request.request_id  # not before it is one: it might be a secret
            remaining_s = context.time_remaining()
            call_deadline.set(time.monotonic() + (longest_s if remaining_s is None else min(remaining_s, longest_s)))
            limited = remaining_s is None or remaining_s > self._max_deadline_s
            return Caller(caller.tenant_id, caller.key_id, caller.role), limited

        return begin, admit

    def stream(
        self,
        rpc: str,
        role: int,
        request_type: type[Message],
        behaviour: Callable[..., Any],
    ) -> Any:
        """The grpc handler of a stream both ways: `behaviour(requests, context)`, for callers of at least `role`."""

        async def serve(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Message]:
            call = self._begin(rpc, logging.DEBUG, dict(context.invocation_metadata()))
            try:
                call.describe(await self._authenticator.caller(call.metadata, role))
                async for reply in behaviour(_well_formed(requests, request_type), context):
                    yield reply
            except GeneratorExit:
                call.end()
                raise
            except BaseException as error:
                await self._fail(call, context, error)
            else:
                call.end()

        return grpc.stream_stream_rpc_method_handler(
            serve, request_deserializer=deserializer(request_type), response_serializer=serialize
        )

    async def _within_limit(self, work: Awaitable[T]) -> T:
        """For callers that set no deadline, or one too far. Raises DeadlineLimit."""
        limit = asyncio.timeout(self._max_deadline_s)
        try:
            async with limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
            seconds = f"{self._max_deadline_s:g}"
            raise DeadlineLimit(f"the call took longer than {seconds} s", limit_seconds=seconds) from None

    async def _fail(self, call: "_Call", context: Any, error: BaseException) -> NoReturn:
        """Ends a call with an error. A cancellation by the client or the stopping server goes on as it came."""
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            call.end("CANCELLED")
            raise error
        if not isinstance(error, Exception | asyncio.CancelledError):
            raise error
        failure = _known_error(error)
        call.end(_CODE_NAMES[failure.code], failure)
        await context.abort_with_status(rpc_status.to_status(status_of(failure)))
        raise AssertionError("an aborted call goes on")

    def _begin(self, rpc: str, level: int, metadata: dict[str, str | bytes]) -> "_Call":
        span: trace.Span = trace.INVALID_SPAN
        # Without a provider there is no span to make, but log lines still carry the caller's trace.
        if self._tracing or "traceparent" in metadata:
            span = self._tracer.start_span(
                rpc,
                context=extract(metadata) if "traceparent" in metadata else None,
                kind=trace.SpanKind.SERVER,
                attributes={"rpc.system.name": "grpc", "rpc.method": rpc},
            )
            otel_context.attach(trace.set_span_in_context(span))
        return _Call(rpc, level, metadata, span)


@cache
def _attributes(rpc: str, code: str) -> dict[str, str]:
    return {"rpc.system.name": "grpc", "rpc.method": rpc, "rpc.response.status_code": code}


class _Call:
    """One call while it lasts: its span, its measurement and its line in the log."""

    __slots__ = ("_level", "_rpc", "_span", "_started", "fields", "metadata")

    def __init__(
        self,
        rpc: str,
        level: int,
        metadata: dict[str, str | bytes],
        span: trace.Span,
    ) -> None:
        self._started = time.perf_counter()
        self._rpc = rpc
        self._level = level
        self._span = span
        self.metadata = metadata
        # The call has a task, and so a context, of its own: nothing to reset.
        self.fields = {"rpc": rpc}
        log_fields.set(self.fields)

    def describe(self, caller: Caller) -> None:
        self.fields["tenant"], self.fields["key"] = caller.tenant_id, caller.key_id
        if name := self.metadata.get("x-request-id"):
            self.fields["request_id"] = str(name)[:100]

    def end(self, code: str = "OK", error: EvbridgeError | None = None) -> None:
        elapsed_s = time.perf_counter() - self._started
        attributes = _attributes(self._rpc, code)
        if error is not None:
            attributes = {**attributes, "error.type": reasons.ErrorReason.Name(error.reason)}
        _duration.record(elapsed_s, attributes)
        if self._span.is_recording():
            self._span.set_attributes(attributes)
            if error is not None and error.code in _SERVER_FAULTS:
                self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()
        level = self._level if error is None else logging.INFO
        if log.isEnabledFor(level):
            outcome = {"code": code, "duration_ms": round(elapsed_s * 1000, 3)}
            log.log(level, "rpc", extra=outcome if error is None else {**outcome, "reason": attributes["error.type"]})


# The codes that the semantic conventions count as errors of the server.
_SERVER_FAULTS = {codes.UNKNOWN, codes.DEADLINE_EXCEEDED, codes.UNIMPLEMENTED, codes.INTERNAL, codes.UNAVAILABLE}
# How long calls are refused at the least before the port closes: balancers ask for our health every second or so.
_LAME_DUCK_S = 0.3
_NO_SIDE_EFFECTS = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS


def _set_trailers(context: Any, caller: Caller) -> None:
    if caller.trailers:
        context.set_trailing_metadata(tuple(caller.trailers))


async def _well_formed(requests: AsyncIterator[Any], request_type: type[Message]) -> AsyncIterator[Any]:
    async for request in requests:
        if request is MALFORMED:
            raise MalformedRequest(f"the bytes are not a {request_type.DESCRIPTOR.full_name}")
        yield request
