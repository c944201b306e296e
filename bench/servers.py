"""The servers under measurement, each to be run in a process of its own, all on uvloop and all answering GetCompany.

- echo: grpc.aio and a handler that returns the same bytes every time;
- read: the echo plus one primary-key read, on a queue of plain asyncpg connections;
- full: evbridge as `evbridge serve` runs it, with metrics recorded by OpenTelemetry's SDK.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import grpc
from evbridge.v1.company_pb2 import DESCRIPTOR
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from service.app import database_url, evbridge, loop_factory
from service.settings import Settings
from service.telemetry import configure_logging

_SERVICE = DESCRIPTOR.services_by_name["CompanyService"].full_name
PATH = f"/{_SERVICE}/GetCompany"


class Running(NamedTuple):
    address: str
    key: str = ""
    recorded: Callable[[], int] = lambda: 0
    """How many calls of GetCompany its metrics hold."""


def run(pipe: Connection, server: Callable[..., AbstractAsyncContextManager[Running]], *arguments: Any) -> None:
    """A process's main: tells (address, key), then, whenever asked, how many calls were recorded."""

    async def serve() -> None:
        async with server(*arguments) as running:
            pipe.send((running.address, running.key))
            with suppress(EOFError):
                while True:
                    await asyncio.to_thread(pipe.recv)
                    pipe.send(running.recorded())

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve())


@asynccontextmanager
async def echo(reply: bytes) -> AsyncIterator[Running]:
    async def get_company(request: bytes, context: Any) -> bytes:
        return reply

    async with _bare(get_company) as running:
        yield running


@asynccontextmanager
async def read(directory: Path) -> AsyncIterator[Running]:
    """Attaches to the database of `full`."""
    settings = Settings(data_dir=directory)
    query = "SELECT payload FROM company WHERE tenant_id = $1 AND company_id = $2 AND delete_time IS NULL"
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(database_url(settings))
        idle = asyncio.LifoQueue[Any]()
        for _ in range(settings.database_pool_size):
            connection = await asyncpg.connect(url)
            stack.push_async_callback(connection.close)
            idle.put_nowait(connection)

        async def get_company(request: bytes, context: Any) -> bytes:
            connection = await idle.get()
            try:
                payload: bytes = await connection.fetchval(query, "default", UUID(int=1))
            finally:
                idle.put_nowait(connection)
            return payload

        yield await stack.enter_async_context(_bare(get_company))


@asynccontextmanager
async def full(directory: Path) -> AsyncIterator[Running]:
    """On an embedded PostgreSQL in `directory`, which must be new."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
    settings = Settings(listen="127.0.0.1:0", data_dir=directory)
    configure_logging(settings.log_level)
    async with evbridge(settings) as running:
        assert running.first_key is not None
        yield Running(running.address, running.first_key.reveal(), lambda: _recorded(reader))


@asynccontextmanager
async def _bare(get_company: Any) -> AsyncIterator[Running]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers: Any = {"GetCompany": grpc.unary_unary_rpc_method_handler(get_company)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Running(f"127.0.0.1:{port}")
    finally:
        await server.stop(None)


def _recorded(reader: InMemoryMetricReader) -> int:
    data = reader.get_metrics_data()
    assert data is not None
    points = (
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "rpc.server.call.duration"
        for point in metric.data.data_points
        if isinstance(point, HistogramDataPoint) and (point.attributes or {})["rpc.method"] == PATH[1:]
    )
    return sum(point.count for point in points)
