"""What the channel needs from the rest of the house, as Protocols. Storage and the demo satisfy them; app.py joins."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from google.protobuf.message import Message

from service.domain.budget import Permit
from service.domain.exchange import Exchange
from service.domain.target import AccessToken, Grant, Target
from service.errors import FieldViolation

__all__ = [
    "AccessToken",
    "Authorise",
    "Behaviour",
    "Enveloped",
    "Exchange",
    "Gate",
    "Grant",
    "Permit",
    "Recorder",
    "Refusal",
    "Target",
    "Targets",
    "Tokens",
]


class Targets(Protocol):
    """Knows the integrations."""

    async def target(self, tenant_id: str, integration_id: str) -> Target:
        """Raises ResourceNotFound for an integration the tenant does not have."""
        ...


class Gate(Protocol):
    """Decides when a request may leave, by what all processes sent and by what became of it."""

    def permit(self, target: Target, *, safe: bool, timeout_s: float) -> AbstractAsyncContextManager[Permit]:
        """Entered for one request, which is `safe` when it only reads; left with its outcome, a PartnerError or none.

        Raises PartnerRateLimited when a budget or every slot of the integration is used up for longer than `timeout_s`,
        PartnerUnavailable when requests of this kind failed too often. Both say when to try again.
        """
        ...


class Tokens(Protocol):
    """Remembers an access token for each target with a grant."""

    async def get(self, target: Target) -> AccessToken | None:
        """The one that was kept for this version of the grant, unless its lifetime is over."""
        ...

    async def keep(self, target: Target, token: AccessToken, *, age_s: float = 0.0) -> None:
        """One that was asked for `age_s` ago, in place of one that was asked for earlier.

        Nothing is kept for an integration that has changed meanwhile, or is gone.
        """
        ...

    async def forget(self, target: Target) -> None: ...


class Authorise(Protocol):
    """Exchanges grants; see bridge/oauth.py."""

    async def __call__(self, target: Target, *, refused: bool, timeout_s: float) -> Target:
        """The target with its token as credential; as it is without a grant."""
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a partner's error body says, in its own words: they are bounded and redacted before a caller sees them.

    A violation's path is a JSON pointer into the body that was sent (RFC 6901, with the partner's names).
    """

    code: str = ""
    message: str = ""
    violations: tuple[FieldViolation, ...] = ()


class Behaviour(Protocol):
    """What the contract cannot say about a partner; a module of its room is one."""

    def explain(self, status: int, body: bytes) -> Refusal:
        """Reads the body of an answer that is not 2xx. Never raises: what it cannot read is an empty Refusal."""
        ...


@runtime_checkable
class Enveloped(Protocol):
    """A Behaviour of a partner that also says inside a 2xx answer how it went."""

    def check(self, reply: Message) -> None:
        """Raises the PartnerError that the reply tells."""
        ...


Recorder = Callable[[Exchange], None]
"""Is shown exchanges: every one, or those that someone asked to see."""
