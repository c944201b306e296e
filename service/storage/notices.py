"""Notices between processes: that something changed which another one may wait for.

They only say that a look is worth it. Whoever waits looks now and then anyway, and often while no notices come.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from service.storage.connection import connect, describe, host_urls
from service.storage.statements import Statements
from service.workers import work_or_poll

log = logging.getLogger(__name__)
sql = Statements.beside(__file__)

_CHANNEL: Final = "evbridge"
_BEAT_S: Final = 5.0
_AGAIN_S: Final = 1.0
_TIMEOUT_S: Final = 3.0
LOOK_S: Final = 0.025
"""How often whoever waits looks while no notices come."""
LOOK_ANYWAY_S: Final = 0.5
"""How often while they do: a notice may be lost with its connection, or with the process that was to send it."""


class Notices:
    """One connection that hears and tells, to the server itself: PgBouncer passes nothing on. Without a `url`, none.

    What is told goes out after its transaction, not in it: commits that notify wait for each other.
    """

    def __init__(self, url: str) -> None:
        self._hosts = host_urls(url) if url else []
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._untold: set[str] = set()
        self._wake = asyncio.Event()
        self._heard = False

    @property
    def look_s(self) -> float:
        return LOOK_ANYWAY_S if self._heard else LOOK_S

    def tell(self, topic: str) -> None:
        """That what the topic names has changed, once it is committed."""
        self._stir(topic)
        if self._heard:
            self._untold.add(topic)
            self._wake.set()

    @contextmanager
    def about(self, topic: str) -> Iterator["News"]:
        event = asyncio.Event()
        self._waiting[topic].add(event)
        try:
            yield News(self, event)
        finally:
            self._waiting[topic].discard(event)
            if not self._waiting[topic]:
                del self._waiting[topic]

    def stir(self) -> None:
        """Everybody looks."""
        for topic in tuple(self._waiting):
            self._stir(topic)

    async def run(self) -> None:
        """Hears and tells until it is cancelled."""
        worked = True
        while self._hosts:
            try:
                await self._follow()
            except Exception as error:
                if worked or self._heard:
                    log.warning("no notices are heard", extra={"problem": describe(error) or type(error).__name__})
            worked = self._heard = False
            self.stir()
            await asyncio.sleep(_AGAIN_S)

    async def _follow(self) -> None:
        # A notice is not worth a wait for the disk.
        settings = {"application_name": "evbridge-notices", "synchronous_commit": "off"}
        raw = await connect(self._hosts, timeout_s=_TIMEOUT_S, command_timeout=_TIMEOUT_S, server_settings=settings)
        try:
            own = raw.get_server_pid()

            def heard(_: object, pid: int, channel: str, topic: object) -> None:
                if pid != own:
                    self._stir(str(topic))

            raw.add_termination_listener(lambda _: self._wake.set())
            await raw.add_listener(_CHANNEL, heard)
            self._heard = True
            self.stir()
            while True:
                self._wake.clear()
                topics, self._untold = self._untold, set()
                await raw.execute(sql.notices_tell.text, _CHANNEL, [*topics])
                await work_or_poll(self._wake, _BEAT_S)
        finally:
            raw.terminate()

    def _stir(self, topic: str) -> None:
        for event in self._waiting.get(topic, ()):
            event.set()


class News:
    """What one who waits for a topic hears."""

    def __init__(self, notices: Notices, event: asyncio.Event) -> None:
        self._notices = notices
        self._event = event

    async def wait(self, limit_s: float) -> bool:
        """Returns when it is time to look, at the latest after `limit_s`; whether a notice came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._notices.look_s, limit_s)):
                await self._event.wait()
        came = self._event.is_set()
        self._event.clear()
        return came
