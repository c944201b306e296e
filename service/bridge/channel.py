"""A channel that speaks HTTP: what is called on it as gRPC goes to the partner as the contract says.

Generated stubs of the partner contracts work on it unchanged: `CompanyServiceStub(channel)`. The tenant travels in the
call's metadata, the integration in the request. Here, and only here, a partner's HTTP status becomes one of our errors.
"""

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Final
from urllib.parse import quote, urlsplit
from uuid import uuid4

from google.protobuf.message import Message
from opentelemetry import metrics, propagate, trace

from service import errors
from service.bridge.addresses import check_given
from service.bridge.codec import CodecError, Decoded
from service.bridge.egress import AddressDenied, Answer, ConnectFailed, Egress, EgressError
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
from service.bridge.registry import Operation, Registry
from service.bridge.transcode import HttpRequest, reply_from_http, to_http

TENANT_METADATA: Final = "evbridge-tenant"
"""The key of the call metadata that holds the tenant."""

_USER_AGENT = f"evbridge/{version('evbridge')}"
_NOT_IN_A_CODE = re.compile(r"[^A-Za-z0-9_.-]")
_DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_RATE_LIMIT_PAUSE_S = 10.0
"""What a 429 without a readable Retry-After asks for."""

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
        *,
        authorise: Authorise | None = None,
    ) -> None:
        """`authorise` may be None when no target has a grant."""
        self._registry = registry
        self._targets = targets
        self._gate = gate
        self._egress = egress
        self._behaviours = behaviours
        self._record = record
        self._authorise = authorise
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

    async def call(
        self,
        operation: Operation,
        request: Message,
        *,
        tenant_id: str,
        timeout_s: float | None = None,
        clear: frozenset[str] = frozenset(),
    ) -> Decoded:
        """Sends `request` through the integration it names and returns the partner's answer.

        `clear` names fields that travel as null. A request that only reads is tried a second time when the partner
        could not serve it; any other is sent at most once.

        Raises a PartnerError for everything the partner can cause, EgressDenied when its address is not one we call,
        InvalidArgument when the request cannot be written, and what Targets and Gate raise.
        """
        integration_id: str = getattr(request, operation.integration_field)
        if not integration_id:
            raise errors.InvalidArgument.field(operation.integration_field, "is required")
        target = await self._targets.target(tenant_id, integration_id)
        if name := operation.address_field:
            if not (url := getattr(request, name)):
                raise errors.InvalidArgument.field(name, "is required")
            target = replace(target, base_url=check_given(url, target.base_url))
        http_request = to_http(operation, request, clear)
        allowed_s = target.timeout_s if timeout_s is None else min(timeout_s, target.timeout_s)
        clock = asyncio.get_running_loop().time
        deadline = clock() + allowed_s
        # At most half of the time goes into waiting, so that what is sent has time to be answered.
        async with self._gate.slot(target, timeout_s=allowed_s / 2):
            try:
                decoded = await self._attempt(operation, target, http_request, deadline - clock())
            except errors.PartnerUnavailable as error:
                pause_s = random.uniform(0.05, 0.25)
                if not operation.safe or error.retry_after_s is not None or clock() + pause_s >= deadline:
                    raise
                await asyncio.sleep(pause_s)
                decoded = await self._attempt(operation, target, http_request, deadline - clock())
        if decoded.rejects:
            _log.warning("%s: %d objects were unreadable", operation.name, len(decoded.rejects))
        return decoded

    async def _attempt(self, operation: Operation, target: Target, request: HttpRequest, timeout_s: float) -> Decoded:
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        try:
            # A 401 had no effect, and a token may end before its time: a second one is tried, and at most half of the
            # time goes into asking for it.
            for refused in (False, True):
                if target.grant and self._authorise:
                    left_s = (deadline - clock()) / 2
                    target = await self._authorise(target, refused=refused, timeout_s=left_s)
                answer = await self._exchange(operation, target, request, deadline - clock())
                if target.grant is None or answer.status != 401:
                    break
        except EgressError as error:
            raise _unanswered(operation, target, error) from None
        if not 200 <= answer.status < 300:
            raise self._refused(operation, target, answer)
        try:
            if answer.body is not None:
                decoded = reply_from_http(operation, answer.body)
                if isinstance(behaviour := self._behaviours.get(target.partner), Enveloped):
                    behaviour.check(decoded.message)
                return decoded
        except CodecError as error:
            _log.warning("%s: the answer is unreadable at %s", operation.name, error.pointer or "its root")
        raise (errors.PartnerFault if operation.safe else errors.PartnerOutcomeUnknown)(
            f"the answer of {target.partner} breaks its contract", partner=target.partner, http_status=answer.status
        )

    async def _exchange(self, operation: Operation, target: Target, request: HttpRequest, timeout_s: float) -> Answer:
        """One HTTP request and its answer, traced, measured and recorded. Raises EgressError."""
        partner, (host, port) = operation.partner, _server(target)
        template = "".join(f"/{part}" if isinstance(part, str) else f"/{{{part.name}}}" for part in operation.path)
        headers = {"Accept": "application/json", "User-Agent": _USER_AGENT}
        headers |= {name: str(uuid4()) for name in partner.unique_id_headers}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        attributes: _Attributes = {"http.request.method": request.method, "server.address": host, "server.port": port}
        answer, outcome, started = None, "", time.perf_counter()
        with self._tracer.start_as_current_span(
            f"{request.method} {template}",
            kind=trace.SpanKind.CLIENT,
            attributes={**attributes, "url.full": _url(target, request, with_values=False), "url.template": template},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            propagate.inject(headers)
            try:
                answer = await self._egress.request(
                    target,
                    request,
                    headers=headers,
                    credential_header=partner.credential_header,
                    credential_prefix=partner.credential_prefix,
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
                if self._record is not None:
                    self._record(
                        Exchange(
                            integration_id=target.integration_id,
                            operation=operation.name,
                            method=request.method,
                            url=_url(target, request, with_values=True),
                            request_headers={**headers, partner.credential_header: "***"},
                            request_body=request.body or b"",
                            status=answer.status if answer else 0,
                            response_body=_redacted((answer.body if answer else None) or b"", target),
                            duration_s=duration_s,
                        )
                    )

    def _refused(self, operation: Operation, target: Target, answer: Answer) -> errors.PartnerError:
        behaviour = self._behaviours.get(target.partner)
        refusal = behaviour.explain(answer.status, answer.body or b"") if behaviour else Refusal()
        fallback = errors.PartnerRejected if 400 <= answer.status < 500 else errors.PartnerFault
        error_class = _BY_STATUS.get(answer.status, fallback)
        if answer.status in _PERHAPS_CARRIED_OUT and not operation.safe:
            error_class = errors.PartnerOutcomeUnknown
        retry_after_s = _retry_after_s(answer.headers.get("Retry-After", ""), datetime.now(UTC))
        if retry_after_s is None and error_class is errors.PartnerRateLimited:
            retry_after_s = _RATE_LIMIT_PAUSE_S
        return error_class(
            f"{target.partner} answered with HTTP status {answer.status}",
            partner=target.partner,
            http_status=answer.status,
            partner_code=_NOT_IN_A_CODE.sub("", refusal.code.replace(target.credential.reveal(), ""))[:100],
            violations=refusal.violations,
            retry_after_s=retry_after_s,
        )


def _unanswered(operation: Operation, target: Target, error: EgressError) -> errors.EvbridgeError:
    if isinstance(error, AddressDenied):
        return errors.EgressDenied(f"a request to {target.partner} was held back: {error}", host=_server(target)[0])
    no_effect = operation.safe or isinstance(error, ConnectFailed)
    return (errors.PartnerUnavailable if no_effect else errors.PartnerOutcomeUnknown)(
        f"no answer from {target.partner}: {error}", partner=target.partner
    )


def _server(target: Target) -> tuple[str, int]:
    """Host and port, empty and 0 when the base URL is none: it is judged, and refused, by the egress."""
    try:
        url = urlsplit(target.base_url)
        return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        return "", 0


def _url(target: Target, request: HttpRequest, *, with_values: bool) -> str:
    """The URL for people. Query values can hold personal data, so traces see their names only."""
    pairs = (f"{quote(name)}={quote(value) if with_values else 'REDACTED'}" for name, value in request.query)
    return f"{target.base_url}{request.path}" + ("?" + "&".join(pairs) if request.query else "")


def _redacted(body: bytes, target: Target) -> bytes:
    """A partner may say the credential back."""
    return body.replace(target.credential.reveal().encode(), b"***")


def _retry_after_s(value: str, now: datetime) -> float | None:
    """The pause a Retry-After header asks for, in seconds or until a date (RFC 9110, 10.2.3), held to 1 s to 1 h."""
    if value.isascii() and value.isdigit():
        seconds = float(value)
    else:
        try:
            until = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 1.0), 3600.0)
