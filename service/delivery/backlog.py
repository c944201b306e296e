"""What waits for each integration, and how it stands, as metrics: an operator's first look at what goes wrong."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial

from evbridge.v1.integration_pb2 import IntegrationStatus
from opentelemetry import metrics

from service.storage.connection import describe
from service.storage.delivery import Backlog, delivery_backlog
from service.storage.pool import Database

log = logging.getLogger(__name__)
_MEASURE_S = 15.0

_Value = Callable[[Backlog], float]
_NUMBERS: tuple[tuple[str, str, str, _Value], ...] = (
    (
        "evbridge.delivery.waiting",
        "{delivery}",
        "Deliveries that are due, wait or are under way.",
        lambda of: of.waiting,
    ),
    ("evbridge.delivery.waiting.age", "s", "How long the oldest of these has waited.", lambda of: of.waiting_s),
    (
        "evbridge.delivery.parked",
        "{delivery}",
        "Deliveries that nobody tries again by themselves.",
        lambda of: of.parked,
    ),
)


class BacklogGauges:
    """Each process that delivers measures all integrations of the database: of several processes the highest counts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._measured: list[Backlog] = []
        meter = metrics.get_meter("evbridge.delivery")
        for name, unit, description, value in _NUMBERS:
            meter.create_observable_gauge(name, [partial(self._observed, value)], unit, description)
        meter.create_observable_gauge(
            "evbridge.integration.status", [self._statuses], description="1 for the status that an integration has."
        )

    async def run(self) -> None:
        while True:
            try:
                self._measured = await delivery_backlog(self._database)
            except Exception as error:
                self._measured = []  # better no number than an old one
                log.warning("measuring what waits failed", extra={"problem": describe(error)})
            await asyncio.sleep(_MEASURE_S)

    def _observed(self, value: _Value, _: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        return [metrics.Observation(value(each), _of(each)) for each in self._measured]

    def _statuses(self, _: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        for each in self._measured:
            status = IntegrationStatus.Name(each.status).removeprefix("INTEGRATION_STATUS_")
            yield metrics.Observation(1, {**_of(each), "evbridge.integration.status": status})


def _of(backlog: Backlog) -> dict[str, str]:
    return {"evbridge.tenant.id": backlog.tenant_id, "evbridge.integration.id": backlog.integration_id}
