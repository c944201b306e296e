"""The grpc.aio server: every rpc with its surroundings, health, reflection, limits, drain."""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Mapping
from typing import Any

import grpc
from evbridge.options.v1.options_pb2 import ROLE_READER
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection, reflection_pb2
from opentelemetry import metrics

from service.bridge.tls import Certificate, CertificateFiles
from service.domain.sizes import MAX_BYTES
from service.errors import DatabaseUnavailable
from service.identity.access import Access
from service.rpc import health
from service.rpc.interceptors import Interceptors
from service.settings import Settings, is_loopback
from service.storage.pool import Database
from service.storage.retention import heartbeat

log = logging.getLogger(__name__)
_writable = metrics.get_meter("evbridge").create_gauge(
    "evbridge.database.writable", description="1 while the database takes writes, 0 while it does not."
)

_REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
_PROBE_S = 2.0
_LAST_BYTES_S = 1.0

_IDENTITY_AND_GZIP = 0b101
_LIMITS = [
    ("grpc.max_receive_message_length", MAX_BYTES),
    ("grpc.max_send_message_length", 8 << 20),
    # grpc would inflate a whole gzip before it looks at its length: `interceptors` does it, and knows the end.
    ("grpc.per_message_decompression", 0),
    ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_AND_GZIP),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.absolute_max_metadata_size", 16 << 10),
    # A client that knows the limit lets further calls wait. The protection that belongs to it counts streams that have
    # ended but are not cleared away yet, so that a burst on a new connection loses a part of its calls.
    ("grpc.max_concurrent_streams", 100),
    ("grpc.http.overload_protection", 0),
    # Instead, whoever resets streams faster than it answers our pings is no longer read, and in the end hung up on.
    ("grpc.http2.ping_on_rst_stream_percent", 100),
    # Calls that nobody has looked at yet, which `admission` does not see: this many wait, a further one may be ended as
    # CANCELLED, which takes none of our time. The burst of one connection finds room.
    ("grpc.server.max_pending_requests", 128),
    ("grpc.server.max_pending_requests_hard_limit", 256),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 15 * 60_000),
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    # Also how long a block of headers may stay without its end when nothing more arrives.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
]


class Server:
    """Serves `implementations`: service descriptor -> object with one method per rpc."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        interceptors: Interceptors,
        implementations: Mapping[ServiceDescriptor, object],
        *,
        shares_port: bool = False,
    ) -> None:
        self._settings = settings
        self._database = database
        self._interceptors = interceptors
        self._shares_port = shares_port  # if not, a port that another program holds is refused
        self._server = grpc.aio.server(options=[*_LIMITS, ("grpc.so_reuseport", int(shares_port))])
        self._health = health.Health(settings.receive_s)
        self._services = [service.full_name for service in implementations]
        self._handlers: dict[str, Any] = {}
        self._probe: asyncio.Task[None] | None = None
        # What is registered by its name waits in a line of its own: a probe does not wait for the calls before it.
        self._server.add_registered_method_handlers(health.NAME, self._health.handlers())
        for service, implementation in implementations.items():
            self._register(service, implementation)
        if settings.reflects():
            self._register_reflection()
        self._server.add_generic_rpc_handlers((_Handlers(self._handlers),))

    def _register(self, service: ServiceDescriptor, implementation: object) -> None:
        """Raises AttributeError for an rpc without an implementation, ValueError for one without a role."""
        for method in service.methods:
            surround = self._interceptors.unary_stream if method.server_streaming else self._interceptors.unary
            request_type = GetMessageClass(method.input_type)
            handler = surround(method, request_type, getattr(implementation, method.name))
            self._handlers[f"/{service.full_name}/{method.name}"] = handler

    def _register_reflection(self) -> None:
        """Reflection in both versions (the messages are the same), for callers with a key like everything else."""
        servicer = reflection.aio.ReflectionServicer([*self._services, health.NAME, *_REFLECTION])
        request_type = reflection_pb2.ServerReflectionRequest
        for name in _REFLECTION:
            rpc = f"{name}/ServerReflectionInfo"
            handler = self._interceptors.stream(rpc, Access(ROLE_READER), request_type, servicer.ServerReflectionInfo)
            self._handlers[f"/{rpc}"] = handler

    async def start(self) -> str:
        """Listens and returns the address as host:port. Raises OSError when it cannot."""
        check_listening(self._settings, shares_port=self._shares_port)
        address = self._settings.listen
        try:
            if self._settings.tls_cert_file:
                port = self._server.add_secure_port(address, self._credentials())
            else:
                port = self._server.add_insecure_port(address)
        except RuntimeError:
            raise OSError(f"cannot listen on {address}") from None
        await self._server.start()
        await self._check()
        self._probe = asyncio.create_task(self._check_forever())
        return f"{address.rpartition(':')[0]}:{port}"

    def _credentials(self) -> grpc.ServerCredentials:
        """Asked again for every new connection, so that a renewed certificate needs no restart."""
        certificate = Certificate(grpc_files(self._settings))

        def configuration() -> grpc.ServerCertificateConfiguration:
            read = certificate.current()
            return grpc.ssl_server_certificate_configuration([(read.key, read.chain)], read.client_ca or None)

        return grpc.dynamic_ssl_server_credentials(
            configuration(), configuration, require_client_authentication=bool(self._settings.tls_client_ca_file)
        )

    async def stop(self) -> None:
        """Says NOT_SERVING, refuses new calls and lets those under way end within the drain time."""
        if self._probe is not None:
            self._probe.cancel()
        await self._health.stop()
        await self._interceptors.drain(self._settings.drain_s)
        await self._server.stop(_LAST_BYTES_S)

    async def _check_forever(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_S)
            await self._check()

    async def _check(self) -> None:
        """Healthy is a database that takes a write; one that only answers reads is not."""
        try:
            await heartbeat(self._database)
            writable = True
        except DatabaseUnavailable:
            writable = False
        except Exception:
            log.exception("the health check broke")
            writable = False
        _writable.set(int(writable))
        for service in ("", *self._services):
            await self._health.set(service, writable)


class _Handlers(grpc.GenericRpcHandler):
    """All methods by their paths. Of a handler for each service grpc would ask one after the other, for every call."""

    def __init__(self, handlers: Mapping[str, Any]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)


def check_listening(settings: Settings, *, shares_port: bool = False) -> None:
    """Raises OSError for what would keep a server from listening. Asked before anything is made for it.

    `shares_port`: with other processes of ours.
    """
    if settings.tls_cert_file:
        grpc_files(settings).read()
        if settings.ocpi_listen:
            ocpi_files(settings).read()
    _check_address(settings, settings.listen, "EVBRIDGE_LISTEN", shares_port)
    if settings.ocpi_listen:
        _check_address(settings, settings.ocpi_listen, "EVBRIDGE_OCPI_LISTEN", shares_port)


def _check_address(settings: Settings, address: str, name: str, shares_port: bool) -> None:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not (is_loopback(address) or settings.tls_cert_file or settings.allow_plaintext):
        raise OSError(f"{address} is not loopback: set EVBRIDGE_TLS_CERT_FILE, or EVBRIDGE_ALLOW_PLAINTEXT=true")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except OSError:
        raise OSError(f"cannot listen on {address}: this machine does not know {host}") from None
    problems = [problem for family, _, _, _, numeric in found if (problem := _problem(family, numeric, shares_port))]
    if errno.EADDRINUSE in problems:
        raise OSError(
            f"cannot listen on {address}: the port is taken. End what listens there, or set {name} to another one, "
            f"such as {address.rpartition(':')[0]}:{int(port) % 65535 + 1}"
        )
    if len(problems) == len(found):
        raise OSError(f"cannot listen on {address}: {os.strerror(problems[0])}")


def _problem(family: int, address: Any, shares_port: bool) -> int | None:
    """The number of the error that binding an address ends in."""
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares_port:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            tried.bind(address)
        except OSError as error:
            return error.errno
    return None


def grpc_files(settings: Settings) -> CertificateFiles:
    return CertificateFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)


def ocpi_files(settings: Settings) -> CertificateFiles:
    return CertificateFiles(settings.tls_cert_file, settings.tls_key_file, settings.ocpi_tls_client_ca_file)
