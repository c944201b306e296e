"""How long after a change is stored those who watch have it, and what that costs the server.

The watchers are grpc.aio clients in this process, which has to receive what it measures: of the lag at a thousand of
them a good part is its own.
"""

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import grpc
from evbridge.v1.company_pb2 import UpsertCompanyRequest
from evbridge.v1.company_pb2_grpc import CompanyServiceStub
from evbridge.v1.watch_pb2 import WatchCompaniesRequest
from evbridge.v1.watch_pb2_grpc import WatchServiceStub

from bench import servers
from bench.rounds import Child, child
from bench.sample import company
from service.cli.common import loop_factory

WATCHERS = (1, 100, 1000)
CHANGES = 25
PAUSE_S = 0.2
ON_A_CONNECTION = 50


def report() -> None:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evb", dir="/tmp")))
        many = partial(servers.full, max_watches_per_key=max(WATCHERS))
        server = stack.enter_context(child(servers.run, many, directory))
        address, key = server.pipe.recv()
        print(f"watchers of one tenant, {CHANGES} changes {PAUSE_S} s apart; the feed is polled every 0.1 s\n")
        print(f"{'watchers':>8}{'p50 ms':>9}{'p99 ms':>9}{'last, median':>14}{'server ms a change':>20}")
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            for watchers in WATCHERS:
                runner.run(_measure(server, address, (("authorization", f"Bearer {key}"),), watchers))


async def _measure(server: Child, address: str, credential: Any, watchers: int) -> None:
    stored: dict[int, float] = {}
    lags: dict[int, list[float]] = {}

    async def watch(channel: grpc.aio.Channel, begun: asyncio.Future[None], last: int) -> None:
        stub: Any = WatchServiceStub(channel)
        async for message in stub.WatchCompanies(WatchCompaniesRequest(), metadata=credential):
            if not begun.done():
                begun.set_result(None)
            for change in message.changes:
                version = change.company.version
                # A watcher may have it before the writer has its answer.
                lags[version].append(time.perf_counter() - stored.get(version, time.perf_counter()))
                if version == last:
                    return

    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
            )
            for _ in range(0, watchers, ON_A_CONNECTION)
        ]
        companies: Any = CompanyServiceStub(channels[0])
        written = company()
        written.id = f"00000000-0000-0000-0000-{watchers:012}"
        watching = []
        for channel in channels:  # one after the other: a thousand calls at once are too many
            begun = [asyncio.get_running_loop().create_future() for _ in range(min(watchers, ON_A_CONNECTION))]
            watching += [asyncio.create_task(watch(channel, each, CHANGES)) for each in begun]
            await asyncio.gather(*begun)
        before = server.cpu_s()
        for written.version in range(1, CHANGES + 1):
            lags[written.version] = []
            await companies.UpsertCompany(UpsertCompanyRequest(company=written), metadata=credential)
            stored[written.version] = time.perf_counter()
            await asyncio.sleep(PAUSE_S)
        await asyncio.gather(*watching)
        used_ms = (server.cpu_s() - before) / CHANGES * 1e3
    every = sorted(lag for each in lags.values() for lag in each)
    last = median(max(each, default=0.0) for each in lags.values())
    p99 = quantiles(every, n=100)[98]
    print(f"{watchers:8}{median(every) * 1e3:9.1f}{p99 * 1e3:9.1f}{last * 1e3:14.1f}{used_ms:20.1f}", flush=True)
