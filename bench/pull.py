"""A list of an OCPI partner, pulled: all of it, then once more, when nothing changed.

evbridge is a process of its own, with PostgreSQL; this one plays the partner, from memory. Processor time is
evbridge's, without PostgreSQL's.
"""

import asyncio
import gc
import tempfile
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web
from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_OCPI, Integration, IntegrationModels
from evbridge.v1.ocpi_connection_pb2 import (
    INTERFACE_ROLE_BOTH,
    INTERFACE_ROLE_SENDER,
    OcpiConnection,
    PartnerCompany,
    VersionDetails,
    VersionEndpoint,
)
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO
from evbridge.v1.run_pb2 import RUN_KIND_SYNC, RUN_STATE_SUCCEEDED, Run, StartRunRequest, SyncOptions, WaitRunRequest
from evbridge.v1.run_pb2_grpc import RunServiceStub

from bench import servers
from bench.rounds import Child, child
from bench.sample import location
from service.app import evbridge
from service.cli.common import loop_factory
from service.domain.secret import Secret
from service.partners.ocpi.mapping import object_to, text_of
from service.settings import Settings
from service.storage.api_key import api_key_create
from service.storage.integration import THEIR_TOKEN, integration_insert, secrets_put
from service.storage.statements import Statement

COUNT, FULL_COUNT = 10_000, 100_000
VERSION = "2.2.1"
_PAGE = 100
ID, _TENANT = "partner", "acme"
_BY_HAND = Statement("by_hand", "UPDATE integration SET pull_time = 'infinity'")


def report(count: int = COUNT) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_report(count))


async def _report(count: int) -> None:
    texts = [_text(number) for number in range(count)]
    application = web.Application()
    application.router.add_get("/locations", lambda request: _page(request, texts))
    async with servers.http(application) as partner:
        with (
            tempfile.TemporaryDirectory(prefix="evb", dir="/tmp") as directory,
            child(serve, Path(directory), _integration(f"http://{partner}"), THEIR_TOKEN) as server,
        ):
            address, key = await asyncio.to_thread(server.pipe.recv)
            print(f"\nOCPI {VERSION}: {count} locations pulled, {_PAGE} a page\n")
            print(f"{'':28}{'a second':>10}{'CPU us':>9}{'MB more':>9}")
            async with grpc.aio.insecure_channel(address) as channel:
                for name in ("new", "the same again"):
                    assert (await measure(RunServiceStub(channel), key, server, name, count)).progress.done == count


async def measure(stub: Any, key: str, server: Child, name: str, count: int) -> Run:
    """A run that reads `count` objects, and what it took."""
    bearer = (("authorization", f"Bearer {key}"),)
    cpu_s, memory_mb = server.cpu_s(), _memory_mb(server)
    request = StartRunRequest(integration_id=ID, kind=RUN_KIND_SYNC, sync_options=SyncOptions(whole=True))
    run: Run = await stub.StartRun(request, metadata=bearer, timeout=10)
    while not run.HasField("end_time"):
        run = await stub.WaitRun(WaitRunRequest(id=run.id), metadata=bearer, timeout=20)
    assert run.state == RUN_STATE_SUCCEEDED, run
    seconds = (run.end_time.ToDatetime() - run.start_time.ToDatetime()).total_seconds()
    cpu_us = (server.cpu_s() - cpu_s) / count * 1e6
    print(f"{name:28}{count / seconds:10.0f}{cpu_us:9.0f}{_memory_mb(server) - memory_mb:9.0f}", flush=True)
    return run


def _memory_mb(server: Child) -> int:
    """The most that was resident so far."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) // 1024


def _text(number: int) -> str:
    object = object_to(location(number), VERSION).object
    return text_of(object | {"last_updated": "2026-01-01T00:00:00Z"})


async def _page(request: web.Request, texts: list[str]) -> web.Response:
    offset = int(request.query.get("offset", "0"))
    following = offset + _PAGE
    headers = {"X-Total-Count": str(len(texts))}
    if following < len(texts):
        headers["Link"] = f'<{request.url.with_query(offset=following)}>; rel="next"'
    data = ",".join(texts[offset:following])
    text = f'{{"data": [{data}], "status_code": 1000, "timestamp": "2026-01-01T00:00:00Z"}}'
    return web.Response(text=text, headers=headers, content_type="application/json")


def serve(pipe: Connection, directory: Path, integration: Integration, secret: str) -> None:
    """A process's main: tells its address and a key."""

    async def run() -> None:
        settings = Settings(
            listen="127.0.0.1:0",
            data_dir=directory,
            first_key=False,
            egress_allow_loopback=True,
            egress_allow_http=True,
        )
        async with evbridge(settings) as running:
            async with running.database.transaction() as conn:
                key = await api_key_create(conn, running.keyring, _TENANT, "", options.ROLE_ADMIN)
                await integration_insert(conn, _TENANT, integration)
                await secrets_put(conn, running.keyring, _TENANT, ID, {secret: Secret("token-of-the-bench")})
                await conn.run(_BY_HAND)
            gc.collect()
            gc.freeze()  # as `evbridge serve` does
            pipe.send((running.address, key.reveal()))
            with suppress(EOFError):
                await asyncio.to_thread(pipe.recv)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


def _integration(url: str) -> Integration:
    endpoint = VersionEndpoint(identifier="locations", role=INTERFACE_ROLE_SENDER, url=f"{url}/locations")
    return Integration(
        id=ID,
        type=INTEGRATION_TYPE_OCPI,
        enabled=True,
        models=IntegrationModels(pull_location=True),
        ocpi=OcpiConnection(endpoint_url=f"{url}/versions", initial_role=INTERFACE_ROLE_BOTH, their_token_set=True),
        version_details=VersionDetails(version=VERSION, endpoints=[endpoint]),
        partner_company_details=[PartnerCompany(role=PARTY_ROLE_CPO, country_code="DE", party_id="WAT")],
    )
