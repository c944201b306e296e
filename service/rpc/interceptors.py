"""What surrounds every handler: observe -> errors -> authenticate -> admit -> receive -> validate.

It is composed once per method: role and validation are looked up when the server is built, not per call. Handlers get
`(request, caller)`, answer with a message or its bytes, or with a stream of them, and raise only errors of
`service.errors`.

To grpc every method is one that takes a stream, because such a handler reads its messages itself. A caller without a
good key is refused by what stands in the metadata: its message is not received beyond the first window of HTTP/2, and
is neither decompressed nor parsed.
"""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import code_pb2 as codes
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.propagate import extract

from service.domain.caller import Caller, call_deadline, end_of_work
from service.domain.sizes import GZIP, sizes
from service.domain.validation import validate
from service.errors import (
    CredentialRequired,
    DeadlineLimit,
    EvbridgeError,
    ReaderTooSlow,
    ServerStopping,
)
from service.identity.access import Access, Rates, check_integrations
from service.identity.authentication import Authenticator
from service.rpc.admission import Admission, Entry
from service.rpc.call import Call
from service.rpc.receiving import Receiver, Reply, abort, abort_later, parser, serialize, whole
from service.settings import Settings
from service.storage.connection import describe

log = logging.getLogger(__name__)
T = TypeVar("T")
Unary = Callable[[Any, Caller], Awaitable[Reply]]
Stream = Callable[[Any, Caller], AsyncGenerator[Reply, None]]
_Metadata = Sequence[tuple[str, str | bytes]]
_CODE_NAMES: dict[int, str] = {value: name for name, value in codes.Code.items()}
# Shorter requests are not worth counting.
_COUNTED_BYTES = 16 << 10
# What is longer is judged, parsed and validated beside the loop.
_LONG_BYTES = 8 << 10


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
        self._rates = Rates(settings.calls_per_minute)
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
        self._lame_duck_s = settings.lame_duck_s
        self._max_deadline_s = settings.max_deadline_s
        self._receiver = Receiver(settings.receive_s)
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
        await asyncio.sleep(min(self._lame_duck_s, limit_s))
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
                        surroundings.access.check(await self._authenticator.caller(call.metadata))
                        timer = self._cut_later(call, context)
                        try:
                            yield reply
                        finally:
                            timer.cancel()
                _set_trailers(context, caller)

        return grpc.stream_stream_rpc_method_handler(serve, response_serializer=serialize)

    def stream(self, rpc: str, access: Access, request_type: type[Message], behaviour: Callable[..., Any]) -> Any:
        """The grpc handler of a stream both ways: `behaviour(requests, context)`."""
        surroundings = _Surroundings(rpc, access, request_type, logging.DEBUG)

        async def serve(_: Any, context: Any) -> AsyncIterator[Message]:
            async with self._streaming(surroundings, context) as call:
                await self._enter(call, access)
                async for reply in behaviour(self._requests(call, context, surroundings), context):
                    yield reply

        return grpc.stream_stream_rpc_method_handler(serve, response_serializer=serialize)

    @asynccontextmanager
    async def _streaming(self, surroundings: "_Surroundings", context: Any) -> AsyncIterator[Call]:
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
        self, call: Call, context: Any, surroundings: "_Surroundings", longest_s: float
    ) -> tuple[Any, Caller, bool]:
        """The request, its caller, and whether our own limit must be watched: a nearer deadline is enforced by grpc.

        A call ends when its caller says, after `longest_s` at the latest.
        """
        caller, entry = await self._enter(call, surroundings.access, watches=surroundings.watches)
        data = await self._receiver.message(context)
        if len(data) > _COUNTED_BYTES:
            entry.hold(len(data))
        await entry.work()
        end_of_work.set(entry.wait_elsewhere)
        request = await surroundings.request(data, entry, caller)
        if surroundings.repeatable and request.request_id:
            call.fields["request_id"] = request.request_id  # not before it is one: it might be a secret
        remaining_s = context.time_remaining()
        call_deadline.set(time.monotonic() + (longest_s if remaining_s is None else min(remaining_s, longest_s)))
        limited = remaining_s is None or remaining_s > self._max_deadline_s
        return request, caller.of_call(context.peer()), limited

    async def _enter(self, call: Call, access: Access, *, watches: bool = False) -> tuple[Caller, Entry]:
        if self._stopping:
            raise ServerStopping("the server is stopping", retry_after_s=0.5)
        if call.ambiguous:
            raise CredentialRequired("send one authorization header, not several")
        caller = await self._authenticator.caller(call.metadata)
        call.describe(caller)
        access.check(caller)
        self._rates.take(caller)
        admission = self._watches if watches else self._admission
        entry = call.entry = admission.enter(caller.actor)
        return caller, entry

    async def _requests(self, call: Call, context: Any, surroundings: "_Surroundings") -> AsyncIterator[Any]:
        while (data := await context.read()) is not grpc.aio.EOF:
            yield surroundings.parse(await whole(data))

    def _cut_later(self, call: Call, context: Any) -> asyncio.TimerHandle:
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

    async def _fail(self, call: Call, context: Any, error: BaseException) -> NoReturn:
        """Ends a call with an error. A cancellation by the client or the stopping server goes on as it came."""
        if isinstance(error, grpc.aio.AbortError):  # by `receive`
            late = self._receiver.late
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

    def _begin(self, surroundings: "_Surroundings", context: Any) -> Call:
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
        call = Call(surroundings.rpc, surroundings.level, metadata, span)
        if len(pairs) != len(metadata):
            call.ambiguous = sum(name == "authorization" for name, _ in pairs) > 1
        return call

    def _leave(self, call: Call) -> None:
        self._under_way -= 1
        if call.entry is not None:
            call.entry.leave()


class _Surroundings:
    """What is known of a method before it is called."""

    def __init__(self, rpc: str, access: Access, request_type: type[Message], level: int, patch: str = "") -> None:
        self.rpc = rpc
        self.access = access
        self.level = level
        self.parse = parser(request_type)
        self.repeatable = "request_id" in request_type.DESCRIPTOR.fields_by_name
        service, _, method = rpc.rpartition("/")
        self.watches = service == _WATCH_SERVICE or method.startswith("Serve")
        self._judge = sizes(request_type.DESCRIPTOR)
        self._patch = patch

    @classmethod
    def of(cls, method: MethodDescriptor, request_type: type[Message]) -> "_Surroundings":
        """Raises ValueError for a method without a role."""
        rpc = f"{method.containing_service.full_name}/{method.name}"
        patch = request_type.DESCRIPTOR.fields[0].name if method.name.startswith("Update") else ""
        level = logging.DEBUG if method.GetOptions().idempotency_level == _NO_SIDE_EFFECTS else logging.INFO
        return cls(rpc, Access.to(method), request_type, level, patch)

    async def request(self, data: bytes, entry: Entry, caller: Caller) -> Any:
        """The valid message of the bytes, which is about nothing that is closed to the caller.

        Raises InvalidArgument, MalformedRequest, KeyLimited, RequestTooLarge, TooManyCalls.
        """
        if data.startswith(GZIP):
            data = await whole(data)
            entry.hold(len(data))
        if len(data) > _LONG_BYTES:
            return await asyncio.to_thread(self._valid, data, caller)
        return self._valid(data, caller)

    def _valid(self, data: bytes, caller: Caller) -> Any:
        self._judge(data)
        request = self.parse(data)
        check_integrations(caller, request)
        validate(request, patch=self._patch)
        return request


_WATCH_SERVICE = "evbridge.v1.WatchService"
_NO_SIDE_EFFECTS = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS


def _set_trailers(context: Any, caller: Caller) -> None:
    if caller.trailers:
        context.set_trailing_metadata(tuple(caller.trailers))
