"""What evbridge's locations are measured beside, on the same PostgreSQL.

- raw: evbridge's statements on plain asyncpg connections, a loop on each, with no server around them;
- json: FastAPI and asyncpg behind uvicorn with uvloop and httptools, written as one writes it: rows of JSON text, read
  into dictionaries, answered by FastAPI. It knows no keys, no validation, no changes to record, and the statuses it
  stores do not show in its locations.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import uvicorn
from fastapi import FastAPI, HTTPException

from bench import load, servers
from service.cli.common import loop_factory
from service.settings import Settings
from service.storage.opening import database_url


class Query(NamedTuple):
    """A statement and how many rows it answers with; the `arguments` take turns."""

    text: str
    rows: int
    arguments: tuple[tuple[Any, ...], ...]


def run_raw(pipe: Connection, directory: Path) -> None:
    """A process's main: measures each (query, seconds) that it is sent, until the pipe closes."""

    async def serve() -> None:
        async with servers.connections(directory) as connections:
            with suppress(EOFError):
                while True:
                    query, seconds = await asyncio.to_thread(pipe.recv)
                    pipe.send(await _measure(query, seconds, connections))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve())


async def _measure(query: Query, seconds: float, connections: Sequence[Any]) -> load.Done:
    latencies: list[float] = []
    arguments = cycle(query.arguments)
    begun = time.perf_counter()

    async def one_after_the_other(connection: Any) -> None:
        while (started := time.perf_counter()) < begun + seconds:
            rows = await connection.fetch(query.text, *next(arguments))
            if len(rows) != query.rows:
                raise RuntimeError(f"the statement answered with {len(rows)} rows")
            latencies.append(time.perf_counter() - started)

    await asyncio.gather(*map(one_after_the_other, connections))
    return load.done(latencies, time.perf_counter() - begun)


async def json_store(connection: Any, documents: Sequence[dict[str, Any]]) -> None:
    """Makes the tables of `json_api`."""
    await connection.execute("""
        CREATE TABLE json_location (tenant text, id text, payload text NOT NULL, PRIMARY KEY (tenant, id));
        CREATE TABLE json_evse (
            tenant text, location_id text, uid text, status text NOT NULL, status_time timestamptz NOT NULL,
            PRIMARY KEY (tenant, location_id, uid)
        ) WITH (fillfactor = 80);
    """)
    locations = [("default", document["id"], json.dumps(document)) for document in documents]
    await connection.copy_records_to_table("json_location", records=locations)
    now = datetime.now(UTC)
    evses = [
        ("default", document["id"], evse["uid"], evse["status"], now)
        for document in documents
        for evse in document["evses"]
    ]
    await connection.copy_records_to_table("json_evse", records=evses)


@asynccontextmanager
async def json_api(directory: Path) -> AsyncIterator[servers.Running]:
    settings = Settings(data_dir=directory)
    size = settings.database_pool_size
    async with database_url(settings) as url, asyncpg.create_pool(url, min_size=size, max_size=size) as pool:
        config = uvicorn.Config(_application(pool), port=0, http="httptools", lifespan="off", log_level="warning")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield servers.Running(f"127.0.0.1:{port}")
        finally:
            server.should_exit = True
            await task


def _application(pool: Any) -> FastAPI:
    application = FastAPI()

    @application.get("/locations/{location_id}", response_model=None)
    async def get_location(location_id: str) -> dict[str, Any]:
        query = "SELECT payload FROM json_location WHERE tenant = $1 AND id = $2"
        payload = await pool.fetchval(query, "default", location_id)
        if payload is None:
            raise HTTPException(404)
        document: dict[str, Any] = json.loads(payload)
        return document

    @application.get("/locations", response_model=None)
    async def list_locations(limit: int = 50, after: str = "") -> dict[str, Any]:
        query = "SELECT id, payload FROM json_location WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3"
        rows = await pool.fetch(query, "default", after, limit)
        return {"locations": [json.loads(row["payload"]) for row in rows], "next": rows[-1]["id"] if rows else None}

    @application.post("/statuses", response_model=None)
    async def report_statuses(body: dict[str, Any]) -> dict[str, Any]:
        reports = body["reports"]
        columns = ([report[field] for report in reports] for field in ("location_id", "evse_uid", "status"))
        done = await pool.execute(
            "UPDATE json_evse AS e SET status = new.status, status_time = now() "
            "FROM unnest($2::text[], $3::text[], $4::text[]) AS new (location_id, uid, status) "
            "WHERE e.tenant = $1 AND e.location_id = new.location_id AND e.uid = new.uid",
            "default",
            *columns,
        )
        return {"changed_count": int(done.rpartition(" ")[2])}

    return application
