"""RUN_KIND_SYNC of OCPI parties: pulls the tariffs, locations and tokens that `models` asks for, as is told there.

A page is stored, then it is noted that it was: a run whose process dies reads one page again, which changes nothing.
One that takes long rests between pages, so that others have their turn.
Source: OCPI 2.2.1, transport and format, Pull and Pagination.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from evbridge.options.v1.options_pb2 import ROLE_WRITER
from evbridge.partner.ocpi.v2.locations_pb2 import ListLocationsRequest
from evbridge.partner.ocpi.v2.tariffs_pb2 import ListTariffsRequest
from evbridge.partner.ocpi.v2.tokens_pb2 import ListTokensRequest
from evbridge.v1.delivery_pb2 import OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF, OBJECT_KIND_TOKEN, ObjectKind
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import TokenType
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_RECEIVER, VersionDetails
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP, PartyRole
from evbridge.v1.run_pb2 import RUN_STEP_STATE_SUCCEEDED, RunStep

from service.bridge.codec import Decoded, compile_codec
from service.bridge.json_text import Unreadable
from service.bridge.registry import Pages
from service.domain.caller import Caller
from service.domain.keys import ObjectKey, PartyKey
from service.domain.origin import is_mass_removal
from service.domain.received import Document
from service.domain.token import token_id, token_type
from service.errors import (
    EndpointMissing,
    EvbridgeError,
    FieldViolation,
    InvalidArgument,
    MassRemoval,
    NotRegistered,
    PartnerError,
    PartnerFault,
    ResourceNotFound,
)
from service.partners.ocpi.files import notices_of
from service.partners.ocpi.paging import Paging, total_count
from service.partners.ocpi.received import owners, sender_of
from service.resources.documents import Sender
from service.resources.received import Outcome, Receipt
from service.resources.received_location import locations_gone, locations_received
from service.resources.received_tariff import tariff_removed, tariffs_received
from service.resources.received_token import tokens_gone, tokens_received
from service.runs.worker import Progress, Tools
from service.storage.integration import integration_get
from service.storage.pool import Database
from service.storage.pull import Pull, pull_begin, pull_end, pull_get, pull_read, pull_unseen
from service.storage.run import RunClaim, run_findings_keep

OVERLAP: Final = timedelta(hours=1)
"""How much of what was read before is read again: partners have several clocks, and pages that move."""
WHOLE_EVERY: Final = timedelta(days=1)
_PER_PAGE = 100
_MAX_PAGES = 100_000
_MAX_TIME = timedelta(days=1)
"""What reading one list may take, in as many slices as it needs."""
_MAX_ID = 255
_PAUSES_S = (1.0, 5.0)
"""Before a page is asked for again that the partner could not serve."""
_LONGEST_S = 60.0
"""What a partner may make us wait for a page."""
_COUNTS = (
    "page_count",
    "read_count",
    "created_count",
    "updated_count",
    "unchanged_count",
    "removed_count",
    "refused_count",
    "repaired_count",
)
_COUNTED = {Outcome.CREATED: "created_count", Outcome.UPDATED: "updated_count"}

_Receive = Callable[..., Awaitable[list[Receipt | EvbridgeError]]]


class _List(NamedTuple):
    """A list that is pulled: its module, and what becomes of it here. Its objects belong to parties of `role`."""

    module: str
    model: str
    kind: ObjectKind.ValueType
    method: str
    request: Callable[..., Any]
    receive: _Receive
    role: PartyRole.ValueType = PARTY_ROLE_CPO
    id: str = "id"


_SERVICES = "/evbridge.partner.ocpi.v2"
_LISTS = (
    _List(
        "tariffs",
        "pull_tariff",
        OBJECT_KIND_TARIFF,
        f"{_SERVICES}.TariffsSenderService/StreamTariffs",
        ListTariffsRequest,
        tariffs_received,
    ),
    _List(
        "locations",
        "pull_location",
        OBJECT_KIND_LOCATION,
        f"{_SERVICES}.LocationsSenderService/StreamLocations",
        ListLocationsRequest,
        locations_received,
    ),
    _List(
        "tokens",
        "pull_tokens_all",
        OBJECT_KIND_TOKEN,
        f"{_SERVICES}.TokensSenderService/StreamTokens",
        ListTokensRequest,
        tokens_received,
        PARTY_ROLE_EMSP,
        "uid",
    ),
)


_GONE: Final = {OBJECT_KIND_LOCATION: locations_gone, OBJECT_KIND_TOKEN: tokens_gone}
"""What becomes of objects that are in no list any more, and that OCPI does not delete."""


class OcpiSync:
    """Reads lists of what operators and providers own."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def execute(self, run: RunClaim, progress: Progress) -> None:
        """Raises EndpointMissing, NotRegistered, MassRemoval, and what the channel raises."""
        stored = await self._stored(run.tenant_id, run.integration_id)
        lender = stored
        if platform_id := stored.ocpi.platform_integration_id:
            lender = await self._stored(run.tenant_id, platform_id)
        if not lender.ocpi.their_token_set:
            raise NotRegistered("there is no token to call the partner with")
        wanted = [each for each in _LISTS if getattr(stored.models, each.model)]
        if not wanted:
            raise EndpointMissing("`models` asks for nothing to pull: set pull_location for example")
        if run.repeated:
            progress.goes_on(await run_findings_keep(self._tools.database, run))
        urls = {each.module: _url(lender.version_details, each.module) for each in wanted}
        for each in wanted:
            progress.begin(each.module)
            await _Pulling(self._tools, run, progress, stored, lender.version_details.version, each).all(
                urls[each.module]
            )

    async def _stored(self, tenant_id: str, integration_id: str) -> Integration:
        return Integration.FromString(await integration_get(self._tools.database, tenant_id, integration_id))


class _Pulling:
    """One list, as far as a run read it."""

    def __init__(
        self, tools: Tools, run: RunClaim, progress: Progress, stored: Integration, version: str, of: _List
    ) -> None:
        self._database: Database = tools.database
        self._channel = tools.channel
        self._run = run
        self._progress = progress
        self._stored = stored
        self._version = version
        self._of = of
        self._owner = next(iter(owners(stored, of.role)), None)
        self._caller = Caller(run.tenant_id, f"integration/{stored.id}", ROLE_WRITER)
        self._step: RunStep = progress.report.steps[-1]
        self._pages = _raw(tools.channel.registry.pages[of.method])

    async def all(self, url: str) -> None:
        """Reads on where the run was."""
        pull = await self._begun()
        for name, count in zip(_COUNTS, pull.counts, strict=False):
            setattr(self._step, name, count)
        if pull.next_link is not None:
            if pull.next_link or not self._step.page_count:
                pull = await self._read(pull, url)
            if pull.whole:
                await self._remove(pull)
            await pull_end(self._database, self._run, self._of.kind, pull._replace(counts=self._counts()))
        self._progress.close(RUN_STEP_STATE_SUCCEEDED, self._step.description or "the whole list" * pull.whole)

    async def _begun(self) -> Pull:
        of = (self._run.tenant_id, self._run.integration_id, self._of.kind)
        before, options = await pull_get(self._database, *of), self._run.sync_options
        if before and before.run_id == self._run.run_id:
            return before
        whole_time = before.whole_time if before else None
        recent = whole_time is not None and datetime.now(UTC) < whole_time + WHOLE_EVERY
        whole = options.whole or options.allow_mass_removal or not recent
        return await pull_begin(self._database, self._run, self._of.kind, whole=whole)

    async def _read(self, pull: Pull, url: str) -> Pull:
        """Stores page after page."""
        query = {"limit": str(_PER_PAGE)}
        if pull.watermark and not pull.whole:
            query["date_from"] = f"{pull.watermark - OVERLAP:%Y-%m-%dT%H:%M:%SZ}"
        request = self._of.request(integration_id=self._stored.id, url=url, **(query | {"limit": _PER_PAGE}))
        paging = Paging(query)
        while True:
            page = await self._page(request, pull.next_link or "")
            pull = await self._take(pull, page, paging)
            if not pull.next_link:
                return pull
            if self._step.page_count >= _MAX_PAGES or datetime.now(UTC) > pull.begin_time + _MAX_TIME:
                raise PartnerFault(
                    f"the list of {self._of.module} does not end: {self._step.page_count:,} pages were read",
                    partner="ocpi",
                    http_status=200,
                )
            self._progress.rest()

    async def _page(self, request: Any, start: str) -> Decoded:
        """One that the partner could not serve is asked for again."""
        pauses = iter(_PAUSES_S)
        while True:
            try:
                return await self._channel.page(self._pages, request, tenant_id=self._run.tenant_id, start=start)
            except PartnerError as error:
                pause_s, wait_s = next(pauses, None), error.retry_after_s or 0
                if not error.retryable or pause_s is None or wait_s > _LONGEST_S:
                    raise
                await asyncio.sleep(max(pause_s, wait_s))

    async def _take(self, pull: Pull, page: Decoded, paging: Paging) -> Pull:
        """Stores what can be stored of a page, and how far the list was read."""
        data = page.value.get("data") if isinstance(page.value, dict) else None
        if not isinstance(data, list | None):
            raise PartnerFault("the list of ocpi holds no list in `data`", partner="ocpi", http_status=200)
        data = data or []
        total = total_count(page.headers.get("X-Total-Count", ""))
        following = paging.after(pull.next_link or "", data, page.next_link, total, pull.total)
        documents: dict[ObjectKey, tuple[str, Document]] = {}
        complete = pull.complete and not following.problem
        for number, value in enumerate(data):
            pointer = f"/data/{number}"
            try:
                key = self._key(value)
                self._step.unchanged_count += key in documents
                documents[key] = pointer, value
            except _Nameless as nameless:
                self._progress.refused("", [FieldViolation(pointer + nameless.pointer, nameless.problem)])
                complete = False
        highest = pull.highest
        sender = sender_of(self._stored, self._version, self._of.role, (key.party for key in documents), self._owner)
        for key, receipt in (await self._receive(sender, documents)).items():
            pointer, document = documents[key]
            if isinstance(receipt, EvbridgeError):
                found = receipt.violations or [FieldViolation("", receipt.message)]
                self._progress.refused(document[self._of.id], _findings(pointer, found))
                continue
            if receipt.notices:
                self._progress.repaired(document[self._of.id], _findings(pointer, receipt.notices))
            counted = _COUNTED.get(receipt.outcome, "unchanged_count")
            setattr(self._step, counted, getattr(self._step, counted) + 1)
            highest = max(filter(None, (highest, _time(document))), default=None)
        self._step.page_count += 1
        self._step.read_count += len(data)
        if not following.link and self._step.read_count < total:
            complete = False
        self._progress.count(self._step.read_count, total, f"reads {self._of.module}")
        pull = pull._replace(
            next_link=following.link, highest=highest, complete=complete, total=total, counts=self._counts()
        )
        await pull_read(self._database, self._run, self._of.kind, pull, [*map(str, documents)])
        return pull

    async def _receive(
        self, sender: Sender, documents: Mapping[ObjectKey, tuple[str, Document]]
    ) -> dict[ObjectKey, Receipt | EvbridgeError]:
        """In pages of ours: a partner may send more than it was asked for."""
        receipts: dict[ObjectKey, Receipt | EvbridgeError] = {}
        sound: list[tuple[ObjectKey, Document]] = []
        for key, (_, document) in documents.items():
            if (where := next(_unreadable(document), None)) is not None:
                receipts[key] = InvalidArgument.field(where, "is no value of JSON that can be kept")
            else:
                sound.append((key, document))
        for start in range(0, len(sound), _PER_PAGE):
            batch = sound[start : start + _PER_PAGE]
            stored = await self._of.receive(self._database, self._caller, sender, batch)
            receipts |= zip((key for key, _ in batch), stored, strict=True)
        return receipts

    def _key(self, value: Any) -> ObjectKey:
        """Of an object in the list. Raises _Nameless."""
        if not isinstance(value, dict):
            raise _Nameless("", "must be an object")
        id, owner = value.get(self._of.id), self._owner or PartyKey("", "")
        if not (isinstance(id, str) and 0 < len(id) <= _MAX_ID):
            raise _Nameless(f"/{self._of.id}", f"is required: a text of 1 to {_MAX_ID} characters")
        if self._of.kind == OBJECT_KIND_TOKEN:
            id = token_id(_token_type(value.get("type")), id)
        named = value.get("country_code", owner.country_code), value.get("party_id", owner.party_id)
        for name, text, length in zip(("country_code", "party_id"), named, (2, 3), strict=True):
            if not (isinstance(text, str) and len(text) == length):
                raise _Nameless(f"/{name}", f"is required: {length} characters")
        return ObjectKey.of(*named, id, self._stored.id)

    async def _remove(self, pull: Pull) -> None:
        """Removes what was held and is not in the whole list. Raises MassRemoval."""
        unseen = await pull_unseen(self._database, self._run.tenant_id, self._run.integration_id, self._of.kind)
        if not pull.complete:
            self._step.description = "the list could not be read whole: nothing was removed"
            return
        if is_mass_removal(len(unseen), pull.held) and not self._run.sync_options.allow_mass_removal:
            raise MassRemoval(
                f"{len(unseen)} of {pull.held} {self._of.module} that were received before would be gone; "
                "nothing was removed"
            )
        keys = [ObjectKey.parsed(each, self._stored.id) for each in unseen]
        if gone := _GONE.get(self._of.kind):
            for start in range(0, len(keys), _PER_PAGE):
                batch = keys[start : start + _PER_PAGE]
                self._step.removed_count += await gone(self._database, self._caller, batch)
            return
        parties = frozenset(key.party for key in keys)
        sender = replace(sender_of(self._stored, self._version, PARTY_ROLE_CPO, (), None), parties=parties)
        for key in keys:
            with suppress(ResourceNotFound):
                await tariff_removed(self._database, self._caller, sender, key)
                self._step.removed_count += 1

    def _counts(self) -> list[int]:
        return [getattr(self._step, name) for name in _COUNTS]


class _Nameless(Exception):
    """An object that nobody can tell from others: where, and what is wrong."""

    def __init__(self, pointer: str, problem: str) -> None:
        super().__init__(pointer, problem)
        self.pointer = pointer
        self.problem = problem


def _url(details: VersionDetails, module: str) -> str:
    """Where the partner sends the module's objects. Raises EndpointMissing."""
    for each in details.endpoints:
        if each.identifier == module and each.role != INTERFACE_ROLE_RECEIVER:
            return str(each.url)
    raise EndpointMissing(f"the partner offers no {module} to pull, which `models` asks for")


def _raw(pages: Pages) -> Pages:
    """The same pages, whose objects are handed on as the partner wrote them."""
    descriptor: Any = pages.page.response_type.DESCRIPTOR
    envelope = compile_codec(descriptor, field_names=True, without=frozenset({"data"}), lenient=True)
    return replace(pages, page=replace(pages.page, reply=envelope, raw=True))


def _findings(pointer: str, violations: Any) -> Iterator[FieldViolation]:
    """At pointers into the partner's answer."""
    return (FieldViolation(each.pointer, each.problem) for each in notices_of(pointer, violations))


def _unreadable(value: Any, path: str = "") -> Iterator[str]:
    """Paths of what Python has no value for."""
    if isinstance(value, Unreadable):
        yield path
    elif isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, dict | list | Unreadable):
                yield from _unreadable(item, f"{path}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            if isinstance(item, dict | list | Unreadable):
                yield from _unreadable(item, f"{path}[{number}]")


def _token_type(text: Any) -> TokenType.ValueType:
    """Raises _Nameless."""
    try:
        return token_type(text)
    except ValueError:
        raise _Nameless("/type", "is required, for example RFID") from None


def _time(document: Document) -> datetime | None:
    """When the partner last changed it."""
    try:
        time = datetime.fromisoformat(document.get("last_updated", ""))
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
