"""The feed of one process: it is read once for all who watch, and each of them goes through it at its own pace.

A tenant that is watched has a log of what happened lately. Whoever begins earlier, or falls behind what the log holds,
reads the database until the log covers it. No watcher has a queue: it has a place, and when it can take more, it gets
what changed since then, each object once.
"""

import asyncio
import logging
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple

from opentelemetry import metrics

from service.errors import ResumeTokenForeign, ServerStopping
from service.storage.connection import describe
from service.storage.feed import FeedChange, feed_held_s, feed_read
from service.storage.pool import Database
from service.watch.token import check_kept, place_in, token_of
from service.workers import work_or_poll

log = logging.getLogger(__name__)
_meter = metrics.get_meter(__name__)
_held = _meter.create_gauge(
    "evbridge.watch.oldest_transaction.age",
    unit="s",
    description="How long the oldest transaction that writes has been open. The feed ends before it.",
)
_watchers = _meter.create_up_down_counter("evbridge.watch.watchers", description="Watches under way.")

_MAX_LOGGED = 10_000
"""How many changes of a tenant are in memory."""
_MAX_CACHED = 32 << 20
_HELD_S = 5.0
_WARN_S = 60.0

Find = Callable[[Sequence[FeedChange]], Awaitable[list[bytes]]]
Since = tuple[list[FeedChange], str]
"""What changed, in order, and the token behind it."""


class Loaded(NamedTuple):
    """What is sent for some changes. `number`: of two of a tenant, the one with the higher one was loaded later."""

    number: int
    elements: list[bytes]

    @property
    def size(self) -> int:
        return 1000 + sum(map(len, self.elements))


class _Log:
    """What happened lately to the objects of one tenant: complete from `begins` up to `ends`, places in the feed."""

    def __init__(self) -> None:
        self.changes: list[FeedChange] = []
        self.begins = 0
        self.ends = 0
        self.watchers = 0
        self.polled = asyncio.Event()
        self.moved = asyncio.Event()
        self.database = b""
        self.is_foreign = False
        self.loading = asyncio.Lock()

    def add(self, changes: Sequence[FeedChange], ends: int) -> None:
        self.ends = ends
        if changes:
            self.changes += changes
            if len(self.changes) > _MAX_LOGGED:
                last = self.changes[-_MAX_LOGGED // 2].transaction_id
                self.changes = self.after(last + 1)
                self.begins = last + 1
            self.wake()

    def after(self, place: int) -> list[FeedChange]:
        return self.changes[bisect_left(self.changes, place, key=lambda change: change.transaction_id) :]

    def wake(self) -> None:
        self.moved.set()
        self.moved = asyncio.Event()


class Feed:
    """`poll_s`: how often the database is asked while somebody watches; `bookmark_s`: how often a watcher hears."""

    def __init__(self, database: Database, poll_s: float, bookmark_s: float) -> None:
        self.database = database
        self._poll_s = poll_s
        self._bookmark_s = bookmark_s
        self._logs: dict[str, _Log] = {}
        self._place: int | None = None
        self._followed = b""
        self._wake = asyncio.Event()
        self._stopped = False
        self.loads = 0
        self._cached: OrderedDict[tuple[str, str, tuple[FeedChange, ...]], Loaded] = OrderedDict()
        self._cached_bytes = 0

    async def run(self) -> None:
        """Follows the feed until it is cancelled."""
        loop, measure_at, works = asyncio.get_running_loop(), 0.0, True
        while True:
            try:
                if self._logs:
                    await self._poll()
                if loop.time() >= measure_at:
                    measure_at = loop.time() + _HELD_S
                    await self._measure()
                works = True
            except Exception as error:
                if works:
                    log.warning("the feed cannot be read", extra={"problem": describe(error) or type(error).__name__})
                works = False
            self._wake.clear()
            await work_or_poll(self._wake, self._poll_s if self._logs or not works else _HELD_S)

    def stop(self) -> None:
        """Ends every watch with SERVER_STOPPING, and each that begins later."""
        self._stopped = True
        for each in self._logs.values():
            each.polled.set()
            each.wake()

    async def since(
        self, tenant_id: str, token: str, wanted: Callable[[FeedChange], bool]
    ) -> AsyncGenerator[Since, None]:
        """What of the wanted changed since the token, or from now on, as it changes; nothing, now and then.

        The first, which is nothing, comes at once. Raises InvalidArgument, ResumeTokenForeign, ResumeTokenTooOld,
        ServerStopping, DatabaseUnavailable.
        """
        now = await feed_read(self.database, [tenant_id], None)
        floor = now.floors[tenant_id]
        place = place_in(token, now.database, floor, now.newest) if token else now.place
        seen = 0 if token else now.complete
        yield [], token_of(now.database, place)
        log = self._join(tenant_id)
        silent_until = time.monotonic() + self._bookmark_s
        try:
            async with aclosing(self._from(tenant_id, log, place, now.database)) as parts:
                async for changes, place in parts:
                    news = [change for change in changes if change.transaction_id >= seen and wanted(change)]
                    if news or time.monotonic() >= silent_until:
                        silent_until = time.monotonic() + self._bookmark_s
                        yield news, token_of(now.database, place)
        finally:
            self._leave(tenant_id, log)

    async def _from(
        self, tenant_id: str, log: _Log, place: int, database: bytes
    ) -> AsyncGenerator[tuple[list[FeedChange], int], None]:
        """All changes from the place on, and nothing whenever a quiet watcher should hear."""
        while True:
            moved = log.moved if log.polled.is_set() else log.polled
            if self._stopped:
                raise ServerStopping("the server is stopping", retry_after_s=0.5)
            if log.is_foreign or (log.polled.is_set() and log.database != database):
                raise ResumeTokenForeign("the database was replaced by another: watch again with a snapshot")
            if log.polled.is_set() and place < log.begins:
                begins, page = log.begins, await feed_read(self.database, [tenant_id], place)
                check_kept(place, page.floors[tenant_id])
                place = max(page.place, begins) if page.complete >= begins else page.place
                yield page.changes.get(tenant_id, []), place
            elif log.polled.is_set() and (changes := log.after(place)):
                place = log.ends
                yield changes, place
            else:
                place = max(place, log.ends)
                try:
                    async with asyncio.timeout(self._bookmark_s):
                        await moved.wait()
                except TimeoutError:
                    yield [], max(place, log.ends)

    async def load(self, tenant_id: str, noun: str, changes: Sequence[FeedChange], find: Find, after: int) -> Loaded:
        """What is sent for the changes, loaded once for all who are at the same place, but not before `after`.

        So what a watcher is given is never older than what it was given before.
        """
        name = (tenant_id, noun, tuple(changes))
        log = self._logs.get(tenant_id) or _Log()
        async with log.loading:
            found = self._cached.get(name)
            if found is None or found.number < after:
                self.loads += 1
                self._cached_bytes -= found.size if found else 0
                found = self._cached[name] = Loaded(self.loads, await find(changes))
                self._cached_bytes += found.size
                while self._cached_bytes > _MAX_CACHED:
                    self._cached_bytes -= self._cached.popitem(last=False)[1].size
        return found

    def _join(self, tenant_id: str) -> _Log:
        log = self._logs.setdefault(tenant_id, _Log())
        log.watchers += 1
        _watchers.add(1)
        self._wake.set()
        return log

    def _leave(self, tenant_id: str, log: _Log) -> None:
        log.watchers -= 1
        _watchers.add(-1)
        if not log.watchers and self._logs.get(tenant_id) is log:
            del self._logs[tenant_id]
            if not self._logs:
                self._place, self._cached_bytes = None, 0
                self._cached.clear()

    async def _poll(self) -> None:
        logs, start = dict(self._logs), self._place
        page = await feed_read(self.database, logs, start)
        if start is not None and page.database != self._followed:
            log.warning("the database was replaced by another: every watch ends")
            for each in logs.values():
                each.is_foreign = True
                each.polled.set()
                each.wake()
            self._logs = {tenant_id: each for tenant_id, each in self._logs.items() if tenant_id not in logs}
            self._place = None
            return
        self._followed, self._place = page.database, page.place if self._logs else None
        for tenant_id, each in logs.items():
            if not each.polled.is_set():
                each.begins, each.database = page.place if start is None else start, page.database
                each.polled.set()
            each.add(page.changes.get(tenant_id, ()), page.place)

    async def _measure(self) -> None:
        held_s = await feed_held_s(self.database)
        _held.set(held_s)
        if held_s > _WARN_S:
            log.warning("a transaction holds the change feed back", extra={"open_for_s": round(held_s)})
