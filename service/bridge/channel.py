"""A channel that speaks HTTP: what is called on it as gRPC goes to the partner as the contract says.

Generated stubs of the partner contracts work on it: `channel.stub(CompanyServiceStub, tenant_id)`. The integration is
named by the request.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TypeVar, cast
from urllib.parse import parse_qsl, urljoin, urlsplit

import grpc
from google.protobuf.message import Message

from service.bridge.addresses import check_given, leads_away, origin
from service.bridge.codec import Decoded
from service.bridge.display import credential_query
from service.bridge.egress import Answer, Egress
from service.bridge.observed import ObservedEgress
from service.bridge.ports import Authorise, Behaviour, Gate, Recorder, Target, Targets
from service.bridge.registry import Operation, Pages, Registry, at_path
from service.bridge.sender import Sender
from service.bridge.transcode import HttpRequest, to_http
from service.domain.integration import routing_from
from service.domain.partner_error import PartnerFault
from service.errors import InvalidArgument

_MAX_PAGES = 1000
_LARGE_BYTES = 16 << 10
"""Of a request that is written in a few milliseconds."""
_NEXT = re.compile(r'<([^<>]*)>[^,<]*;\s*rel\s*=\s*"?next"?(?![^\s;,])', re.IGNORECASE)
"""A link of relation next. Source: RFC 8288, 3."""

_Stub = TypeVar("_Stub")
_log = logging.getLogger(__name__)


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
        self.registry = registry
        self._targets = targets
        self._sender = Sender(gate, ObservedEgress(egress, record, listen), behaviours, authorise)

    def stub(self, of: Callable[[grpc.aio.Channel], _Stub], tenant_id: str) -> _Stub:
        """A generated stub whose calls are the tenant's: `channel.stub(CompanyServiceStub, tenant_id)`.

        Raises KeyError for one of a service that is in no partner contract.
        """
        return of(cast(grpc.aio.Channel, _StubChannel(self, tenant_id)))

    def stream(self, method: str, request: Message, *, tenant_id: str) -> AsyncGenerator[Decoded, None]:
        """The pages of a list by the name of its rpc, with what could not be read of each."""
        return self.pages(self.registry.pages[method], request, tenant_id=tenant_id)

    async def target(self, tenant_id: str, integration_id: str) -> Target:
        """Where calls through the integration go. Raises what Targets raise."""
        return await self._targets.target(tenant_id, integration_id)

    async def call(
        self,
        operation: Operation,
        request: Message,
        *,
        tenant_id: str,
        timeout_s: float | None = None,
        target: Target | None = None,
    ) -> Decoded:
        """Sends `request` through the integration it names; returns the partner's answer, with its secrets beside it.

        `target` is where that leads, if it is known already.

        A request that only reads, or that is idempotent, is tried a second time when the partner could not serve it or
        its answer was lost; any other is sent at most once.

        Raises a PartnerError for everything the partner can cause, EgressDenied when its address is not one we call,
        InvalidArgument when the request cannot be written, and what Targets and Gate raise.
        """
        target, operation = await through(self._targets, operation, request, tenant_id, target)
        return await self._sender.send(operation, target, await _written(operation, request), timeout_s)

    async def answer(self, operation: Operation, target: Target, request: HttpRequest) -> Answer:
        """Sends `request` to `target` once, and returns what came back, whatever it is.

        Raises a PartnerError without an answer, EgressDenied when the address is not one we call, and what Gate raises.
        """
        return await self._sender.answer(operation, target, request)

    async def pages(
        self,
        pages: Pages,
        request: Message,
        *,
        tenant_id: str,
        timeout_s: float | None = None,
        target: Target | None = None,
    ) -> AsyncGenerator[Decoded, None]:
        """The pages of a list, 1,000 at most; `target` is where the first one comes from, if that was just read.

        Raises what `call` raises, and EgressDenied for a page elsewhere. Of the next page's URL only the query is
        taken, and only when it leads to the partner's own origin.
        """
        start = ""
        clock = asyncio.get_running_loop().time
        deadline = None if timeout_s is None else clock() + timeout_s
        for _ in range(_MAX_PAGES):
            left_s = None if deadline is None else deadline - clock()
            page = await self.page(pages, request, tenant_id=tenant_id, timeout_s=left_s, target=target, start=start)
            yield page
            if not page.next_link:
                return
            start, target = page.next_link, None
        raise PartnerFault(f"the list has more than {_MAX_PAGES} pages", partner=pages.page.partner.name)

    async def page(
        self,
        pages: Pages,
        request: Message,
        *,
        tenant_id: str,
        timeout_s: float | None = None,
        target: Target | None = None,
        start: str = "",
    ) -> Decoded:
        """One page of a list, as `pages` reads it: the one that `start` leads to."""
        target, operation = await through(self._targets, pages.page, request, tenant_id, target)
        http_request = await _written(operation, request)
        if start:
            http_request = replace(http_request, query=_query_of(start, operation, target, http_request))
        page = await self._sender.send(operation, target, http_request, timeout_s)
        return page._replace(next_link=_next_link(pages, page))


class _StubChannel:
    """A grpc.aio.Channel as far as generated stubs look."""

    def __init__(self, channel: PartnerChannel, tenant_id: str) -> None:
        self._channel = channel
        self._tenant_id = tenant_id

    def unary_unary(self, method: str, *_: object, **__: object) -> Callable[..., Awaitable[Message]]:
        operation = self._channel.registry.operations[method]

        async def call(request: Message, *, timeout: float | None = None) -> Message:
            answer = await self._channel.call(operation, request, tenant_id=self._tenant_id, timeout_s=timeout)
            message: Message = answer.message
            return message

        return call

    def unary_stream(self, method: str, *_: object, **__: object) -> Callable[..., AsyncIterator[Message]]:
        pages = self._channel.registry.pages[method]

        async def call(request: Message, *, timeout: float | None = None) -> AsyncIterator[Message]:
            answers = self._channel.pages(pages, request, tenant_id=self._tenant_id, timeout_s=timeout)
            async for page in answers:
                yield page.message

        return call


async def through(
    targets: Targets, operation: Operation, request: Message, tenant_id: str, target: Target | None = None
) -> tuple[Target, Operation]:
    """Where the integration that the request names leads, unless that was read, and the operation with its path there.

    Raises InvalidArgument without what leads there, EgressDenied for an address elsewhere, and what Targets raise.
    """
    integration_id: str = getattr(request, operation.integration_field)
    if not integration_id:
        raise InvalidArgument.field(operation.integration_field, "is required")
    target = target or await targets.target(tenant_id, integration_id)
    if name := operation.address_field:
        if not (url := getattr(request, name)):
            raise InvalidArgument.field(name, "is required")
        target = replace(target, base_url=check_given(url, target.base_url, target.hosts))
    if operation.routed and target.routing:
        target = replace(target, routing={**target.routing, **routing_from(request)})
    return target, at_path(operation, target.paths.get(operation.name))


async def _written(operation: Operation, request: Message) -> HttpRequest:
    """In a thread when that takes long. Raises what `to_http` raises."""
    if request.ByteSize() > _LARGE_BYTES:
        return await asyncio.to_thread(to_http, operation, request)
    return to_http(operation, request)


def _next_link(pages: Pages, page: Decoded) -> str:
    """The URL of the next page; "" when this is the last one."""
    if header := pages.page.partner.next_link_header:
        found = _NEXT.search(page.headers.get(header, ""))
        return found[1] if found else ""
    link = page.message
    for name in pages.next_link:
        link = getattr(link, name)
    return str(link)


def _query_of(link: str, operation: Operation, target: Target, request: HttpRequest) -> tuple[tuple[str, str], ...]:
    """The query of the next page's URL. Raises EgressDenied when it is elsewhere, PartnerFault when it is no URL."""
    base_url = target.base_url + request.path
    added = {credential_query(operation, target), *(name for name, _ in target.query)}
    try:
        url = urljoin(base_url, link)
        query = parse_qsl(urlsplit(url).query, keep_blank_values=True, max_num_fields=100)
        same = origin(url) == origin(base_url)
    except ValueError:
        raise PartnerFault(f"the next page of {target.partner} has no URL", partner=target.partner) from None
    if not same:
        _log.warning("%s: the next page is on another origin", operation.name)
        raise leads_away(origin(url)[1])
    return tuple((name, value) for name, value in query if name not in added)
