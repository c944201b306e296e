"""What a caller may do, and how often: the one place that judges it."""

import time
from collections.abc import Callable

from evbridge.options.v1 import options_pb2 as options
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from service.domain.caller import Caller, role_name
from service.domain.fields import integrations_named
from service.errors import KeyLimited, RateLimited, RoleRequired


class Access:
    """What a method asks of its callers: a role, and a key for its `service`, which any is when it is ""."""

    def __init__(self, role: int, service: str = "") -> None:
        self._role = role
        self._service = service

    @classmethod
    def to(cls, method: MethodDescriptor) -> "Access":
        """Raises ValueError for a method without a role."""
        role = method.GetOptions().Extensions[options.role]
        if role == options.ROLE_UNSPECIFIED:
            raise ValueError(f"{method.full_name} names no role")
        return cls(role, method.containing_service.full_name)

    def check(self, caller: Caller) -> None:
        """By what stands in the metadata, before the request is read. Raises RoleRequired, KeyLimited."""
        if caller.role < self._role:
            needed, has = (role_name(number) for number in (self._role, caller.role))
            raise RoleRequired(f"the method needs the role {needed}", required=needed, role=has)
        services = caller.limits.services
        if services and self._service and self._service not in services:
            raise KeyLimited(f"the key is not for {self._service}", limit="services", service=self._service)


def check_integrations(caller: Caller, request: Message) -> None:
    """Raises KeyLimited unless a key that is limited to integrations is for all that the request is about.

    What does not say which integration it is about is refused: an rpc is closed to such keys until its contract says.
    """
    allowed = caller.limits.integrations
    if not allowed:
        return
    named = {*integrations_named(request)}
    if not named or "" in named:
        raise KeyLimited("the key is for some integrations, and the request does not name one", limit="integrations")
    if others := named - allowed:
        other = min(others)
        raise KeyLimited(f"the key is not for the integration {other}", limit="integrations", integration=other)


class Rates:
    """How many calls a caller may make in a minute, `default` unless its key says otherwise; 0 is any number.

    Each has a bucket that fills evenly and holds a sixth of them (the generic cell rate algorithm: what is kept of a
    bucket is when it is full again). Every process counts for itself, so that no call waits for another process.
    """

    def __init__(self, default: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._default = default
        self._clock = clock
        self._full_at: dict[tuple[str, str], float] = {}

    def take(self, caller: Caller) -> None:
        """Counts a call. Raises RateLimited, which costs nothing of the bucket."""
        limit = caller.limits.calls_per_minute or self._default
        if not limit:
            return
        now, who = self._clock(), (caller.tenant_id, caller.actor)
        each_s = 60 / limit
        fills_s = max(0.0, self._full_at.get(who, now) - now)
        wait_s = fills_s + each_s - max(_BURST_S, each_s)  # of a full bucket exactly 0, whatever the clock says
        if wait_s > 0:
            message = f"the key has made the {limit} calls of a minute that it may make"
            raise RateLimited(message, retry_after_s=wait_s, calls_per_minute=str(limit))
        if len(self._full_at) >= _MAX_BUCKETS:
            self._make_room(now)
        self._full_at[who] = now + fills_s + each_s

    def _make_room(self, now: float) -> None:
        """Forgets the buckets that are full, and all when that is not enough."""
        self._full_at = {each: at for each, at in self._full_at.items() if at > now}
        if len(self._full_at) > _MAX_BUCKETS // 2:
            self._full_at.clear()


_BURST_S = 10.0
_MAX_BUCKETS = 10_000
