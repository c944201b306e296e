"""One watch: a snapshot perhaps, then what changes, in messages that end with a token."""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Protocol

from service.domain.pages import framed
from service.storage.feed import FeedChange
from service.watch.feed import Feed
from service.watch.nouns import Noun

_MAX_LOADED = 100
_MESSAGE_BYTES = 256 << 10


class WatchRequest(Protocol):
    resume_token: str
    snapshot: bool


async def watch(
    feed: Feed, noun: Noun, tenant_id: str, request: WatchRequest, wanted: Callable[[FeedChange], bool]
) -> AsyncGenerator[bytes, None]:
    """Serialized responses: changes in field 1, a resume token in field 2. Raises as `Feed.since`."""

    def concerns(change: FeedChange) -> bool:
        return change.object_kind in noun.kinds and wanted(change)

    find = partial(noun.find, feed.database, tenant_id)
    snapshot, loaded = request.snapshot, 0
    async with aclosing(feed.since(tenant_id, request.resume_token, concerns)) as since:
        async for changes, token in since:
            if snapshot:
                async for page in noun.pages(feed.database, tenant_id, request):
                    for part in _parts(page):
                        yield framed(part)
                snapshot, loaded = False, feed.loads + 1
            latest = _latest(changes)
            elements: list[bytes] = []
            for first in range(0, len(latest), _MAX_LOADED):
                some = latest[first : first + _MAX_LOADED]
                loaded, more = await feed.load(tenant_id, noun.name, some, find, loaded)
                *full, elements = _parts(elements + more)
                for part in full:
                    yield framed(part)
            yield framed(elements) + framed([token.encode()], 2)


def _latest(changes: Iterable[FeedChange]) -> list[FeedChange]:
    """The last change of each object, in order."""
    latest: dict[tuple[str, int, str], FeedChange] = {}
    for change in changes:
        name = (change.integration_id, change.object_kind, change.object_id)
        latest.pop(name, None)
        latest[name] = change
    return [*latest.values()]


def _parts(elements: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Parts that are no longer than a message should be, at least one."""
    part: list[bytes] = []
    size = 0
    for element in elements:
        if part and size + len(element) > _MESSAGE_BYTES:
            yield part
            part, size = [], 0
        part.append(element)
        size += len(element)
    yield part
