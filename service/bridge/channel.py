"""A channel that speaks HTTP: what is called on it as gRPC goes to the partner as the contract says.

Generated stubs of the partner contracts work on it unchanged: `CompanyServiceStub(channel)`. The tenant travels in the
call's metadata, the integration in the request. Here, and only here, a partner's HTTP status becomes one of our errors.
"""

import asyncio
import logging
import random
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from importlib.metadata import version
from typing import Final
from urllib.parse import parse_qsl, quote, urljoin, urlsplit
from uuid import uuid4
from weakref import WeakValueDictionary

from evbridge.v1.partner_pb2 import RepairedAnswers
from google.protobuf.message import Message
from opentelemetry import metrics, trace

from service import errors
from service.bridge.addresses import check_given
from service.bridge.codec import CodecError, Decoded
from service.bridge.egress import (
    CONNECT_TIMEOUT_S,
    AddressDenied,
    Answer,
    AnswerTimeout,
    ConnectFailed,
    ConnectTimeout,
    Egress,
    EgressError,
)
from service.bridge.json_text import takes_long
from service.bridge.ports import (
    Authorise,
    Behaviour,
    Enveloped,
    Exchange,
    Gate,
    Recorder,
    Refusal,
    Target,
    Targets,
)
from service.bridge.redaction import redacted_body, redacted_reply, redacted_text
from service.bridge.registry import Operation, Pages, Registry, at_path
from service.bridge.transcode import HttpRequest, reply_from_http, to_http
from service.domain.caller import waits_elsewhere
from service.domain.fields import take_secrets
from service.telemetry import TO_PARTNERS

TENANT_METADATA: Final = "evbridge-tenant"
"""The key of the call metadata that holds the tenant."""

_USER_AGENT = f"evbridge/{version('evbridge')}"
_NOT_IN_A_CODE = re.compile(r"[^A-Za-z0-9_.-]")
_NOT_IN_A_HOST = re.compile(r"[^A-Za-z0-9:.-]")
_MAX_TEXT = 200
_MAX_READ = 8192  # of which that is shown
_MAX_EXPLAINED = 1 << 18
_MAX_VIOLATIONS = 50
_MAX_PAGES = 1000
_DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_RATE_LIMIT_PAUSE_S = 10.0
"""What a 429 that does not say when to try again asks for."""

_Attributes = dict[str, str | int]
_log = logging.getLogger(__name__)

# 503 and 429 are said at the door: the request was not carried out.
_BY_STATUS: Mapping[int, type[errors.PartnerError]] = {
    401: errors.PartnerCredentialRefused,
    403: errors.PartnerCredentialRefused,
    404: errors.PartnerNotFound,
    408: errors.PartnerUnavailable,
    409: errors.PartnerVersionConflict,
    410: errors.PartnerNotFound,
    412: errors.PartnerVersionConflict,
    429: errors.PartnerRateLimited,
    502: errors.PartnerUnavailable,
    503: errors.PartnerUnavailable,
    504: errors.PartnerUnavailable,
}
# Behind these a request that changes something may still have been, or be, carried out.
_PERHAPS_CARRIED_OUT = frozenset({408, 502, 504})


class PartnerChannel:
    """Calls partners. One per process; made inside a running event loop, since its Egress is."""

    def __init__(
        self,
        registry: Registry,
        targets: Targets,
        gate: Gate,
        egress: Egress,
        behaviours: Mapping[str, Behaviour],
        record: Recorder | None = None,
        listen: Recorder | None = None,
        *,
        authorise: Authorise | None = None,
    ) -> None:
        """`authorise` may be None when no target has a grant."""
        self._registry = registry
        self._targets = targets
        self._gate = gate
        self._egress = egress
        self._behaviours = behaviours
        self._enveloped = {name: each for name, each in behaviours.items() if isinstance(each, Enveloped)}
        self._record = record
        self._listen = listen
        self._authorise = authorise
        # One thread: several would only take the interpreter from each other, and from the event loop.
        self._reader = ThreadPoolExecutor(1, "answers")
        self._read_of: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._tracer = trace.get_tracer("evbridge.bridge")
        self._duration = metrics.get_meter("evbridge.bridge").create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS_S,
        )

    def unary_unary(self, method: str, *_: object, **__: object) -> Callable[..., Awaitable[Message]]:
        """What a generated stub asks a channel for. Raises KeyError for a method that is in no partner contract."""
        operation = self._registry.operations[method]

        async def call(
            request: Message, *, timeout: float | None = None, metadata: Sequence[tuple[str, str]] = (), **_: object
        ) -> Message:
            tenant_id = dict(metadata)[TENANT_METADATA]
            message: Message = (await self.call(operation, request, tenant_id=tenant_id, timeout_s=timeout)).message
            return message

        return call

    def unary_stream(self, method: str, *_: object, **__: object) -> Callable[..., AsyncIterator[Message]]:
        """As unary_unary, for an rpc that streams the pages of a list."""
        pages = self._registry.pages[method]

        async def call(
            request: Message, *, timeout: float | None = None, metadata: Sequence[tuple[str, str]] = (), **_: object
        ) -> AsyncIterator[Message]:
            tenant_id = dict(metadata)[TENANT_METADATA]
            async for page in self.pages(pages, request, tenant_id=tenant_id, timeout_s=timeout):
                yield page.message

        return call

    def stream(self, method: str, request: Message, *, tenant_id: str) -> AsyncGenerator[Decoded, None]:
        """As unary_stream, with what could not be read of each page."""
        return self.pages(self._registry.pages[method], request, tenant_id=tenant_id)

    async def call(
        self, operation: Operation, request: Message, *, tenant_id: str, timeout_s: float | None = None
    ) -> Decoded:
        """Sends `request` through the integration it names and returns the partner's answer, without its secrets.

        A request that only reads, or that is idempotent, is tried a second time when the partner could not serve it or
        its answer was lost; any other is sent at most once.

        Raises a PartnerError for everything the partner can cause, EgressDenied when its address is not one we call,
        InvalidArgument when the request cannot be written, and what Targets and Gate raise.
        """
        target, operation = await through(self._targets, operation, request, tenant_id)
        return await self._send(operation, target, to_http(operation, request), timeout_s)

    async def pages(
        self, pages: Pages, request: Message, *, tenant_id: str, timeout_s: float | None = None
    ) -> AsyncGenerator[Decoded, None]:
        """The pages of a list, 1,000 at most. Raises what `call` raises, and EgressDenied for a page elsewhere.

        Of the next page's URL only the query is taken, and only when it leads to the partner's own origin.
        """
        clock = asyncio.get_running_loop().time
        deadline = None if timeout_s is None else clock() + timeout_s
        http_request: HttpRequest | None = None
        for _ in range(_MAX_PAGES):
            target, operation = await through(self._targets, pages.page, request, tenant_id)
            http_request = http_request or to_http(operation, request)
            left_s = None if deadline is None else deadline - clock()
            page = await self._send(operation, target, http_request, left_s)
            yield page
            link = page.message
            for name in pages.next_link:
                link = getattr(link, name)
            if not link:
                return
            http_request = replace(http_request, query=_query_of(link, operation, target, http_request))
        raise errors.PartnerFault(f"the list has more than {_MAX_PAGES} pages", partner=operation.partner.name)

    async def _send(
        self, operation: Operation, target: Target, request: HttpRequest, timeout_s: float | None
    ) -> Decoded:
        allowed_s = target.timeout_s if timeout_s is None else min(timeout_s, target.timeout_s)
        clock = asyncio.get_running_loop().time
        deadline = clock() + allowed_s
        try:
            decoded = await self._attempt(operation, target, request, deadline)
        except (errors.PartnerUnavailable, errors.PartnerOutcomeUnknown) as error:
            pause_s = random.uniform(0.05, 0.25)
            if not operation.idempotent or error.retry_after_s is not None or clock() + pause_s >= deadline:
                raise
            await asyncio.sleep(pause_s)
            decoded = await self._attempt(operation, target, request, deadline)
        if decoded.rejects:
            _log.warning("%s: %d objects were unreadable", operation.name, len(decoded.rejects))
        return decoded

    async def _attempt(self, operation: Operation, target: Target, request: HttpRequest, deadline: float) -> Decoded:
        clock = asyncio.get_running_loop().time
        waits_elsewhere()
        # At most half of the time goes into waiting, so that what is sent has time to be answered.
        wait_s = (deadline - clock()) / 2
        async with self._gate.permit(target, safe=operation.safe, timeout_s=wait_s) as permit:
            # A 401 had no effect, and a token may end before its time: a second one is tried, and at most half of the
            # time goes into asking for it.
            for refused in (False, True):
                if target.grant and self._authorise:
                    target = await self._authorise(target, refused=refused, timeout_s=(deadline - clock()) / 2)
                timeout_s = deadline - clock()
                try:
                    answer = await self._exchange(operation, target, request, timeout_s, permit.recorded)
                except EgressError as error:
                    permit.caller_was_short = _caller_was_short(error, target, timeout_s)
                    raise _unanswered(operation, target, error) from None
                if target.grant is None or answer.status != 401:
                    break
            permit.limit_reached_s = _limit_reached_s(answer, datetime.now(UTC))
            decoded = await self._judged(operation, target, answer)
            if decoded.repair:
                permit.repaired = RepairedAnswers(
                    operation=operation.name.removeprefix("/"),
                    value_count=decoded.repairs,
                    path=decoded.repair.pointer,
                    description=decoded.repair.problem,
                )
            return decoded

    async def _judged(self, operation: Operation, target: Target, answer: Answer) -> Decoded:
        if not 200 <= answer.status < 300:
            raise self._refused(operation, target, answer)
        if answer.status == HTTPStatus.NO_CONTENT:
            return Decoded(operation.response_type(), ())
        try:
            if answer.body is None:
                raise CodecError("", "is too large, or is compressed in a way that was not asked for")
            decoded = await self._decoded(operation, target, answer.body)
            if enveloped := self._enveloped.get(target.partner):
                enveloped.check(decoded.message)
            return decoded
        except CodecError as error:
            problem = str(error)
        _log.warning("%s: the answer is unreadable: %s", operation.name, problem)
        raise (errors.PartnerFault if operation.safe else errors.PartnerOutcomeUnknown)(
            f"the answer of {target.partner} breaks its contract: {problem}",
            partner=target.partner,
            http_status=answer.status,
        )

    async def _decoded(self, operation: Operation, target: Target, body: bytes) -> Decoded:
        """Reads what takes long beside the event loop, one answer of an integration at a time. Raises CodecError."""
        if not takes_long(body):
            return _read(operation, target, body)
        key = (target.tenant_id, target.integration_id)
        async with self._read_of.setdefault(key, asyncio.Lock()):
            return await asyncio.get_running_loop().run_in_executor(self._reader, _read, operation, target, body)

    async def _exchange(
        self, operation: Operation, target: Target, request: HttpRequest, timeout_s: float, recorded: bool
    ) -> Answer:
        """One HTTP request and its answer, traced, measured and recorded. Raises EgressError."""
        partner, (host, port) = operation.partner, _server(target)
        credential_query = _credential_query(operation, target)
        template = "".join(f"/{part}" if isinstance(part, str) else f"/{{{part.name}}}" for part in operation.path)
        headers = _headers(request) | {name: str(uuid4()) for name in partner.unique_id_headers}
        attributes: _Attributes = {"http.request.method": request.method, "server.address": host, "server.port": port}
        answer, outcome, started = None, "", time.perf_counter()
        with self._tracer.start_as_current_span(
            f"{request.method} {template}",
            kind=trace.SpanKind.CLIENT,
            attributes={
                **attributes,
                "url.full": shown_url(target, request, with_values=False),
                "url.template": template,
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            TO_PARTNERS.inject(headers)
            try:
                answer = await self._egress.request(
                    target,
                    request,
                    headers=headers,
                    credential_header=partner.credential_header,
                    credential_prefix=partner.credential_prefix,
                    credential_query=credential_query,
                    timeout_s=timeout_s,
                )
                attributes["http.response.status_code"] = answer.status
                outcome = str(answer.status) if answer.status >= 400 else ""
                return answer
            except BaseException as error:
                outcome = type(error).__name__
                raise
            finally:
                duration_s = time.perf_counter() - started
                if outcome:
                    attributes["error.type"] = outcome
                    span.set_status(trace.StatusCode.ERROR)
                span.set_attributes(attributes)
                self._duration.record(duration_s, attributes)
                if hearers := [hear for hear in (self._listen, self._record if recorded else None) if hear]:
                    exchange = Exchange(
                        tenant_id=target.tenant_id,
                        integration_id=target.integration_id,
                        operation=operation.name,
                        method=request.method,
                        url=redacted_text(shown_url(target, request), target),
                        request_headers={**shown_headers(operation, target, request), **headers},
                        request_body=request.body or b"",
                        status=answer.status if answer else 0,
                        response_headers={
                            name: redacted_text(value, target)
                            for name, value in (answer.headers if answer else {}).items()
                        },
                        response_body=redacted_body((answer.body if answer else None) or b"", target),
                        duration_s=duration_s,
                    )
                    for hear in hearers:
                        hear(exchange)

    def _refused(self, operation: Operation, target: Target, answer: Answer) -> errors.PartnerError:
        behaviour = self._behaviours.get(target.partner)
        body = answer.body or b""
        refusal = behaviour.explain(answer.status, body) if behaviour and len(body) <= _MAX_EXPLAINED else Refusal()
        fallback = errors.PartnerRejected if 400 <= answer.status < 500 else errors.PartnerFault
        error_class = _BY_STATUS.get(answer.status, fallback)
        if answer.status in _PERHAPS_CARRIED_OUT and not operation.safe:
            error_class = errors.PartnerOutcomeUnknown
        now = datetime.now(UTC)
        return error_class(
            f"{target.partner} answered with HTTP status {answer.status}",
            partner=target.partner,
            http_status=answer.status,
            partner_code=_NOT_IN_A_CODE.sub("", redacted_text(refusal.code[:_MAX_READ], target))[:100],
            partner_message=_text(refusal.message, target),
            violations=tuple(
                errors.FieldViolation(
                    _text(_field_path(each.path, operation) or each.path, target), _text(each.description, target)
                )
                for each in refusal.violations[:_MAX_VIOLATIONS]
            ),
            retry_after_s=_limit_reached_s(answer, now) or _retry_after_s(answer.headers.get("Retry-After", ""), now),
        )


async def through(targets: Targets, operation: Operation, request: Message, tenant_id: str) -> tuple[Target, Operation]:
    """Where the integration that the request names leads, and the operation with the path it has there.

    Raises InvalidArgument without what leads there, EgressDenied for an address elsewhere, and what Targets raise.
    """
    integration_id: str = getattr(request, operation.integration_field)
    if not integration_id:
        raise errors.InvalidArgument.field(operation.integration_field, "is required")
    target = await targets.target(tenant_id, integration_id)
    if name := operation.address_field:
        if not (url := getattr(request, name)):
            raise errors.InvalidArgument.field(name, "is required")
        target = replace(target, base_url=check_given(url, target.base_url))
    return target, at_path(operation, target.paths.get(operation.name))


def _read(operation: Operation, target: Target, body: bytes) -> Decoded:
    """The reply, without secrets of the partner's or ours. Raises CodecError."""
    decoded = reply_from_http(operation, body)
    take_secrets(decoded.message)
    return redacted_reply(decoded, target)


def _unanswered(operation: Operation, target: Target, error: EgressError) -> errors.EvbridgeError:
    if isinstance(error, AddressDenied):
        return errors.EgressDenied(f"a request to {target.partner} was held back: {error}", host=_server(target)[0])
    no_effect = operation.safe or isinstance(error, ConnectFailed)
    return (errors.PartnerUnavailable if no_effect else errors.PartnerOutcomeUnknown)(
        f"no answer from {target.partner}: {error}", partner=target.partner
    )


def _caller_was_short(error: EgressError, target: Target, timeout_s: float) -> bool:
    """Whether the caller gave so little time that the error says nothing about the partner."""
    if isinstance(error, ConnectTimeout):
        return timeout_s < CONNECT_TIMEOUT_S
    return isinstance(error, AnswerTimeout) and timeout_s < target.timeout_s / 3


def _server(target: Target) -> tuple[str, int]:
    """Host and port, empty and 0 when the base URL is none: it is judged, and refused, by the egress."""
    try:
        return _origin(target.base_url)[1:]
    except ValueError:
        return "", 0


def shown_url(target: Target, request: HttpRequest, *, with_values: bool = True) -> str:
    """The URL for people. Query values can hold personal data, so traces see their names only."""
    pairs = [f"{quote(name, '')}={quote(value, '') if with_values else 'REDACTED'}" for name, value in request.query]
    names = (target.credential_query, *(name for name, _ in target.query))
    pairs += [f"{quote(name, '')}=***" for name in names if name]
    return f"{target.base_url}{request.path}" + ("?" + "&".join(pairs) if pairs else "")


def shown_headers(operation: Operation, target: Target, request: HttpRequest) -> dict[str, str]:
    """The headers that the contract asks for, with the credential redacted."""
    if _credential_query(operation, target):
        return _headers(request)
    return _headers(request) | {operation.partner.credential_header: f"{operation.partner.credential_prefix}***"}


def _headers(request: HttpRequest) -> dict[str, str]:
    headers = {"Accept": "application/json", "User-Agent": _USER_AGENT}
    return headers if request.body is None else {**headers, "Content-Type": "application/json"}


def _query_of(link: str, operation: Operation, target: Target, request: HttpRequest) -> tuple[tuple[str, str], ...]:
    """The query of the next page's URL. Raises EgressDenied when it is elsewhere, PartnerFault when it is no URL."""
    base_url = target.base_url + request.path
    added = {_credential_query(operation, target), *(name for name, _ in target.query)}
    try:
        url = urlsplit(urljoin(base_url, link))
        query = parse_qsl(url.query, keep_blank_values=True, max_num_fields=100)
        same = _origin(url.geturl()) == _origin(base_url)
    except ValueError:
        raise errors.PartnerFault(f"the next page of {target.partner} has no URL", partner=target.partner) from None
    if not same:
        _log.warning("%s: the next page is on another origin", operation.name)
        host = _NOT_IN_A_HOST.sub("", url.hostname or "")[:255]
        raise errors.EgressDenied(f"the next page of {target.partner} is on another origin", host=host)
    return tuple((name, value) for name, value in query if name not in added)


def _credential_query(operation: Operation, target: Target) -> str:
    return target.credential_query or operation.partner.credential_query


def _origin(text: str) -> tuple[str, str, int]:
    """Raises ValueError when the text is no URL."""
    url = urlsplit(text)
    return url.scheme, url.hostname or "", url.port or (443 if url.scheme == "https" else 80)


def _field_path(pointer: str, operation: Operation) -> str:
    """Where in our request a place of the body (RFC 6901) is; "" when the contract does not know it."""
    names = [name.replace("~1", "/").replace("~0", "~") for name in pointer.split("/")[1:]]
    return operation.body.field_path(names) if operation.body else ""


def _text(text: str, target: Target) -> str:
    """A partner's words for people: without the credential, on one line, bounded."""
    shown = redacted_text(text[:_MAX_READ], target)[:_MAX_TEXT]
    return "".join(character if character.isprintable() else " " for character in shown)


def _retry_after_s(value: str, now: datetime) -> float | None:
    """The pause a Retry-After header asks for, in seconds or until a date (RFC 9110, 10.2.3), held to 1 s to 1 h."""
    if value.isascii() and value.isdigit():
        seconds = float(value)
    else:
        try:
            until = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 1.0), 3600.0)


def _limit_reached_s(answer: Answer, now: datetime) -> float | None:
    """For how long the partner takes nothing more, after a 429 or the last answer of a window; else None.

    X-RateLimit-Reset is a time in seconds since 1970, or a number of seconds.
    """
    headers = answer.headers
    if answer.status != 429 and headers.get("X-RateLimit-Remaining", "").strip() != "0":
        return None
    reset = headers.get("X-RateLimit-Reset", "").strip()
    if len(reset) == 10 and reset.isascii() and reset.isdigit():
        reset = str(max(0, int(reset) - int(now.timestamp())))
    return _retry_after_s(headers.get("Retry-After", ""), now) or _retry_after_s(reset, now) or _RATE_LIMIT_PAUSE_S
