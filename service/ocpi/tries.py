"""How often each address comes without a known token: a stranger may try a few times a minute, and then costs nothing.

A token that was known a short while ago is looked up however many bad ones come from its address, for a whole company
may stand behind one. Both memories are bounded: the oldest of each goes.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

_MAX_ADDRESSES = 10_000
_MAX_TOKENS = 10_000
_KNOWN_S = 24 * 3600.0


class Tries:
    """Of each address: how many more tries it has, and when that was so; `per_minute` come back in a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._known: OrderedDict[bytes, float] = OrderedDict()

    def admit(self, client: str, digests: Sequence[bytes]) -> bool:
        """Whether a request may be looked at; what becomes of it is `told`."""
        now = self._clock()
        if any(self._known.get(digest, now) > now for digest in digests):
            return True
        left = self._left_of(client, now)
        if left < 1:
            return False
        self._keep(client, left - 1, now)
        return True

    def told(self, client: str, digests: Sequence[bytes], *, known: bool) -> None:
        """A known token is no try."""
        now = self._clock()
        was_known = max((self._known.pop(digest, now) for digest in digests), default=now) > now
        if known:
            self._known |= dict.fromkeys(digests, now + _KNOWN_S)
            if not was_known:
                self._keep(client, self._left_of(client, now) + 1, now)
        while len(self._known) > _MAX_TOKENS:
            self._known.popitem(last=False)

    def _left_of(self, client: str, now: float) -> float:
        left, then = self._left.get(client, (float(self._per_minute), now))
        return min(self._per_minute, left + (now - then) * self._per_minute / 60)

    def _keep(self, client: str, left: float, now: float) -> None:
        self._left.pop(client, None)
        if left < self._per_minute:
            self._left[client] = left, now
        while len(self._left) > _MAX_ADDRESSES:
            self._left.popitem(last=False)
