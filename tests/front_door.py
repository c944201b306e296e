"""How tests speak to evbridge: generated stubs on a real channel, with the key of a tenant of their own.

And how they run it as others do: as a process, beside a collector of its traces.
"""

import asyncio
import base64
import copy
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
from aiohttp import web
from evbridge.options.v1 import options_pb2
from evbridge.v1 import (
    api_key_pb2_grpc,
    audit_pb2_grpc,
    authorization_pb2_grpc,
    cdr_pb2_grpc,
    chargeprice_connection_pb2,
    charger_pb2,
    charger_pb2_grpc,
    command_pb2_grpc,
    company_pb2_grpc,
    delivery_pb2,
    delivery_pb2_grpc,
    disclosure_pb2_grpc,
    error_reason_pb2,
    hub_client_pb2_grpc,
    integration_pb2,
    integration_pb2_grpc,
    invoice_reconciliation_pb2,
    invoice_reconciliation_pb2_grpc,
    location_pb2,
    location_pb2_grpc,
    ocpi_connection_pb2,
    partner_pb2_grpc,
    party_pb2,
    party_pb2_grpc,
    personal_data_pb2_grpc,
    pricing_pb2_grpc,
    publication_pb2,
    publication_pb2_grpc,
    quarantine_pb2_grpc,
    reconciliation_pb2_grpc,
    registration_pb2_grpc,
    run_pb2_grpc,
    session_pb2_grpc,
    tariff_pb2,
    tariff_pb2_grpc,
    token_pb2,
    token_pb2_grpc,
    types_pb2,
    watch_pb2_grpc,
)
from evbridge.v1.company_pb2 import Company, ExternalSourceMapping
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from google.type.decimal_pb2 import Decimal

from service.__main__ import COMMANDS, main
from service.settings import Settings
from service.storage.pool import Database
from service.storage.statements import Statement
from tests.partners import listening

KEYS = f"test:{base64.b64encode(bytes(range(32))).decode()}"


ROOM_BYTES = 4 << 30


def settings(database_url: str, **changes: Any) -> Settings:
    """A server on a free port that may call partners on this machine and does not wait long."""
    return Settings(
        **{
            "listen": "127.0.0.1:0",
            "ocpi_listen": "127.0.0.1:0",
            "database_url": database_url,
            "secrets_keys": KEYS,
            "data_dir": Path("/nonexistent"),
            "first_key": False,
            "egress_allow_loopback": True,
            "egress_allow_http": True,
            "delivery_poll_s": 0.02,
            "delivery_backoff_s": 0.05,
            "watch_poll_s": 0.02,
            "drain_s": 5.0,
            "lame_duck_s": 0.0,  # no balancer watches
            "database_pool_size": 4,
            "burst_s": 10.0,  # a busy machine is no overload
            "ocpi_unknown_per_minute": 1_000_000,  # all tests have one address
            **changes,
        }
    )


class Client:
    """The stubs of every service, with one credential."""

    def __init__(self, channel: grpc.aio.Channel, key: str | None) -> None:
        metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self.keys = _Stub(api_key_pb2_grpc.KeyServiceStub(channel), metadata)
        self.companies = _Stub(company_pb2_grpc.CompanyServiceStub(channel), metadata)
        self.integrations = _Stub(integration_pb2_grpc.IntegrationServiceStub(channel), metadata)
        self.deliveries = _Stub(delivery_pb2_grpc.DeliveryServiceStub(channel), metadata)
        self.disclosures = _Stub(disclosure_pb2_grpc.DisclosureServiceStub(channel), metadata)
        self.parties = _Stub(party_pb2_grpc.PartyServiceStub(channel), metadata)
        self.locations = _Stub(location_pb2_grpc.LocationServiceStub(channel), metadata)
        self.chargers = _Stub(charger_pb2_grpc.ChargerServiceStub(channel), metadata)
        self.registration = _Stub(registration_pb2_grpc.RegistrationServiceStub(channel), metadata)
        self.runs = _Stub(run_pb2_grpc.RunServiceStub(channel), metadata)
        self.personal_data = _Stub(personal_data_pb2_grpc.PersonalDataServiceStub(channel), metadata)
        self.quarantine = _Stub(quarantine_pb2_grpc.QuarantineServiceStub(channel), metadata)
        self.publication = _Stub(publication_pb2_grpc.PublicationServiceStub(channel), metadata)
        self.partners = _Stub(partner_pb2_grpc.PartnerServiceStub(channel), metadata)
        self.sessions = _Stub(session_pb2_grpc.SessionServiceStub(channel), metadata)
        self.cdrs = _Stub(cdr_pb2_grpc.CdrServiceStub(channel), metadata)
        self.reconciliation = _Stub(reconciliation_pb2_grpc.ReconciliationServiceStub(channel), metadata)
        self.invoice_reconciliation = _Stub(
            invoice_reconciliation_pb2_grpc.InvoiceReconciliationServiceStub(channel), metadata
        )
        self.tariffs = _Stub(tariff_pb2_grpc.TariffServiceStub(channel), metadata)
        self.hub_clients = _Stub(hub_client_pb2_grpc.HubClientServiceStub(channel), metadata)
        self.commands = _Stub(command_pb2_grpc.CommandServiceStub(channel), metadata)
        self.audit = _Stub(audit_pb2_grpc.AuditServiceStub(channel), metadata)
        self.authorizations = _Stub(authorization_pb2_grpc.AuthorizationServiceStub(channel), metadata)
        self.tokens = _Stub(token_pb2_grpc.TokenServiceStub(channel), metadata)
        self.watch = _Stub(watch_pb2_grpc.WatchServiceStub(channel), metadata)
        self.pricing = _Stub(pricing_pb2_grpc.PricingServiceStub(channel), metadata)


class _Stub:
    def __init__(self, stub: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stub = stub
        self._metadata = metadata

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._stub, name)

        def call(request: Any, timeout: float = 20.0) -> Awaitable[Any]:
            return method(request, metadata=self._metadata, timeout=timeout)

        return call


@dataclass(frozen=True)
class Failure:
    """What a caller sees of an error."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)
    violations: dict[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None


def failure_of(error: grpc.aio.AioRpcError) -> Failure:
    raw = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    found: dict[str, Any] = {"reason": ""}
    for detail in status_pb2.Status.FromString(raw).details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            assert info.domain == "evbridge"
            assert info.reason in error_reason_pb2.ErrorReason.keys()  # noqa: SIM118 (an enum wrapper, not a dict)
            found |= {"reason": info.reason, "metadata": dict(info.metadata)}
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(detail.value)
            found["violations"] = {violation.field: violation.description for violation in bad.field_violations}
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            found["retry_after_s"] = (
                error_details_pb2.RetryInfo.FromString(detail.value).retry_delay.ToTimedelta().total_seconds()
            )
    return Failure(code=error.code(), message=error.details() or "", **found)


async def fails(call: Awaitable[Any]) -> Failure:
    """The failure of a call that must fail."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return failure_of(error)
    raise AssertionError(f"the call succeeded: {answer}")


_WAITED_FOR = Statement(
    "waited_for", "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
)


_NOTICES = Statement(
    "notices_heard",
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'evbridge-notices' AND state = 'idle'"
    " AND datname = current_database() AND query LIKE '%pg_notify%'",
)


async def notices_heard(database: Database, processes: int) -> None:
    """Returns once so many processes hear notices."""
    while await database.value(_NOTICES) < processes:
        await asyncio.sleep(0.01)


async def beside(database: Database, work: Statement, *args: Any, call: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
    """Begins a call that has to wait for a transaction which does `work`, ends that, and returns the call.

    On a slow machine the call may have given up waiting.
    """
    async with database.transaction() as conn:
        await conn.run(work, *args)
        calling = asyncio.ensure_future(call())
        while not calling.done() and not await conn.value(_WAITED_FOR):
            await asyncio.sleep(0.01)
    return calling


def a_company(**changes: Any) -> Company:
    """A valid company at version 1 under a new id."""
    return Company(
        **{
            "id": str(uuid4()),
            "version": 1,
            "name": "Wattwerk",
            "url": "https://wattwerk.example/laden",
            "is_cpo": True,
            "is_emp": False,
            "external_source_mapping": ExternalSourceMapping(going_electric_names=["Wattwerk", "WW"]),
            "supported_emp_ids": [str(uuid4())],
            **changes,
        }
    )


def an_integration(base_url: str = "http://127.0.0.1:9", api_key: str = "partner-key", **changes: Any) -> Any:
    """A valid, enabled Chargeprice integration."""
    connection = chargeprice_connection_pb2.ChargepriceConnection(base_url=base_url, api_key=api_key)
    return an_integration_of("chargeprice", **{"chargeprice": connection, **changes})


_HERE = "http://127.0.0.1:9"
_MORE: dict[str, dict[str, Any]] = {
    "ocpi": {
        "endpoint_url": f"{_HERE}/ocpi/versions",
        "initial_role": ocpi_connection_pb2.INTERFACE_ROLE_SENDER,
    },
    "utility_cloud": {"token_url": f"{_HERE}/token", "tenant": "acme", "client_id": "evbridge"},
    "salesforce": {"client_id": "evbridge"},
    "http": {"partner": "acme"},
}


def _a_connection(of: Any) -> Any:
    connection = GetMessageClass(of.message_type)
    urls = {each.name: _HERE for each in of.message_type.fields if each.GetOptions().Extensions[options_pb2.url]}
    return connection(**{**urls, **_MORE.get(of.name, {})})


_TYPES = integration_pb2.Integration.DESCRIPTOR.oneofs_by_name["connection"].fields
CONNECTIONS: dict[str, Any] = {each.name: _a_connection(each) for each in _TYPES}
"""A valid connection of every type but for its secrets, by the name of the type in lower case."""


def an_integration_of(type: str, /, secret: str = "partner-key", **changes: Any) -> Any:
    """A valid, enabled integration of any type, with this secret wherever the connection takes one."""
    connection = copy.deepcopy(CONNECTIONS[type])
    for name, described in connection.DESCRIPTOR.fields_by_name.items():
        if described.GetOptions().Extensions[options_pb2.secret]:
            setattr(connection, name, secret)
    return integration_pb2.Integration(
        **{"type": f"INTEGRATION_TYPE_{type.upper()}", "enabled": True, type: connection, **changes}
    )


AT_REST = (delivery_pb2.DELIVERY_STATE_DELIVERED, delivery_pb2.DELIVERY_STATE_PARKED)


async def settled(client: Client, object_id: str, limit_s: float = 60.0) -> delivery_pb2.Delivery:
    """The only delivery of an object, with its attempts, once it came to rest."""
    async with asyncio.timeout(limit_s):
        while True:
            page = await client.deliveries.ListDeliveries(delivery_pb2.ListDeliveriesRequest(object_id=object_id))
            if page.deliveries:
                assert len(page.deliveries) == 1
                request = delivery_pb2.GetDeliveryRequest(id=page.deliveries[0].id)
                if (delivery := await client.deliveries.GetDelivery(request)).state in AT_REST:
                    return delivery
            await asyncio.sleep(0.02)


async def at_rest(client: Client, integration_id: str, limit_s: float = 60.0) -> Sequence[delivery_pb2.Delivery]:
    """The deliveries through an integration, once all came to rest."""
    request = delivery_pb2.ListDeliveriesRequest(integration_id=integration_id, page_size=1000)
    async with asyncio.timeout(limit_s):
        while True:
            page = await client.deliveries.ListDeliveries(request)
            assert not page.next_page_token
            if all(each.state in AT_REST for each in page.deliveries):
                return list(page.deliveries)
            await asyncio.sleep(0.02)


@contextmanager
def data_directory() -> Iterator[Path]:
    """An empty one for PostgreSQL: short, as the path of a unix socket is, and in memory where there is room."""
    memory = Path("/dev/shm")
    room = shutil.disk_usage(memory).free if memory.is_dir() else 0
    with tempfile.TemporaryDirectory(prefix="evb", dir=memory if room > ROOM_BYTES else "/tmp") as directory:
        yield Path(directory)


def free_address() -> str:
    """One that nobody listens on, and no call is made from."""
    while True:
        port = random.randrange(15_000, 30_000)  # below those that a system gives out
        with suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return f"127.0.0.1:{port}"


def environment(database_url: str, **changes: object) -> dict[str, str]:
    """The variables of a process of evbridge: `settings`, and `changes` under their names without EVBRIDGE_."""
    ours = {
        "LISTEN": "127.0.0.1:0",
        "OCPI_LISTEN": "127.0.0.1:0",
        "DATABASE_URL": database_url,
        "SECRETS_KEYS": KEYS,
        "FIRST_KEY": "false",
        "EGRESS_ALLOW_LOOPBACK": "true",
        "EGRESS_ALLOW_HTTP": "true",
        "DELIVERY_POLL_S": "0.02",
        "DELIVERY_BACKOFF_S": "0.05",
        "BURST_S": "10",
        "OCPI_UNKNOWN_PER_MINUTE": "1000000",
        **changes,
    }
    others = {name: text for name, text in os.environ.items() if not name.startswith(("EVBRIDGE_", "OTEL_"))}
    return others | {f"EVBRIDGE_{name}": str(value) for name, value in ours.items()}


@dataclass(frozen=True)
class Ended:
    """What became of a command."""

    code: int
    out: str
    err: str


# Its processes begin as a fork of one that has imported everything, which takes longer than most commands do.
FORKS = multiprocessing.get_context("forkserver")
_EXIT_CODES = threading.Lock()
FORKS.set_forkserver_preload(["service.__main__", "service.app", *(f"service.cli.{name}" for name in COMMANDS)])


async def command(environ: dict[str, str], *arguments: str, limit_s: float = 200.0) -> Ended:
    """Runs `evbridge <arguments>` to its end; one that has not ended after `limit_s` is killed."""
    with tempfile.TemporaryDirectory() as directory:
        out, err = Path(directory, "out"), Path(directory, "err")
        process = FORKS.Process(target=_evbridge, args=(environ, arguments, out, err))
        await asyncio.to_thread(_run, process, limit_s)
        ended = Ended(process.exitcode or 0, out.read_text(), err.read_text())
        process.close()
    return ended


def _run(process: ForkServerProcess, limit_s: float) -> None:
    """To its end. A start reads the exit codes of others too, and each can be read once: so one at a time."""
    with _EXIT_CODES:
        process.start()
    if not wait([process.sentinel], limit_s):
        process.kill()
    with _EXIT_CODES:
        process.join()


def _evbridge(environ: dict[str, str], arguments: Sequence[str], out: Path, err: Path) -> None:
    os.environ.clear()
    os.environ.update(environ)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["evbridge", *arguments]
    main()


class Serving:
    """`evbridge serve` as a process; `log` is what it wrote to stderr so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.address = ""
        self.log = ""

    async def started(self) -> None:
        """Raises AssertionError, with the log, when it ends instead."""
        while not self.address:
            line = await self._line()
            assert line, self.log
            if line.startswith("evbridge serves on "):
                self.address = line.split()[-1]

    async def ended(self) -> int:
        """Reads on until it ends; its exit code."""
        while await self._line():
            pass
        return await self.process.wait()

    async def _line(self) -> str:
        assert self.process.stderr is not None
        line = (await self.process.stderr.readline()).decode()
        self.log += line
        return line


@asynccontextmanager
async def serving(
    environ: dict[str, str], *arguments: str, program: Sequence[str] = ("-m", "service")
) -> AsyncIterator[Serving]:
    """A server that takes calls. It is told to stop at the end, if it still runs or was stopped by a signal."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *program, "serve", *arguments),
        env=environ,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    server = Serving(process)
    reading = None
    try:
        await server.started()
        reading = asyncio.create_task(server.ended())
        yield server
    finally:
        if process.returncode is None:
            process.terminate()
            process.send_signal(signal.SIGCONT)
        await (reading or server.ended())


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[str, list[bytes]]]:
    """An OTLP/HTTP collector: its URL, and the bodies it was sent, each after its path."""
    bodies: list[bytes] = []

    async def collect(request: web.Request) -> web.Response:
        bodies.append(request.path.encode() + b"\n" + await request.read())
        return web.Response()

    application = web.Application(client_max_size=1 << 26)
    application.router.add_post("/v1/{signal}", collect)
    async with listening(application) as url:
        yield url, bodies


def a_party(**changes: Any) -> party_pb2.Party:
    """DE*ABC, an operator."""
    return party_pb2.Party(
        **{
            "country_code": "DE",
            "party_id": "ABC",
            "roles": [party_pb2.PARTY_ROLE_CPO],
            "business_details": types_pb2.BusinessDetails(name="Wattwerk"),
            **changes,
        }
    )


def a_tariff(**changes: Any) -> tariff_pb2.Tariff:
    """25 cents a kWh, by DE*ABC."""
    energy = tariff_pb2.PriceComponent(
        type=tariff_pb2.TARIFF_DIMENSION_TYPE_ENERGY, price=Decimal(value="0.25"), vat=Decimal(value="19"), step_size=1
    )
    return tariff_pb2.Tariff(
        **{
            "country_code": "DE",
            "party_id": "ABC",
            "id": str(uuid4()),
            "currency": "EUR",
            "elements": [tariff_pb2.TariffElement(price_components=[energy])],
            **changes,
        }
    )


def a_token(**changes: Any) -> token_pb2.Token:
    """A card of DE*ABC, valid, which an operator may let charge without asking."""
    return token_pb2.Token(
        **{
            "country_code": "DE",
            "party_id": "ABC",
            "uid": uuid4().hex[:14].upper(),
            "type": location_pb2.TOKEN_TYPE_RFID,
            "contract_id": "DE-ABC-C12345678-X",
            "issuer": "Wattwerk",
            "valid": True,
            "whitelist": token_pb2.WHITELIST_TYPE_ALLOWED,
            **changes,
        }
    )


def a_record(**changes: Any) -> invoice_reconciliation_pb2.InvoiceReconciliationRecord:
    """Of DE*ABC: an invoice of two CDRs, for the partner of the integration `roaming`."""
    return invoice_reconciliation_pb2.InvoiceReconciliationRecord(
        **{
            "country_code": "DE",
            "party_id": "ABC",
            "id": str(uuid4()),
            "invoice_id": "2026/11-0042",
            "cdrs": ["C1", "C2"],
            "recipient_integration_id": "roaming",
            **changes,
        }
    )


def an_evse(uid: str = "E1", **changes: Any) -> location_pb2.Evse:
    """Available, with a type 2 socket."""
    return location_pb2.Evse(
        **{
            "uid": uid,
            "status": location_pb2.EVSE_STATUS_AVAILABLE,
            "connectors": [a_connector()],
            **changes,
        }
    )


def a_connector(id: str = "1", **changes: Any) -> location_pb2.Connector:
    return location_pb2.Connector(
        **{
            "id": id,
            "standard": location_pb2.CONNECTOR_TYPE_IEC_62196_T2,
            "format": location_pb2.CONNECTOR_FORMAT_SOCKET,
            "power_type": location_pb2.POWER_TYPE_AC_3_PHASE,
            "max_voltage": 230,
            "max_amperage": 32,
            **changes,
        }
    )


def a_location(**changes: Any) -> location_pb2.Location:
    """In Berlin, with two EVSEs, by DE*ABC."""
    return location_pb2.Location(
        **{
            "country_code": "DE",
            "party_id": "ABC",
            "id": str(uuid4()),
            "publish": True,
            "address": "Unter den Linden 1",
            "city": "Berlin",
            "country": "DEU",
            "coordinates": location_pb2.GeoLocation(latitude="52.516275", longitude="13.377704"),
            "time_zone": "Europe/Berlin",
            "evses": [an_evse("E1"), an_evse("E2")],
            **changes,
        }
    )


def a_socket(id: str = "1", **changes: Any) -> charger_pb2.Socket:
    """Type 2."""
    return charger_pb2.Socket(
        **{
            "id": id,
            "standard": location_pb2.CONNECTOR_TYPE_IEC_62196_T2,
            "format": location_pb2.CONNECTOR_FORMAT_SOCKET,
            "power_type": location_pb2.POWER_TYPE_AC_3_PHASE,
            "max_voltage": 230,
            "max_amperage": 32,
            **changes,
        }
    )


def a_charger(**changes: Any) -> charger_pb2.Charger:
    """With two sockets, on the site S1."""
    return charger_pb2.Charger(
        **{"id": str(uuid4()), "site_id": "S1", "sockets": [a_socket("1"), a_socket("2")], **changes}
    )


def a_rule(**changes: Any) -> publication_pb2.PublicationRule:
    """Shows the integration "cp" every connector."""
    selection = {} if "tariffs" in changes else {"connectors": publication_pb2.ConnectorSelection(everything=True)}
    return publication_pb2.PublicationRule(
        **{
            "integration_id": "cp",
            "id": f"r-{uuid4().hex[:8]}",
            "effect": publication_pb2.PUBLICATION_EFFECT_VISIBLE,
            **selection,
            **changes,
        }
    )
