"""Which calls may work now.

A server has one loop and a few connections to its database: a handful of calls at work gets as much done as a
thousand, and each is answered sooner. The others wait, with their requests unparsed. How long tells a burst from an
overload. A burst is over in a moment, so everybody waits for it. When there has been a queue for longer (`burst_s`),
more arrives than can be answered, and waiting would only make every answer late: from then on, until nobody had to be
refused for a second, whoever cannot start almost at once is refused at once (what CoDel, RFC 8289, does with packets).

Keys take turns, so that one that sends a lot waits for itself. While a call waits for something that is neither our
loop nor our database (a partner, a run), it is not at work: see `waits_elsewhere` in `service.domain.caller`.
"""

import asyncio
from collections import OrderedDict, deque

from service.errors import ServerBusy, TooManyCalls

_CALM_S = 1.0
"""How long an overload lasts after the last refusal."""
_TARGET_S = 0.005
"""What a call may wait in an overload."""
_RETRY_S = 1.0


class _Waiter:
    __slots__ = ("at_work", "key", "since")

    def __init__(self, key: str, at_work: "asyncio.Future[None]", since: float) -> None:
        self.key = key
        self.at_work = at_work
        self.since = since


class _Key:
    """What the calls of a key take together."""

    __slots__ = ("bytes", "calls")

    def __init__(self) -> None:
        self.calls = 0
        self.bytes = 0


class Admission:
    """At most `calls` under way, of which `per_key` for one key, and `at_work` at work.

    The requests under way take at most `key_bytes` for one key and `all_bytes` in all. After `burst_s` a queue is an
    overload, and no call waits longer.
    """

    def __init__(
        self,
        *,
        calls: int,
        per_key: int,
        at_work: int,
        key_bytes: int = 32 << 20,
        all_bytes: int = 128 << 20,
        burst_s: float = 0.25,
    ) -> None:
        self.under_way = 0
        self._calls = calls
        self._per_key = per_key
        self._burst_s = burst_s
        self._at_work = at_work
        self._key_bytes = key_bytes
        self._bytes_left = all_bytes
        self._free = at_work
        self._keys: dict[str, _Key] = {}
        self._queues: OrderedDict[str, deque[_Waiter]] = OrderedDict()
        """By key; the first one's turn is next. None is empty."""
        self._waiting = 0
        self._waiting_since = 0.0
        self._overloaded_until = 0.0

    def enter(self, key: str) -> "Entry":
        """Counts a call until its `leave`. Raises TooManyCalls, ServerBusy."""
        if self.under_way >= self._calls:
            raise ServerBusy(f"the server has {self._calls} calls under way", retry_after_s=_RETRY_S)
        used = self._keys.get(key)
        if used is None:
            used = self._keys[key] = _Key()
        elif used.calls >= self._per_key:
            limit = str(self._per_key)
            raise TooManyCalls(f"the key has {limit} calls under way", retry_after_s=_RETRY_S, limit=limit)
        used.calls += 1
        self.under_way += 1
        return Entry(self, key, used)

    async def _wait(self, key: str) -> None:
        """Returns when the call is at work. Raises ServerBusy."""
        loop = asyncio.get_running_loop()
        waiter = _Waiter(key, loop.create_future(), loop.time())
        queue = self._queues.get(key)
        if queue is None:
            queue = deque()
        if self._overloaded(waiter.since) and len(queue) >= max(1, self._at_work // (len(self._queues) or 1)):
            self._overloaded_until = waiter.since + _CALM_S
            raise _busy()
        if not self._waiting:
            self._waiting_since = waiter.since
        self._waiting += 1
        self._queues[key] = queue
        queue.append(waiter)
        timer = loop.call_later(self._burst_s, _refuse, waiter)
        try:
            await waiter.at_work
        except BaseException:
            if waiter.at_work.done() and not waiter.at_work.cancelled() and waiter.at_work.exception() is None:
                self._work_done()  # cancelled between its turn and its start
            elif waiter in queue:
                self._remove(waiter)
            raise
        finally:
            timer.cancel()

    def _overloaded(self, now: float) -> bool:
        if self._waiting and now - self._waiting_since > self._burst_s:
            self._overloaded_until = now + _CALM_S
        return now < self._overloaded_until

    def _work_done(self) -> None:
        """Lets the next call work, if it has not waited too long."""
        now = asyncio.get_running_loop().time() if self._waiting else 0.0
        while self._waiting:
            longest_s = _TARGET_S if self._overloaded(now) else self._burst_s
            waiter = next(iter(self._queues.values()))[0]
            self._remove(waiter)
            if waiter.at_work.done():
                continue
            if now - waiter.since <= longest_s:
                waiter.at_work.set_result(None)
                return
            self._overloaded_until = now + _CALM_S
            _refuse(waiter)
        self._free += 1

    def _remove(self, waiter: _Waiter) -> None:
        self._waiting -= 1
        queue = self._queues[waiter.key]
        queue.remove(waiter)
        self._queues.move_to_end(waiter.key)
        if not queue:
            del self._queues[waiter.key]


class Entry:
    """A call that was let in. It holds on to what it was given until `leave`."""

    __slots__ = ("_admission", "_bytes", "_key", "_used", "_working")

    def __init__(self, admission: Admission, key: str, used: _Key) -> None:
        self._admission = admission
        self._key = key
        self._used = used
        self._bytes = 0
        self._working = False

    def hold(self, size: int) -> None:
        """Counts the bytes of the call's request. Raises TooManyCalls, ServerBusy."""
        admission = self._admission
        if self._used.bytes + size > admission._key_bytes:
            limit = str(admission._key_bytes)
            message = f"the key's requests under way hold {limit} bytes"
            raise TooManyCalls(message, retry_after_s=_RETRY_S, limit_bytes=limit)
        if size > admission._bytes_left:
            raise _busy()
        self._used.bytes += size
        admission._bytes_left -= size
        self._bytes += size

    async def work(self) -> None:
        """Returns when the call may work. Raises ServerBusy."""
        if self._admission._free > 0:
            self._admission._free -= 1
        else:
            await self._admission._wait(self._key)
        self._working = True

    def wait_elsewhere(self) -> None:
        """From now on the call does next to nothing here."""
        if self._working:
            self._working = False
            self._admission._work_done()

    def leave(self) -> None:
        self.wait_elsewhere()
        admission = self._admission
        admission.under_way -= 1
        admission._bytes_left += self._bytes
        self._used.bytes -= self._bytes
        self._used.calls -= 1
        if not self._used.calls:
            del admission._keys[self._key]


def _busy() -> ServerBusy:
    return ServerBusy("more calls arrive than the server can answer in time", retry_after_s=_RETRY_S)


def _refuse(waiter: _Waiter) -> None:
    if not waiter.at_work.done():
        waiter.at_work.set_exception(_busy())
