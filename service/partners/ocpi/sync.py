"""RUN_KIND_SYNC of OCPI parties: pulls the lists that `models` asks for, as is told there.

A page is stored, then it is noted that it was: a run whose process dies reads one page again, which changes nothing.
Meanwhile the next page is read, and none beyond it, so that neither the partner nor the database is waited for idly.
One that takes long rests between pages, so that others have their turn.
Source: OCPI 2.2.1, transport and format, Pull and Pagination.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from evbridge.options.v1.options_pb2 import ROLE_WRITER
from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_SESSION,
)
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_SENDER
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO
from evbridge.v1.run_pb2 import RUN_STEP_STATE_FAILED, RUN_STEP_STATE_SUCCEEDED, RunStep

from service.bridge.codec import Decoded, compile_codec
from service.bridge.registry import Pages
from service.domain.caller import Caller
from service.domain.keys import ObjectKey
from service.domain.origin import is_mass_removal
from service.domain.pages import link_noted
from service.domain.partner_error import PartnerError, PartnerFault
from service.errors import EndpointMissing, MassRemoval, ResourceNotFound
from service.partners.ocpi.lists import LISTS
from service.partners.ocpi.mapping import parsed
from service.partners.ocpi.paging import Following, Paging, total_count
from service.partners.ocpi.reach import Reached, reached
from service.partners.ocpi.received import sender_of
from service.partners.ocpi.taking import PER_PAGE, Listed, Page, Taken, Taking
from service.resources.documents import by_size
from service.resources.received_tariff import tariff_removed
from service.runs.worker import Progress, Tools
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.pull import Pull, pull_begin, pull_end, pull_get, pull_read, pull_unseen
from service.storage.quarantine import (
    quarantine_again,
    quarantine_leave,
    quarantine_put,
    quarantine_release,
)
from service.storage.run import RunClaim, run_came_on, run_findings_keep, run_hold

T = TypeVar("T")

OVERLAP: Final = timedelta(hours=1)
"""How much of what was read before is read again: partners have several clocks, and pages that move."""
WHOLE_EVERY: Final = timedelta(days=1)
_MAX_PAGES = 100_000
_MAX_TIME = timedelta(days=1)
"""What reading one list may take, in as many slices as it needs."""
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


_BEGINNING: Final = "1970-01-01T00:00:00Z"
"""Lists of sessions are asked for with a time, always. Source: OCPI 2.2.1, sessions, Sender interface."""


class OcpiSync:
    """Reads lists of what operators, providers and hubs own."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def execute(self, run: RunClaim, progress: Progress) -> None:
        """Reads each list that the partner has. Raises NotRegistered, MassRemoval, and what the channel raises.

        Raises EndpointMissing at the end when the partner has not all that `models` asks for.
        """
        partner = await reached(self._tools.database, run.tenant_id, run.integration_id)
        partner.check_registered()
        wanted = [each for each in LISTS if getattr(partner.integration.models, each.model)]
        if not wanted:
            raise EndpointMissing("`models` asks for nothing to pull: set pull_location for example")
        if run.repeated:
            progress.goes_on(await run_findings_keep(self._tools.database, run))
        if run.sync_options.quarantined:
            for each in wanted:
                progress.begin(each.module)
                await _Pulling(self._tools, run, progress, partner, each).again()
            return
        missing: EndpointMissing | None = None
        for each in wanted:
            progress.begin(each.module)
            try:
                url = partner.url(each.module, INTERFACE_ROLE_SENDER)
            except EndpointMissing as error:
                missing = missing or error
                progress.close(RUN_STEP_STATE_FAILED, error.message)
                continue
            await _Pulling(self._tools, run, progress, partner, each).all(url)
        if missing:
            raise missing


class _Shown(NamedTuple):
    """A page that was read, what follows it, and how long it says that the list is."""

    page: Page
    following: Following
    total: int


class _Pulling:
    """One list, as far as a run read it."""

    def __init__(self, tools: Tools, run: RunClaim, progress: Progress, partner: Reached, of: Listed) -> None:
        stored, version = partner.integration, partner.version
        self._database: Database = tools.database
        self._channel = tools.channel
        self._mass_removal_percent = tools.mass_removal_percent
        self._run = run
        self._progress = progress
        self._stored = stored
        self._version = version
        self._of = of
        self._caller = Caller(run.tenant_id, f"integration/{stored.id}", ROLE_WRITER)
        self._step: RunStep = progress.report.steps[-1]
        self._taking = Taking(self._database, self._caller, progress, stored, version, of)
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
                async with self._writing() as conn:
                    await quarantine_leave(conn, self._run, self._of.kind, only_nameless=not pull.complete)
            await pull_end(self._database, self._run, self._of.kind, pull._replace(counts=self._counts()))
        self._progress.close(RUN_STEP_STATE_SUCCEEDED, self._step.description or "the whole list" * pull.whole)

    async def _begun(self) -> Pull:
        of = (self._run.tenant_id, self._run.integration_id, self._of.kind)
        before, options = await pull_get(self._database, *of), self._run.sync_options
        if before and before.run_id == self._run.run_id:
            return before
        whole_time = before.whole_time if before else None
        recent = whole_time is not None and datetime.now(UTC) < whole_time + WHOLE_EVERY
        whole = not self._of.lasts and (options.whole or options.allow_mass_removal or not recent)
        return await pull_begin(self._database, self._run, self._of.kind, whole=whole)

    async def _read(self, pull: Pull, url: str) -> Pull:
        """Stores page after page."""
        query = {"limit": str(PER_PAGE)}
        whole = pull.whole or (self._of.lasts and self._run.sync_options.whole)
        if self._of.kind == OBJECT_KIND_SESSION:
            query["date_from"] = _BEGINNING
        if pull.watermark and not whole:
            query["date_from"] = f"{pull.watermark - OVERLAP:%Y-%m-%dT%H:%M:%SZ}"
        request = self._of.request(integration_id=self._stored.id, url=url, **(query | {"limit": PER_PAGE}))
        paging = Paging(query)
        shown = await self._show(request, paging, pull.next_link or "", pull.total)
        while link := shown.following.link:
            if self._progress.rests:  # what is read ahead would be read again
                await self._take(pull, shown)
                self._progress.rest()
            async with _ahead(self._show(request, paging, link, shown.total)) as ahead:
                pull = await self._take(pull, shown)
                if self._step.page_count >= _MAX_PAGES or datetime.now(UTC) > pull.begin_time + _MAX_TIME:
                    raise PartnerFault(
                        f"the list of {self._of.module} does not end: {self._step.page_count:,} pages were read",
                        partner="ocpi",
                        http_status=200,
                    )
                shown = await ahead
        return await self._take(pull, shown)

    async def _show(self, request: Any, paging: Paging, link: str, before: int) -> _Shown:
        """The page at the link; `before` is the total of the one before it."""
        page = await self._page(request, link)
        data = page.value.get("data") if isinstance(page.value, dict) else None
        if not isinstance(data, list | None):
            raise PartnerFault("the partner's answer has no list in `data`", partner="ocpi", http_status=200)
        data = data or []
        total = total_count(page.headers.get("X-Total-Count", ""))
        following = paging.after(link, data, page.next_link, total, before)
        values = [(f"/data/{number}", value) for number, value in enumerate(data)]
        return _Shown(await self._taking.read(values), following, total)

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

    async def _take(self, pull: Pull, shown: _Shown) -> Pull:
        """Stores what can be stored of a page, and how far the list was read."""
        following, total = shown.following, shown.total
        taken = await self._taking.taken(shown.page)
        complete = pull.complete and not following.problem and all(each.key for each in taken.refused)
        self._step.page_count += 1
        if not following.link and self._step.read_count < total:
            complete = False
        self._progress.count(self._step.read_count, total, f"reads {self._of.module}")
        noted = "" if following.problem else pull.noted_link  # a list that shrank is read on from an earlier page
        pull = pull._replace(
            next_link=following.link,
            highest=max(filter(None, (pull.highest, taken.highest)), default=None),
            complete=complete,
            total=total,
            counts=self._counts(),
            noted_link=link_noted(noted, following.link, self._step.page_count, "ocpi"),
        )
        async with self._writing() as conn:
            await pull_read(conn, self._run, self._of.kind, pull, taken.keys)
            await run_came_on(conn, self._run)
            await self._quarantine(conn, taken, taken.keys)
        return pull

    async def again(self) -> None:
        """Tries once more what is quarantined."""
        after = 0
        at = (self._database, self._run, self._of.kind, self._version)
        while rows := await quarantine_again(*at, after, PER_PAGE):
            after, texts = rows[-1].position, [each.document for each in rows]
            values = await by_size(partial(_parsed, texts), texts)
            taken = await self._taking.taken(await self._taking.read(values))
            self._progress.count(self._step.read_count, description=f"tries {self._of.module} again")
            async with self._writing() as conn:
                await self._quarantine(conn, taken, [each.key for each in rows])
        self._progress.close(RUN_STEP_STATE_SUCCEEDED)

    async def _quarantine(self, conn: Connection, taken: Taken, keys: Iterable[str]) -> None:
        """Keeps what was refused; what else has one of the keys was taken."""
        refused = {each.stored_key for each in taken.refused}
        await quarantine_release(conn, self._run, self._of.kind, {*keys} - refused)
        await quarantine_put(conn, self._run, self._of.kind, self._version, taken.refused)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Connection]:
        """Raises LeaseLost."""
        async with self._database.transaction() as conn:
            await run_hold(conn, self._run)
            yield conn

    async def _remove(self, pull: Pull) -> None:
        """Removes what was held and is not in the whole list. Raises MassRemoval."""
        unseen = await pull_unseen(self._database, self._run.tenant_id, self._run.integration_id, self._of.kind)
        if not pull.complete:
            self._step.description = "the list could not be read whole: nothing was removed"
            return
        suspicious = is_mass_removal(len(unseen), pull.held, self._mass_removal_percent)
        if suspicious and not self._run.sync_options.allow_mass_removal:
            raise MassRemoval(
                f"{len(unseen)} of {pull.held} {self._of.module} that were received before would be gone; "
                "nothing was removed"
            )
        keys = [ObjectKey.parsed(each, self._stored.id) for each in unseen]
        if gone := self._of.gone:
            for start in range(0, len(keys), PER_PAGE):
                batch = keys[start : start + PER_PAGE]
                await gone(self._database, self._caller, batch)
                self._step.removed_count += len(batch)  # those too that an attempt before removed
            return
        parties = frozenset(key.party for key in keys)
        sender = replace(sender_of(self._stored, self._version, PARTY_ROLE_CPO, (), None), parties=parties)
        for key in keys:
            with suppress(ResourceNotFound):
                await tariff_removed(self._database, self._caller, sender, key)
            self._step.removed_count += 1

    def _counts(self) -> list[int]:
        return [getattr(self._step, name) for name in _COUNTS]


@asynccontextmanager
async def _ahead(work: Coroutine[Any, Any, T]) -> AsyncIterator["asyncio.Task[T]"]:
    """Begins the work, which is given up when what is done meanwhile fails."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        task.cancelled() or task.exception()  # what nobody asks for is logged


def _parsed(texts: Sequence[str]) -> list[tuple[str, Any]]:
    return [("", parsed(text.encode())) for text in texts]


def _raw(pages: Pages) -> Pages:
    """The same pages, whose objects are handed on as the partner wrote them."""
    descriptor: Any = pages.page.response_type.DESCRIPTOR
    envelope = compile_codec(descriptor, field_names=True, without=frozenset({"data"}), lenient=True)
    return replace(pages, page=replace(pages.page, reply=envelope, raw=True))
