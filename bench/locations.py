"""One location, a page of a hundred, a hundred statuses: evbridge beside an echo, its bare statements and a JSON API.

Then how a page and a search grow with the table.
"""

import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC
from functools import partial
from math import pi, sqrt
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import asyncpg
import grpc
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_AVAILABLE,
    EVSE_STATUS_CHARGING,
    BatchUpsertLocationsRequest,
    BoundingBox,
    EvseStatus,
    EvseStatusReport,
    GeoLocation,
    GetLocationRequest,
    ListLocationsRequest,
    Location,
    LocationKey,
    NearPoint,
    ReportEvseStatusRequest,
    ReportEvseStatusResponse,
    SearchLocationsRequest,
)
from evbridge.v1.location_pb2_grpc import LocationServiceStub
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, CreatePartyRequest, Party
from evbridge.v1.party_pb2_grpc import PartyServiceStub
from google.protobuf.json_format import MessageToDict

from bench import load, peers, servers
from bench.rounds import BURST_S, Child, Round, child, play, ratio, show
from bench.sample import location
from service.domain.keys import ObjectKey, columns, key_of
from service.domain.pages import MAX_BYTES, token_after
from service.settings import Settings
from service.storage.evse_payload import evse_payload
from service.storage.location import sql
from service.storage.opening import database_url

ROUNDS = 5
SECONDS = 0.7
WARM_UP_S = 0.4
PAGE = 100
REPORTS = 100
STORED = 800  # locations; their EVSEs are 16 sets to report on, so that calls in flight seldom wait for each other

SIZES = (1_000, 100_000)
FULL_SIZES = (*SIZES, 1_000_000)
CALLS = 15
_AREA = (47.0, 8.0, 6.0, 9.0)  # degrees: from the south, how far north, from the west, how far east
_AREA_KM2 = 590_000


class Job(NamedTuple):
    """The same work in each one's words: gRPC, JSON over HTTP/1.1, and SQL."""

    method: str
    items: int
    connections: tuple[int, int]
    """And the calls in flight on each. The JSON API has a connection for each call in flight, the statement ten."""
    requests: tuple[bytes, ...]
    reply: bytes
    replies: range
    json_path: str
    json_requests: tuple[bytes, ...]
    json_replies: range
    query: peers.Query
    aims: dict[str, float]
    """At least how many calls for one of another."""

    @property
    def path(self) -> str:
        return f"/evbridge.v1.LocationService/{self.method}"


class Stub:
    """evbridge's services with the credential, for what is not measured by `load`."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._options: Any = {"metadata": (("authorization", f"Bearer {key}"),), "timeout": 30}
        self._parties = PartyServiceStub(channel)
        self._locations = LocationServiceStub(channel)

    def store(self, locations: Sequence[Location]) -> None:
        """With the party that owns them."""
        owner = Party(country_code="DE", party_id="WAT", roles=[PARTY_ROLE_CPO])
        owner.business_details.name = "Wattwerk Energie"
        self._parties.CreateParty(CreatePartyRequest(party=owner), **self._options)
        for start in range(0, len(locations), 400):
            batch = BatchUpsertLocationsRequest(locations=locations[start : start + 400], allow_missing=True)
            results = self._locations.BatchUpsertLocations(batch, **self._options).results
            if wrong := [each.error for each in results if each.HasField("error")]:
                raise RuntimeError(f"a location was refused: {wrong[0]}")

    def call(self, method: str, request: Any) -> Any:
        return getattr(self._locations, method)(request, **self._options)


def report(*, sizes: Sequence[int] = SIZES) -> None:
    with ExitStack() as stack:
        # A unix socket's path is short.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evb", dir="/tmp")))
        client = stack.enter_context(child(load.run))
        full = stack.enter_context(child(servers.run, partial(servers.full, burst_s=BURST_S), directory))
        address, key = full.pipe.recv()
        stub = Stub(stack.enter_context(grpc.insecure_channel(address)), key)
        jobs = _jobs(stub, directory)
        replies = {job.path: job.reply for job in jobs}
        with ExitStack() as others:
            children = {
                "echo": others.enter_context(child(servers.run, servers.echo, replies)),
                "raw": others.enter_context(child(peers.run_raw, directory)),
                "json": others.enter_context(child(servers.run, peers.json_api, directory)),
                "full": full,
            }
            addresses = {name: children[name].pipe.recv()[0] for name in ("echo", "json")} | {"full": address}
            print(
                f"\nLocations, beside an echo, the bare statement and a JSON API: "
                f"median of {ROUNDS} interleaved rounds of {SECONDS} s"
            )
            for job in jobs:
                _show(job, _measured(job, children, client, addresses, key))
        _grow(stub, directory, sizes)


def _measured(
    job: Job, children: dict[str, Child], client: Child, addresses: dict[str, str], key: str
) -> list[dict[str, Round]]:
    connections, in_flight = job.connections
    grpc_call = load.Call("", job.path, key, job.requests, job.replies, connections, in_flight)
    calls: dict[str, Any] = {name: grpc_call._replace(address=addresses[name]) for name in ("echo", "full")}
    calls["json"] = load.Call(
        addresses["json"],
        job.json_path,
        "",
        job.json_requests,
        job.json_replies,
        connections * in_flight,
        1,
        grpc=False,
    )
    calls["raw"] = job.query
    clients = dict.fromkeys(children, client) | {"raw": children["raw"]}  # the loop of statements is its own client

    for name, server in children.items():
        play(server, clients[name], calls[name], WARM_UP_S)
    before = children["full"].ask(job.path)
    turns = [
        {name: play(server, clients[name], calls[name], SECONDS) for name, server in children.items()}
        for _ in range(ROUNDS)
    ]
    if (recorded := children["full"].ask(job.path) - before) != (made := sum(turn["full"].calls for turn in turns)):
        raise RuntimeError(f"of {made} calls the metrics hold {recorded}")
    return turns


def _show(job: Job, turns: list[dict[str, Round]]) -> None:
    of_items = f" of {job.items}" if job.items > 1 else ""
    connections, in_flight = job.connections
    print(
        f"\n{job.method}{of_items}, {len(job.requests[0])} bytes asked and {len(job.reply)} answered, in JSON "
        f"{job.json_replies[-1]}; {connections * in_flight} calls in flight\n"
    )
    show(turns, ("echo", "json"), job.items)
    for other, aim in job.aims.items():
        reached = ratio(turns, "full", other)
        print(f"{reached:.2f} of {other}, the aim is {aim:.2f}{'' if reached >= aim else ': FALLS SHORT'}")


def _jobs(stub: Stub, directory: Path) -> tuple[Job, ...]:
    """Stores what they are about, for both."""
    locations = [location(number) for number in range(STORED)]
    stub.store(locations)
    get = GetLocationRequest(key=_named(locations[STORED // 2]))
    one = stub.call("GetLocation", get)
    page_request = ListLocationsRequest(page_size=PAGE)
    page = stub.call("ListLocations", page_request)
    documents = [_document(each) for each in locations]

    async def prepare(connection: Any) -> None:
        await peers.json_store(connection, documents)
        # As autovacuum would within a minute: plans made without statistics are others.
        await connection.execute("VACUUM ANALYZE")

    asyncio.run(_in_database(directory, prepare))
    listed = {"locations": documents[:PAGE], "next": documents[PAGE - 1]["id"]}
    reports = [
        tuple(_reports(locations[start : start + REPORTS // 2], status))
        for status in (EVSE_STATUS_CHARGING, EVSE_STATUS_AVAILABLE)
        for start in range(0, STORED, REPORTS // 2)
    ]
    changed = ReportEvseStatusResponse(changed_count=REPORTS).SerializeToString()
    return (
        Job(
            "GetLocation",
            1,
            (16, 4),
            (get.SerializeToString(),),
            one.SerializeToString(),
            _stored(one.ByteSize(), len(one.evses)),
            f"/locations/{one.id}",
            (b"",),
            _exactly(len(_json(documents[STORED // 2]))),
            peers.Query(sql.location_get.text, 1, (("default", *key_of(one)),)),
            {"echo": 0.6},
        ),
        Job(
            "ListLocations",
            PAGE,
            (8, 2),
            (page_request.SerializeToString(),),
            page.SerializeToString(),
            _stored(page.ByteSize(), sum(len(each.evses) for each in page.locations)),
            f"/locations?limit={PAGE}",
            (b"",),
            _exactly(len(_json(listed))),
            peers.Query(sql.location_page.text, PAGE + 1, (("default", *[""] * 6, PAGE + 1, MAX_BYTES, ""),)),
            {"json": 3.0},
        ),
        Job(
            "ReportEvseStatus",
            REPORTS,
            (8, 1),
            tuple(ReportEvseStatusRequest(reports=each).SerializeToString() for each in reports),
            changed,
            range(len(changed) + 1),  # nothing is answered where nothing changed
            "/statuses",
            tuple(_json({"reports": [_json_report(report) for report in each]}) for each in reports),
            _exactly(len(_json({"changed_count": REPORTS}))),
            peers.Query(sql.evse_put.text, 0, tuple(_report_arguments(one, each) for each in reports)),
            {"json": 1.0},
        ),
    )


def _exactly(size: int) -> range:
    return range(size, size + 1)


def _stored(size: int, evses: int) -> range:
    """How many bytes are answered for a message of `size`: an EVSE is stored in some more than it needs."""
    return range(size, size + 20 * evses)


def _named(each: Location) -> LocationKey:
    return LocationKey(country_code=each.country_code, party_id=each.party_id, id=each.id)


def _document(each: Location) -> dict[str, Any]:
    document: dict[str, Any] = MessageToDict(each, preserving_proto_field_name=True)
    return document


def _json(document: Any) -> bytes:
    """As FastAPI writes it."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _reports(locations: Sequence[Location], status: "EvseStatus.ValueType") -> Iterator[EvseStatusReport]:
    for each in locations:
        for evse in each.evses:
            yield EvseStatusReport(location=_named(each), evse_uid=evse.uid, status=status)


def _json_report(report: EvseStatusReport) -> dict[str, str]:
    status = EvseStatus.Name(report.status)
    return {"location_id": report.location.id, "evse_uid": report.evse_uid, "status": status}


def _report_arguments(stored: Location, reports: Sequence[EvseStatusReport]) -> tuple[Any, ...]:
    """Those of the update alone; the payload is that of one EVSE, as all are of one size."""
    time = stored.last_updated.ToDatetime(tzinfo=UTC)
    payload = evse_payload(stored.evses[0])
    return (
        "default",
        *columns(key_of(report.location) for report in reports),
        [report.evse_uid.casefold() for report in reports],
        [0] * len(reports),
        [report.status for report in reports],
        [time] * len(reports),
        [time] * len(reports),
        [payload] * len(reports),
        [""] * len(reports),
    )


async def _in_database(directory: Path, work: Any) -> None:
    """Runs `work(connection)` on the database of `full`."""
    async with database_url(Settings(data_dir=directory)) as url:
        connection = await asyncpg.connect(url)
        try:
            await work(connection)
        finally:
            await connection.close()


def _grow(stub: Stub, directory: Path, sizes: Sequence[int]) -> None:
    """Fills the table with copies of one location with one EVSE, spread over an area."""
    template = stub.call("GetLocation", GetLocationRequest(key=_named(location(0))))
    names = ("first", "middle", "last", "near", "box")
    print(
        f"\nA page of {PAGE} locations, and a search for 50, by how many there are: median of {CALLS} calls, ms\n\n"
        f"{'':>9}{''.join(f'{name:>9}' for name in names)}{'found':>9}"
    )
    before = 0
    for size in sizes:
        asyncio.run(
            _in_database(directory, lambda connection, to=size, start=before: _fill(connection, template, start, to))
        )
        before = size
        _show_size(stub, size, names)


def _show_size(stub: Stub, size: int, names: Sequence[str]) -> None:
    first = ListLocationsRequest(page_size=PAGE)
    middle, last = (
        ListLocationsRequest(page_size=PAGE, page_token=token_after(first, str(ObjectKey("DE", "WAT", f"{row:08}"))))
        for row in (size // 2, size - PAGE)
    )
    # As far as about 50 are to be found.
    south, high, west, wide = _AREA
    radius_m = int(min(100_000, sqrt(50 * _AREA_KM2 / (size * pi)) * 1000))
    centre = GeoLocation(latitude=f"{south + high / 2:.6f}", longitude=f"{west + wide / 2:.6f}")
    part = sqrt(50 / size)
    corners = (
        GeoLocation(
            latitude=f"{south + high / 2 + side * high * part / 2:.6f}",
            longitude=f"{west + wide / 2 + side * wide * part / 2:.6f}",
        )
        for side in (-1, 1)
    )
    box = BoundingBox(south_west=next(corners), north_east=next(corners))
    requests = (
        ("ListLocations", first),
        ("ListLocations", middle),
        ("ListLocations", last),
        ("SearchLocations", SearchLocationsRequest(near=NearPoint(point=centre, radius_m=radius_m))),
        ("SearchLocations", SearchLocationsRequest(box=box)),
    )
    calls: list[list[float]] = []
    found: list[int] = []
    for _ in range(CALLS):
        took: list[float] = []
        found = []
        for method, request in requests:
            started = perf_counter()
            answer = stub.call(method, request)
            took.append((perf_counter() - started) * 1000)
            found.append(len(answer.locations))
        calls.append(took)
    if found[:3] != [PAGE] * 3 or not all(found):
        raise RuntimeError(f"of {names} were found {found}")
    times = "".join(f"{median(column):9.2f}" for column in zip(*calls, strict=True))
    print(f"{size:>9,}{times}{found[3]:>6}+{found[4]:<2}", flush=True)


async def _fill(connection: Any, template: Location, start: int, size: int) -> None:
    evse = evse_payload(template.evses[0])
    own = Location()
    own.CopyFrom(template)
    own.ClearField("evses")
    if not start:
        await connection.execute("TRUNCATE location CASCADE")
    south, high, west, wide = _AREA
    await connection.execute(
        "INSERT INTO location (tenant_id, country_code, party_id, key, latitude, longitude, etag, payload, "
        "last_updated) "
        "SELECT 'default', 'DE', 'WAT', to_char(row, 'FM00000000'), $3 + random() * $4, $5 + random() * $6, '', $7, "
        "now() "
        "FROM generate_series($1::integer + 1, $2) AS row",
        start,
        size,
        south,
        high,
        west,
        wide,
        own.SerializeToString(),
        timeout=600,
    )
    await connection.execute(
        "INSERT INTO evse (tenant_id, country_code, party_id, location_key, key, position, status, status_time, "
        "last_updated, tariff_keys, payload) "
        "SELECT 'default', 'DE', 'WAT', to_char(row, 'FM00000000'), 'a1', 0, 1, now(), now(), '{}', $3 "
        "FROM generate_series($1::integer + 1, $2) AS row",
        start,
        size,
        evse,
        timeout=600,
    )
    # As autovacuum would, a little later.
    await connection.execute("VACUUM ANALYZE location, evse", timeout=600)
