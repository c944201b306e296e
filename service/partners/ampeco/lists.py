"""Lists of AMPECO's that an import reads whole, and what becomes of their objects.

What an EVSE says hangs on its charge point, its location and its tariff, so all lists are read before most is stored.
Each page is kept until the run ends. A run that was cut off, or rested, takes these again, asks AMPECO for the pages
after them, and so comes to the same.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from evbridge.v1.delivery_pb2 import OBJECT_KIND_CHARGER, OBJECT_KIND_EVSE, OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.run_pb2 import RUN_STEP_STATE_SUCCEEDED
from google.protobuf.message import Message

from service.bridge.codec import CodecError, Decoded
from service.bridge.registry import Pages
from service.domain.keys import ObjectKey, key_of
from service.domain.origin import is_mass_removal
from service.domain.pages import link_noted
from service.domain.partner_error import PartnerFault
from service.domain.validation import violations
from service.errors import EvbridgeError
from service.partners.ampeco.mapping import key_of_ours
from service.partners.ampeco.source import CONTRACT, PER_PAGE, Source
from service.resources.mutation import put
from service.resources.noun import Upsert
from service.resources.objects import Owned
from service.runs.importing import ImportStep
from service.runs.worker import Progress, Tools
from service.storage.changes import change_time
from service.storage.peer import peers_known
from service.storage.quarantine import quarantine_leave, quarantine_put
from service.storage.read_object import read_object_put
from service.storage.read_page import ReadPage, read_page_get, read_page_put
from service.storage.run import RunClaim, run_came_on

T = TypeVar("T")
K = TypeVar("K", int, str)

_KINDS: Final = {
    "tariffs": OBJECT_KIND_TARIFF,
    "charge points": OBJECT_KIND_CHARGER,
    "chargers": OBJECT_KIND_CHARGER,
    "evses": OBJECT_KIND_EVSE,
    "locations": OBJECT_KIND_LOCATION,
}
"""Of what each step reads."""
_MAX_PAGES: Final = 10_000


class ListImport(Source):
    def __init__(self, tools: Tools, run: RunClaim, progress: Progress, integration: Integration) -> None:
        super().__init__(tools, run, progress, integration)
        self.suspicions: list[str] = []
        self._mass_removal_percent = tools.mass_removal_percent
        self._done = 0

    def _begin(self, name: str) -> ImportStep:
        self._progress.begin(name)
        self._done = self._progress.report.progress.done
        return ImportStep(name, self._progress)

    async def _end(self, step: ImportStep) -> None:
        """The list was read whole: what was quarantined and not found again can be taken, or is gone."""
        async with self._writing() as conn:
            await quarantine_put(conn, self._run, _KINDS[step.name], "", step.quarantined)
            await quarantine_leave(conn, self._run, _KINDS[step.name])
        step.left_out = +step.left_out
        self._progress.close(RUN_STEP_STATE_SUCCEEDED, str(step))

    async def _pages(
        self, step: ImportStep | None, method: str, request: Any, keep: str = ""
    ) -> AsyncIterator[dict[int, Any]]:
        """Pages of objects by AMPECO's ids. One that is shown twice counts as it is shown last.

        What is in long lists is kept, too, in the list of the run that is called `keep`.
        """
        request.integration_id, request.cursor, request.per_page = self._integration.id, "", PER_PAGE
        seen: set[int] = set()
        number, start, noted = 0, "", ""
        while number == 0 or start:
            if number == _MAX_PAGES:
                raise PartnerFault(f"the list has more than {_MAX_PAGES:,} pages", partner="ampeco")
            page = await self._page(method, request, number, start)
            number, start = number + 1, page.next_link
            noted = link_noted(noted, start, number, "ampeco")
            objects = {each.id: each for each in page.message.data}
            new = await self._keep(keep, objects) if keep else len(objects.keys() - seen)
            if step:
                step.read += len(page.message.data) + len(page.rejects)
                step.again += len(page.message.data) - new
                for reject in page.rejects:
                    step.reject(reject)
                reported = self._progress.report.steps[-1]
                reported.page_count, reported.read_count = number, step.read
                self._progress.count(self._done + step.read, description=f"reads {step.name}")
            if not keep:
                seen.update(objects)
            yield objects

    async def _keep(self, list: str, objects: Mapping[int, Message]) -> int:
        """Tells how many were not kept before."""
        async with self._writing() as conn:
            return await read_object_put(conn, self._run, list, serialized(objects))

    async def _page(self, method: str, request: Any, number: int, start: str) -> Decoded:
        """As the run has read it, else as AMPECO shows it."""
        pages = self._channel.registry.pages[f"{CONTRACT}.{method}"]
        if kept := await read_page_get(self._database, self._run, method, number):
            self._progress.works_on()
            return _again(kept, pages)
        page = await self._channel.page(pages, request, tenant_id=self._run.tenant_id, start=start)
        rejects = json.dumps([(each.pointer, each.problem, each.object_id, each.text) for each in page.rejects])
        kept = ReadPage(page.message.SerializeToString(), rejects, page.next_link)
        async with self._writing() as conn:
            await read_page_put(conn, self._run, method, number, kept)
            await run_came_on(conn, self._run)
        self._progress.rest()
        return page

    async def _store(self, step: ImportStep, upserts: Mapping[K, Upsert[Any]]) -> set[K]:
        """Stores objects by AMPECO's ids, and returns the ids of those that were refused."""
        if not upserts:
            return set()
        async with self._writing() as conn:
            now = await change_time(conn)
            results = await put(conn, self._caller, now, [*upserts.values()])
        refused: set[K] = set()
        for (id, upsert), result in zip(upserts.items(), results, strict=True):
            if isinstance(result, EvbridgeError):
                refused.add(id)
                step.refuse(id, result, upsert.path)
            else:
                # By an attempt before this one, perhaps.
                step.changed += result.last_updated.ToDatetime(now.tzinfo) >= self._run.start_time
        return refused

    async def _not_ours(
        self,
        step: ImportStep,
        owned: Owned[Any],
        shown: Mapping[int, T],
        known: Callable[..., Awaitable[set[ObjectKey]]],
    ) -> dict[int, T]:
        """Without those that are there because we delivered them.

        Their external id is the key of an object that exists here, or that was delivered there and deleted since.
        """
        named = {id: owned.key(**key) for id, remote in shown.items() if (key := key_of_ours(remote))}
        keys = {id: key_of(each) for id, each in named.items() if not violations(each)}
        ours: set[ObjectKey] = set()
        if keys:
            at = (self._run.tenant_id, self._integration.id, owned.kind)
            async with self._database.transaction() as conn:
                ours = await known(conn, self._run.tenant_id, keys.values()) | await peers_known(
                    conn, *at, keys.values()
                )
        others = {id: remote for id, remote in shown.items() if keys.get(id) not in ours}
        step.left_out["ours"] += len(shown) - len(others)
        return others

    def _suspect(self, noun: str, gone: int, held: int) -> None:
        if is_mass_removal(gone, held, self._mass_removal_percent):
            self.suspicions.append(f"{gone} of {held} {noun}")


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + PER_PAGE] for start in range(0, len(items), PER_PAGE))


def serialized(page: Mapping[int, Message]) -> dict[int, bytes]:
    return {id: each.SerializeToString() for id, each in page.items()}


def _again(kept: ReadPage, pages: Pages) -> Decoded:
    message = pages.page.response_type.FromString(kept.payload)
    return Decoded(message, tuple(CodecError(*each) for each in json.loads(kept.rejects)), next_link=kept.next_link)
