"""What surrounds every handler: observe -> errors -> authenticate -> admit -> receive -> validate.

It is composed once per method: role and validation are looked up when the server is built, not per call. Handlers get
`(request, caller)`, answer with a message or its bytes, or with a stream of them, and raise only errors of
`service.errors`.

To grpc every method is one that takes a stream, because such a handler reads its messages itself. A caller without a
good key is refused by what stands in the metadata: its message is not received beyond the first window of HTTP/2, and
is neither decompressed nor parsed.
"""

import asyncio
import hashlib
import logging
import math
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import cache, partial
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

from service.domain.caller import Caller, call_deadline, end_of_work, role_name
from service.domain.sizes import GZIP, inflated, sizes
from service.domain.status import status_of
from service.domain.validation import validate
from service.errors import (
    CredentialRequired,
    DeadlineLimit,
    EvbridgeError,
    MalformedRequest,
    ReaderTooSlow,
    RequestIncomplete,
    RoleRequired,
    ServerBusy,
    ServerStopping,
)
from service.rpc.admission import Admission, Entry
from service.settings import Settings
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
_Metadata = Sequence[tuple[str, str | bytes]]
_CODE_NAMES: dict[int, str] = {value: name for name, value in codes.Code.items()}
# Shorter requests are not worth counting.
_COUNTED_BYTES = 16 << 10
# What is longer is judged, parsed and validated beside the loop.
_LONG_BYTES = 8 << 10


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


async def receive(context: Any, limit_s: float) -> bytes:
    """The message of a call that has one.

    When it has not arrived after `limit_s`, the call is aborted, and AbortError raised: to cancel what reads would
    leave the caller without an answer. Raises MalformedRequest when the caller ends the call without a message.
    """
    timer = asyncio.get_running_loop().call_later(limit_s, abort_later, context, _incomplete(limit_s))
    try:
        data = await context.read()
    finally:
        timer.cancel()
    if data is grpc.aio.EOF:
        raise MalformedRequest("the call has no message")
    return data  # type: ignore[no-any-return]


async def whole(data: bytes) -> bytes:
    """A message as it was before its caller compressed it. Raises RequestTooLarge, MalformedRequest."""
    return await asyncio.to_thread(inflated, data) if data.startswith(GZIP) else data


@cache
def _incomplete(limit_s: float) -> RequestIncomplete:
    seconds = f"{limit_s:g}"
    return RequestIncomplete(f"the message did not arrive within {seconds} s", limit_seconds=seconds)


def abort_later(context: Any, error: EvbridgeError) -> None:
    """Aborts a call whose handler is reading its message. That sees grpc's AbortError."""
    aborting = asyncio.ensure_future(abort(context, error))
    aborting.add_done_callback(lambda task: task.cancelled() or task.exception())


class Authenticator:
    """Turns `authorization: Bearer <key>` into a Caller. Answers are kept for `ttl_s`: so long a revoked key lives."""

    def __init__(self, database: Database, keyring: Keyring, ttl_s: float = 5.0, capacity: int = 10_000) -> None:
        self._database = database
        self._keyring = keyring
        self._ttl_s = ttl_s
        self._capacity = capacity
        # By SHA-256 of the header, so that memory holds no key. Only good keys are kept: bad ones cannot fill it.
        self._known: dict[bytes, tuple[float, Caller]] = {}

        self._looking: dict[bytes, asyncio.Task[Caller]] = {}
        self._strangers = 0

    async def caller(self, metadata: dict[str, str | bytes], role: int) -> Caller:
        """Raises CredentialRequired, RoleRequired when the key's role is below `role`, ServerBusy."""
        header = metadata.get("authorization", "")
        if not isinstance(header, str) or not header:
            raise CredentialRequired("send a key: authorization: Bearer <key>")
        name = hashlib.sha256(header.encode()).digest()
        known = self._known.get(name)
        caller = known[1] if known and known[0] >= time.monotonic() else await self._ask(name, header)
        if caller.role < role:
            needed, has = (role_name(number) for number in (role, caller.role))
            raise RoleRequired(f"the method needs the role {needed}", required=needed, role=has)
        return caller

    async def _ask(self, name: bytes, header: str) -> Caller:
        """Asks the database, once for all calls that come with the same header meanwhile.

        Keys that were never good share a few look-ups, so that a flood of guesses leaves the database to the others.
        """
        if (asking := self._looking.get(name)) is None:
            asking = self._looking[name] = asyncio.create_task(self._look_up(name, header))
            asking.add_done_callback(partial(self._asked, name))
        # Shielded, because the first of its callers may go away before the others.
        return await asyncio.shield(asking)

    def _asked(self, name: bytes, task: asyncio.Task[Caller]) -> None:
        del self._looking[name]
        if not task.cancelled():
            task.exception()  # known now, although all who asked may have gone away

    async def _look_up(self, name: bytes, header: str) -> Caller:
        scheme, _, key = header.partition(" ")
        if scheme.lower() != "bearer" or not looks_like_key(key):
            raise _unknown_key()
        stranger = name not in self._known
        if stranger and self._strangers >= _MAX_STRANGERS:
            raise ServerBusy("too many unknown keys are being looked up", retry_after_s=1.0)
        self._strangers += stranger
        try:
            caller = await api_key_caller(self._database, self._keyring.digests(PURPOSE, key.encode()))
        finally:
            self._strangers -= stranger
        if caller is None:
            self._known.pop(name, None)
            raise _unknown_key()
        if len(self._known) >= self._capacity:
            self._known.clear()
        self._known[name] = (time.monotonic() + self._ttl_s, caller)
        return caller


_MAX_STRANGERS = 4


def _unknown_key() -> CredentialRequired:
    return CredentialRequired("the key is unknown or revoked")


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

    def __init__(self, authenticator: Authenticator, settings: Settings) -> None:
        self._authenticator = authenticator
        self._admission = Admission(
            calls=settings.max_concurrent_rpcs,
            per_key=settings.max_concurrent_rpcs_per_key,
            # So that a connection is seldom free while a call waits.
            at_work=settings.database_pool_size + settings.database_pool_size // 2 + 1,
            burst_s=settings.burst_s,
        )
        # A watch lasts, so it has no part in what calls share. It works for a moment, and then waits.
        self._watches = Admission(
            calls=settings.max_watches,
            per_key=settings.max_watches_per_key,
            at_work=settings.database_pool_size,
            burst_s=settings.burst_s,
        )
        self._send_s = settings.send_s
        self._max_deadline_s = settings.max_deadline_s
        self._receive_s = settings.receive_s
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
        surroundings = _Surroundings.of(method, request_type)

        async def serve(_: Any, context: Any) -> Reply:
            call = self._begin(surroundings, context)
            try:
                request, caller, limited = await self._admit(call, context, surroundings, self._max_deadline_s)
                work = handler(request, caller)
                reply = await (self._within_limit(work) if limited else work)
                _set_trailers(context, caller)
            except BaseException as error:
                await self._fail(call, context, error)
            finally:
                self._leave(call)
            call.end()
            return reply

        return grpc.stream_unary_rpc_method_handler(serve, response_serializer=serialize)

    def unary_stream(self, method: MethodDescriptor, request_type: type[Message], handler: Stream) -> Any:
        """The grpc handler of a server-streaming method; the limit on a call's duration holds for each message.

        The caller has to take each in time, and its key has to be good still. Raises ValueError for a method without a
        role.
        """
        surroundings = _Surroundings.of(method, request_type)

        async def serve(_: Any, context: Any) -> AsyncIterator[Reply]:
            async with self._streaming(surroundings, context) as call:
                request, caller, limited = await self._admit(call, context, surroundings, math.inf)
                async with aclosing(handler(request, caller)) as replies:
                    while True:
                        work = anext(replies, None)
                        reply = await (self._within_limit(work) if limited else work)
                        if reply is None:
                            break
                        await self._authenticator.caller(call.metadata, surroundings.role)
                        timer = self._cut_later(call, context)
                        try:
                            yield reply
                        finally:
                            timer.cancel()
                _set_trailers(context, caller)

        return grpc.stream_stream_rpc_method_handler(serve, response_serializer=serialize)

    def stream(self, rpc: str, role: int, request_type: type[Message], behaviour: Callable[..., Any]) -> Any:
        """The grpc handler of a stream both ways: `behaviour(requests, context)`, for callers of at least `role`."""
        surroundings = _Surroundings(rpc, role, request_type, logging.DEBUG)

        async def serve(_: Any, context: Any) -> AsyncIterator[Message]:
            async with self._streaming(surroundings, context) as call:
                await self._enter(call, role)
                async for reply in behaviour(self._requests(call, context, surroundings), context):
                    yield reply

        return grpc.stream_stream_rpc_method_handler(serve, response_serializer=serialize)

    @asynccontextmanager
    async def _streaming(self, surroundings: "_Surroundings", context: Any) -> AsyncIterator["_Call"]:
        """A call that answers with a stream, from its beginning to its end, however it ends."""
        call = self._begin(surroundings, context)
        try:
            yield call
        except GeneratorExit:
            call.end("CANCELLED" if call.cut is None else _CODE_NAMES[call.cut.code], call.cut)
            raise
        except BaseException as error:
            await self._fail(call, context, error)
        else:
            call.end()
        finally:
            self._leave(call)

    async def _admit(
        self, call: "_Call", context: Any, surroundings: "_Surroundings", longest_s: float
    ) -> tuple[Any, Caller, bool]:
        """The request, its caller, and whether our own limit must be watched: a nearer deadline is enforced by grpc.

        A call ends when its caller says, after `longest_s` at the latest.
        """
        caller, entry = await self._enter(call, surroundings.role, watches=surroundings.watches)
        data = await receive(context, self._receive_s)
        if len(data) > _COUNTED_BYTES:
            entry.hold(len(data))
        await entry.work()
        end_of_work.set(entry.wait_elsewhere)
        request = await surroundings.request(data, entry)
        if surroundings.repeatable and request.request_id:
            call.fields["request_id"] = request.request_id  # not before it is one: it might be a secret
        remaining_s = context.time_remaining()
        call_deadline.set(time.monotonic() + (longest_s if remaining_s is None else min(remaining_s, longest_s)))
        limited = remaining_s is None or remaining_s > self._max_deadline_s
        return request, Caller(caller.tenant_id, caller.key_id, caller.role), limited

    async def _enter(self, call: "_Call", role: int, *, watches: bool = False) -> tuple[Caller, Entry]:
        if self._stopping:
            raise ServerStopping("the server is stopping", retry_after_s=0.5)
        if call.ambiguous:
            raise CredentialRequired("send one authorization header, not several")
        caller = await self._authenticator.caller(call.metadata, role)
        call.describe(caller)
        admission = self._watches if watches else self._admission
        entry = call.entry = admission.enter(caller.key_id)
        return caller, entry

    async def _requests(self, call: "_Call", context: Any, surroundings: "_Surroundings") -> AsyncIterator[Any]:
        while (data := await context.read()) is not grpc.aio.EOF:
            yield surroundings.parse(await whole(data))

    def _cut_later(self, call: "_Call", context: Any) -> asyncio.TimerHandle:
        """Ends a stream whose caller takes nothing: it learns why once it reads on, and what the call holds is free."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def cut() -> None:
            seconds = f"{self._send_s:g}"
            call.cut = ReaderTooSlow(f"a message was not taken within {seconds} s", limit_seconds=seconds)
            abort_later(context, call.cut)
            loop.call_soon(task.cancel)  # type: ignore[union-attr]

        return loop.call_later(self._send_s, cut)

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
        if isinstance(error, grpc.aio.AbortError):  # by `receive`
            late = _incomplete(self._receive_s)
            call.end(_CODE_NAMES[late.code], late)
            raise error
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            call.end("CANCELLED")
            raise error
        if not isinstance(error, Exception | asyncio.CancelledError):
            raise error
        failure = _known_error(error)
        call.end(_CODE_NAMES[failure.code], failure)
        await abort(context, failure)
        raise AssertionError("an aborted call goes on")

    def _begin(self, surroundings: "_Surroundings", context: Any) -> "_Call":
        self._under_way += 1
        pairs: _Metadata = context.invocation_metadata()
        metadata = dict(pairs)
        span: trace.Span = trace.INVALID_SPAN
        # Without a provider there is no span to make, but log lines still carry the caller's trace.
        if self._tracing or "traceparent" in metadata:
            span = self._tracer.start_span(
                surroundings.rpc,
                context=extract(metadata) if "traceparent" in metadata else None,
                kind=trace.SpanKind.SERVER,
                attributes={"rpc.system.name": "grpc", "rpc.method": surroundings.rpc},
            )
            otel_context.attach(trace.set_span_in_context(span))
        call = _Call(surroundings.rpc, surroundings.level, metadata, span)
        if len(pairs) != len(metadata):
            call.ambiguous = sum(name == "authorization" for name, _ in pairs) > 1
        return call

    def _leave(self, call: "_Call") -> None:
        self._under_way -= 1
        if call.entry is not None:
            call.entry.leave()


class _Surroundings:
    """What is known of a method before it is called."""

    def __init__(self, rpc: str, role: int, request_type: type[Message], level: int, patch: str = "") -> None:
        self.rpc = rpc
        self.role = role
        self.level = level
        self.parse = parser(request_type)
        self.repeatable = "request_id" in request_type.DESCRIPTOR.fields_by_name
        self.watches = rpc.startswith(_WATCHES)
        self._judge = sizes(request_type.DESCRIPTOR)  # type: ignore[arg-type]
        self._patch = patch

    @classmethod
    def of(cls, method: MethodDescriptor, request_type: type[Message]) -> "_Surroundings":
        """Raises ValueError for a method without a role."""
        rpc = f"{method.containing_service.full_name}/{method.name}"
        role = method.GetOptions().Extensions[options.role]
        if role == options.ROLE_UNSPECIFIED:
            raise ValueError(f"{rpc} names no role")
        patch = request_type.DESCRIPTOR.fields[0].name if method.name.startswith("Update") else ""
        level = logging.DEBUG if method.GetOptions().idempotency_level == _NO_SIDE_EFFECTS else logging.INFO
        return cls(rpc, role, request_type, level, patch)

    async def request(self, data: bytes, entry: Entry) -> Any:
        """The valid message of the bytes. Raises InvalidArgument, MalformedRequest, RequestTooLarge, TooManyCalls."""
        if data.startswith(GZIP):
            data = await whole(data)
            entry.hold(len(data))
        if len(data) > _LONG_BYTES:
            return await asyncio.to_thread(self._valid, data)
        return self._valid(data)

    def _valid(self, data: bytes) -> Any:
        self._judge(data)
        request = self.parse(data)
        validate(request, patch=self._patch)
        return request


@cache
def _attributes(rpc: str, code: str) -> dict[str, str]:
    return {"rpc.system.name": "grpc", "rpc.method": rpc, "rpc.response.status_code": code}


class _Call:
    """One call while it lasts: its span, its measurement and its line in the log."""

    __slots__ = (
        *("_level", "_rpc", "_span", "_started"),
        *("ambiguous", "cut", "entry", "fields", "metadata"),
    )

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
        self.ambiguous = False
        """Whether there are several credentials."""
        self.cut: EvbridgeError | None = None
        """Why we ended it while its caller did not listen."""
        self.entry: Entry | None = None
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
_WATCHES = ("evbridge.v1.WatchService/", "evbridge.v1.AuthorizationService/Serve")
_NO_SIDE_EFFECTS = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS


def _set_trailers(context: Any, caller: Caller) -> None:
    if caller.trailers:
        context.set_trailing_metadata(tuple(caller.trailers))
