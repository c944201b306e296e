"""What the channel needs from the rest of the house, in a few lines: an integration, a slot, a recorder, a partner."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from service.bridge.ports import Exchange, Permit
from service.domain.partner_error import PartnerRateLimited
from service.domain.secret import Secret
from service.domain.target import Target
from service.errors import ResourceNotFound
from tests.partners import listening

KEY = "key-4711-canary"


def http_date(ahead: timedelta) -> str:
    """The time that is so far ahead now, as headers write it."""
    return format_datetime(datetime.now(UTC) + ahead, usegmt=True)


@dataclass
class FakePorts:
    """Integration "cp" of the tenant "acme", and what went through it."""

    base_url: str
    timeout_s: float = 15.0
    key: str = KEY
    partner: str = "chargeprice"
    departures: dict[str, Any] = field(default_factory=dict)
    free_slots: int = 1
    recorded: bool = True
    slot_timeouts_s: list[float] = field(default_factory=list)
    permits: list[Permit] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)

    async def target(self, tenant_id: str, integration_id: str) -> Target:
        if (tenant_id, integration_id) != ("acme", "cp"):
            raise ResourceNotFound.of("integration", integration_id)
        target = Target(tenant_id, integration_id, self.partner, self.base_url, Secret(self.key), 1, self.timeout_s)
        return replace(target, **self.departures)

    @asynccontextmanager
    async def permit(self, target: Target, *, safe: bool, timeout_s: float) -> AsyncIterator[Permit]:
        self.slot_timeouts_s.append(timeout_s)
        if not self.free_slots:
            raise PartnerRateLimited("all slots are taken", partner=target.partner)
        self.free_slots -= 1
        self.permits.append(Permit(self.recorded))
        try:
            yield self.permits[-1]
        finally:
            self.free_slots += 1


@dataclass
class Partner:
    """A plain HTTP server. `answer` says what comes back; `received` is what came in."""

    url: str = ""
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    received: list[tuple[web.Request, bytes]] = field(default_factory=list)

    def answers(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=body, headers=named)

        self.answer = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.received.append((request, await request.read()))
        assert self.answer is not None
        return await self.answer(request)


@asynccontextmanager
async def a_partner() -> AsyncIterator[Partner]:
    made = Partner()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.handle)
    async with listening(application) as made.url:
        yield made
