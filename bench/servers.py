"""The servers under measurement, each to be run in a process of its own, all on uvloop.

- echo: grpc.aio and handlers that return the same bytes every time;
- read: GetCompany as an echo plus one primary-key read, on a queue of plain asyncpg connections;
- full: evbridge as `evbridge serve` runs it when it exports its metrics.
"""

import asyncio
import gc
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, redirect_stderr, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import grpc
from aiohttp import web
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)

from service.app import evbridge
from service.cli.common import loop_factory
from service.export import joined
from service.settings import Settings
from service.storage.opening import database_url
from service.telemetry import configure_logging

_Handler = Callable[[bytes, Any], Awaitable[bytes]]


class Running(NamedTuple):
    address: str
    key: str = ""
    recorded: Callable[[str], int] = lambda path: 0
    """How many calls of a method its metrics hold."""


def run(pipe: Connection, server: Callable[..., AbstractAsyncContextManager[Running]], *arguments: Any) -> None:
    """A process's main: tells (address, key), then, for each path it is sent, how many calls were recorded."""

    async def serve() -> None:
        async with server(*arguments) as running:
            pipe.send((running.address, running.key))
            with suppress(EOFError):
                while True:
                    pipe.send(running.recorded(await asyncio.to_thread(pipe.recv)))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve())


@asynccontextmanager
async def http(application: web.Application) -> AsyncIterator[str]:
    """host:port of an HTTP server on loopback."""
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "{}:{}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def echo(replies: Mapping[str, bytes]) -> AsyncIterator[Running]:
    """`replies` by path."""

    def handler(reply: bytes) -> _Handler:
        async def answer(request: bytes, context: Any) -> bytes:
            return reply

        return answer

    async with _bare({path: handler(reply) for path, reply in replies.items()}) as running:
        yield running


@asynccontextmanager
async def read(path: str, directory: Path) -> AsyncIterator[Running]:
    """Attaches to the database of `full`."""
    query = "SELECT payload FROM company WHERE tenant_id = $1 AND company_id = $2 AND delete_time IS NULL"
    async with AsyncExitStack() as stack:
        idle = asyncio.LifoQueue[Any]()
        for connection in await stack.enter_async_context(connections(directory)):
            idle.put_nowait(connection)

        async def get_company(request: bytes, context: Any) -> bytes:
            connection = await idle.get()
            try:
                payload: bytes = await connection.fetchval(query, "default", UUID(int=1))
            finally:
                idle.put_nowait(connection)
            return payload

        yield await stack.enter_async_context(_bare({path: get_company}))


@asynccontextmanager
async def full(directory: Path, **changes: Any) -> AsyncIterator[Running]:
    """On an embedded PostgreSQL in `directory`, which must be new. Its log goes there too: each write has a line.

    `changes`: settings beside the defaults.
    """
    exporter = _Exporter()
    reader = PeriodicExportingMetricReader(joined(exporter), export_interval_millis=math.inf)
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
    settings = Settings(listen="127.0.0.1:0", data_dir=directory, **changes)

    def recorded(path: str) -> int:
        reader.collect()
        return _recorded(exporter.exported, path)

    with (directory / "log").open("w") as log:
        with redirect_stderr(log):
            configure_logging(settings.log_level)
        async with evbridge(settings) as running:
            assert running.first_key is not None
            gc.collect()
            gc.freeze()
            yield Running(running.address, running.first_key.reveal(), recorded)


@asynccontextmanager
async def connections(directory: Path) -> AsyncIterator[list[Any]]:
    """Plain connections to the database of `full`, as many as evbridge has."""
    settings = Settings(data_dir=directory)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(database_url(settings))
        opened = []
        for _ in range(settings.database_pool_size):
            opened.append(await asyncpg.connect(url))
            stack.push_async_callback(opened[-1].close)
        yield opened


@asynccontextmanager
async def _bare(handlers: Mapping[str, _Handler]) -> AsyncIterator[Running]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    for path, handler in handlers.items():
        _, service, method = path.split("/")
        methods: Any = {method: grpc.unary_unary_rpc_method_handler(handler)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Running(f"127.0.0.1:{port}")
    finally:
        await server.stop(None)


class _Exporter(MetricExporter):
    """Keeps what it was given last."""

    exported = MetricsData([])

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **options: Any) -> MetricExportResult:
        self.exported = metrics_data
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **options: Any) -> None:
        pass


def _recorded(data: MetricsData, path: str) -> int:
    points = (
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "rpc.server.call.duration"
        for point in metric.data.data_points
        if isinstance(point, HistogramDataPoint) and (point.attributes or {})["rpc.method"] == path[1:]
    )
    return sum(point.count for point in points)
