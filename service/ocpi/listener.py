"""The door of OCPI parties: an HTTP server in the same process, whose routes are the contract's.

    /ocpi/versions                               the versions that we speak
    /ocpi/{version}                              the modules of one, as far as they are for the partner
    /ocpi/{version}/credentials
    /ocpi/{cpo|emsp}/{version}/{module}/...      one of our two sides of a module

Every answer is OCPI's envelope, an error of HTTP too. A body is read once it is known who calls, within their share.
"""

import asyncio
import base64
import binascii
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from evbridge.partner.ocpi.v2 import versions_pb2 as ocpi
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_HUB, Party
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from service.bridge.codec import Codec, CodecError
from service.bridge.connections import Network
from service.bridge.edge import STRANGER, Call, Edge, Refused, Reply
from service.bridge.registry import Operation, Registry
from service.bridge.tls import Certificate
from service.bridge.transcode import match
from service.domain.keys import PartyKey
from service.domain.secret import Secret
from service.durations import Durations
from service.errors import DatabaseUnavailable, EvbridgeError
from service.ocpi.tries import Tries
from service.partners.ocpi.party import VERSIONS
from service.resources.registration import Door, own_parties
from service.storage.integration import integration_get, integration_of_party
from service.storage.keyring import Keyring
from service.storage.partner_token import PURPOSE, TokenHolder, looks_like_token, token_holder, token_use
from service.storage.pool import Database
from service.telemetry import log_fields

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
MAX_CONNECTIONS = 1000
MAX_CONNECTIONS_PER_STRANGER = 100
"""Of one address, before a request on them came with a known token."""
MAX_REQUESTS_PER_PARTNER = 32
"""Under way at once in one process."""
REFUSAL_PAUSE_S = 1.0
HEADER_TIMEOUT_S = 15.0
BODY_TIMEOUT_S = 15.0
_REPEATED = ("X-Request-ID", "X-Correlation-ID")
_duration = Durations(
    "evbridge.ocpi",
    "http.server.request.duration",
    "Duration of HTTP server requests.",
    (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
)
_CONFIGURATION = ("versions", "details", "credentials")
"""What a first token opens. Of these, reading versions is part of an exchange that may still fail."""


class OcpiRefused(Refused):
    """Ends a request with a status code of OCPI's in the envelope, by default with HTTP 200."""

    def __init__(
        self, ocpi_status: int, message: str, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, headers=headers)
        self.ocpi_status = ocpi_status
        self.message = message


@dataclass(frozen=True, slots=True)
class Visit:
    """A request: whose it is, with which token it came, at which version of which of our modules."""

    holder: TokenHolder
    token: Secret
    version: str
    call: Call

    @property
    def tenant_id(self) -> str:
        return self.holder.tenant_id

    @property
    def integration_id(self) -> str:
        return self.holder.integration_id


Side = Literal["SENDER", "RECEIVER"]
Ours = Literal["cpo", "emsp", "hub", ""]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One side of a module. `serves` has a method for each rpc of `service`: request, Visit -> Reply. Raises Refused.

    `ours` says as which of our roles we offer it: "cpo", "hub", "emsp" (which stands for all but CPO), or "" for what
    every partner is offered.
    """

    identifier: str
    side: Side
    ours: Ours
    service: ServiceDescriptor
    serves: Any
    versions: Sequence[str] = VERSIONS

    def path(self, version: str) -> tuple[str, ...]:
        return ("ocpi", *((self.ours,) if self.ours else ()), version, self.identifier)


@dataclass(frozen=True, slots=True)
class Webhook:
    """What partners that speak no OCPI call. `serves` has a method for each rpc of `service`: request, Call -> Reply.

    It judges by the body who calls, and raises Refused with 401 for strangers.
    """

    service: ServiceDescriptor
    serves: Any


class Listener:
    """The routes of the endpoints, at the versions that `door` offers, and of webhooks beside them."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        registry: Registry,
        door: Door,
        endpoints: Iterable[Endpoint],
        webhooks: Iterable[Webhook],
        tries: Tries,
        proxies: Collection[Network],
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._door = door
        self._endpoints = tuple(endpoints)
        self._webhooks = [
            (registry.operations[f"/{each.service.full_name}/{method.name}"], getattr(each.serves, method.name))
            for each in webhooks
            for method in each.service.methods
        ]
        self._tries = tries
        self._under_way: Counter[tuple[str, str]] = Counter()
        self._edge = Edge(
            self._routes(registry),
            error_body=_error_body,
            unreadable=_unreadable,
            authenticate=self._authenticate,
            repeated=_REPEATED,
            observe=_observe,
            trailing_slash=True,
            max_body_bytes=MAX_BODY_BYTES,
            max_connections=MAX_CONNECTIONS,
            max_connections_per_stranger=MAX_CONNECTIONS_PER_STRANGER,
            proxies=proxies,
            header_timeout_s=HEADER_TIMEOUT_S,
            body_timeout_s=BODY_TIMEOUT_S,
        )

    async def start(self, listen: str, certificate: Certificate | None, *, shares_port: bool = False) -> str:
        """Listens, and returns the URL. Raises OSError when it cannot."""
        host, _, port = listen.rpartition(":")
        tls = (lambda: certificate.current().context) if certificate else None
        actual = await self._edge.start(host.strip("[]"), int(port), tls, shares_port=shares_port)
        return f"{'https' if tls else 'http'}://{host}:{actual}"

    async def stop(self) -> None:
        await self._edge.stop()

    def _routes(self, registry: Registry) -> Iterable[tuple[Operation, Any]]:
        listed, details = (
            registry.operations[f"/{ocpi.DESCRIPTOR.package}.VersionsService/{name}"]
            for name in ("ListVersions", "GetVersionDetails")
        )
        yield replace(listed, path=("ocpi", "versions")), self._serving("versions", "", self._versions)
        for version in self._door.versions:
            yield replace(details, path=("ocpi", version)), self._serving("details", version, self._details)
        for each in self._endpoints:
            for version in self._offered(each):
                for method in each.service.methods:
                    if method.server_streaming:  # the pages of a list, which HTTP asks for one by one
                        continue
                    operation = registry.operations[f"/{each.service.full_name}/{method.name}"]
                    serve = self._serving(each.identifier, version, getattr(each.serves, method.name))
                    path = (*each.path(version), *operation.path)
                    yield replace(operation, path=path, body=_read_here(operation)), serve

        for operation, serve in self._webhooks:
            yield replace(operation, body=None), partial(self._called, serve)

    def _offered(self, endpoint: Endpoint) -> list[str]:
        return [version for version in self._door.versions if version in endpoint.versions]

    def _serving(self, module: str, version: str, serve: Any) -> Any:
        return partial(self._serve, module, version, serve)

    async def _called(self, serve: Any, _: Operation, request: Message, call: Call) -> Reply:
        """One request to a webhook. Raises Refused."""
        try:
            reply: Reply = await serve(request, call)
        except DatabaseUnavailable:
            raise Refused(503, headers={"Retry-After": "5"}) from None
        self._tries.told(call.client, _before_the_body(call), known=True)
        return reply

    async def _serve(self, module: str, version: str, serve: Any, _: Operation, request: Message, call: Call) -> Reply:
        """One request of a known partner, in its envelope. Raises Refused."""
        holder, token = call.peer
        if module not in _CONFIGURATION and holder.initial:
            raise OcpiRefused(2000, "this token only opens versions and credentials", status=401)
        confirms = module not in ("versions", "details")
        try:
            visitor = holder if module in _CONFIGURATION else await self._visitor(holder, request, call)
            request_id = call.headers.get("X-Request-ID", "")[:100]
            log_fields.set(
                {"tenant": holder.tenant_id, "integration": visitor.integration_id, "partner_request_id": request_id}
            )
            if module not in _CONFIGURATION and not (holder.enabled and visitor.enabled):
                raise OcpiRefused(2000, "the connection is disabled", status=403)
            if holder.unused or (confirms and not holder.confirmed):
                async with self._database.transaction() as conn:
                    await token_use(conn, holder, confirms=confirms)
            reply: Reply = await serve(request, Visit(visitor, token, version, call))
        except DatabaseUnavailable:
            raise OcpiRefused(3000, "try again later", status=503, headers={"Retry-After": "5"}) from None
        if module not in _CONFIGURATION:
            reply = replace(reply, headers={**_back(call), **reply.headers})
        message: Any = reply.message
        if message is not None:
            message.status_code, message.status_message, message.timestamp = 1000, "Success", timestamp()
        return reply

    async def _visitor(self, holder: TokenHolder, request: Any, call: Call) -> TokenHolder:
        """Of a platform, the party behind it that the URL names, or else the routing headers."""
        if not holder.platform:
            return holder
        names = ("country_code", "party_id")
        party = [getattr(request, name, "") for name in names]
        if not any(party):
            party = [call.headers.get(f"OCPI-from-{name.replace('_', '-')}", "") for name in names]
        at = (self._database, holder.tenant_id, holder.integration_id)
        own = await integration_of_party(*at, PartyKey.of(*party))
        return holder if own is None else replace(holder, integration_id=own[0], enabled=own[1])

    @asynccontextmanager
    async def _authenticate(self, call: Call) -> AsyncIterator[Any]:
        """Yields the holder of the token and the token, and STRANGER at a webhook."""
        webhook = any(match(each, each.http_method, call.path) is not None for each, _ in self._webhooks)
        token = None if webhook else token_in(call.headers.get("Authorization", ""))
        digests = self._keyring.digests(PURPOSE, token.reveal().encode()) if token else []
        if webhook:
            digests = _before_the_body(call)
        if not self._tries.admit(call.client, digests):
            # Each connection sends one request after another: what waits costs nothing, and so do those behind it.
            await asyncio.sleep(REFUSAL_PAUSE_S)
            message = "too many requests from this address had no known token"
            raise OcpiRefused(2000, message, status=429, headers={"Retry-After": "60"})
        if webhook:
            yield STRANGER
            return
        try:
            holder = await token_holder(self._database, digests) if token else None
        except DatabaseUnavailable:
            raise OcpiRefused(3000, "try again later", status=503, headers={"Retry-After": "5"}) from None
        self._tries.told(call.client, digests, known=holder is not None)
        if not (token and holder):
            raise OcpiRefused(2000, "no known token", status=401, headers={"WWW-Authenticate": "Token"})
        key = (holder.tenant_id, holder.integration_id)
        if self._under_way[key] >= MAX_REQUESTS_PER_PARTNER:
            raise OcpiRefused(2000, "too many requests at once", status=429, headers={"Retry-After": "1"})
        self._under_way[key] += 1
        try:
            yield holder, token
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]

    async def _versions(self, request: ocpi.ListVersionsRequest, visit: Visit) -> Reply:
        urls = {version: f"{self._door.url}/ocpi/{version}" for version in self._door.versions}
        return Reply(ocpi.VersionsResponse(data=[ocpi.Version(version=each, url=url) for each, url in urls.items()]))

    async def _details(self, request: ocpi.GetVersionDetailsRequest, visit: Visit) -> Reply:
        stored = Integration.FromString(await integration_get(self._database, visit.tenant_id, visit.integration_id))
        try:
            offered = offers(await own_parties(self._database, visit.tenant_id, stored))
            if visit.version < "2.2" and {"cpo", "emsp"} <= offered:
                offered.remove(_aside(stored))
        except EvbridgeError:
            raise OcpiRefused(3000, "the connection names no party of ours") from None
        details = ocpi.VersionDetails(version=visit.version)
        for each in self._endpoints:
            if each.ours in offered and visit.version in self._offered(each):
                endpoint = details.endpoints.add(
                    identifier=each.identifier, url="/".join((self._door.url, *each.path(visit.version)))
                )
                if visit.version > "2.2":
                    endpoint.role = each.side
        return Reply(ocpi.VersionDetailsResponse(data=details))


def _before_the_body(call: Call) -> Sequence[bytes]:
    """Who calls a webhook, before the body says it: one of that address that was let in there before."""
    return [f"{call.client} {call.path}".encode()]


def _aside(stored: Integration) -> str:
    """Which of our two sides is not shown, where modules have no roles: a partner meets the one that it is not."""
    operates = any(each.role == PARTY_ROLE_CPO for each in stored.partner_company_details)
    return "cpo" if operates else "emsp"


def offers(parties: Iterable[Party]) -> set[str]:
    """Which of our sides a partner meets, by what our parties do."""
    roles = {role for party in parties for role in party.roles}
    sides = {"cpo": PARTY_ROLE_CPO in roles, "hub": PARTY_ROLE_HUB in roles, "emsp": bool(roles - {PARTY_ROLE_CPO})}
    return {"", *(name for name, offered in sides.items() if offered)}


def token_in(authorization: str) -> Secret | None:
    """The token of a header, in base64 or as it is. None for what cannot be one of ours.

    OCPI's own example has a line end in its base64.
    """
    scheme, _, text = authorization.partition(" ")
    text = text.strip()
    if scheme.lower() != "token" or len(text) > 255:
        return None
    if looks_like_token(text):
        return Secret(text)
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode().strip()
    except (binascii.Error, ValueError):
        return None
    return Secret(decoded) if looks_like_token(decoded) else None


def _read_here(operation: Operation) -> Codec | None:
    """What reads the body. A version's own object is left to who serves it, with all its digits."""
    codec = operation.body
    type = codec.member.message_type if codec and codec.member else None
    return None if type and type.full_name == "google.protobuf.Struct" else codec


def _back(call: Call) -> dict[str, str]:
    """The routing headers of an answer, from whom the request went to, to whom it came from."""
    names = [f"OCPI-{{}}-{name}" for name in ("country-code", "party-id")]
    ways = (("from", "to"), ("to", "from"))
    return {
        name.format(way): call.headers[name.format(other)]
        for way, other in ways
        for name in names
        if name.format(other) in call.headers
    }


def _observe(method: str, route: str, status: int, seconds: float) -> None:
    known = method if method in ("GET", "POST", "PUT", "PATCH", "DELETE") else "_OTHER"
    attributes = {"http.request.method": known, "http.response.status_code": str(status)}
    _duration.record(seconds, attributes | ({"http.route": route} if route else {}))


def timestamp() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _unreadable(fault: CodecError) -> Refused:
    """JSON of another form than the contract's is OCPI's business, and anything else HTTP's."""
    if not fault.pointer:
        return OcpiRefused(2000, f"the body {fault.problem}", status=400)
    return OcpiRefused(2001, f"{fault.pointer} {fault.problem}")


def _error_body(refused: Refused) -> bytes:
    if isinstance(refused, OcpiRefused):
        code, message = refused.ocpi_status, refused.message
    else:
        code = 3000 if refused.status >= 500 else 2000
        message = refused.code.replace("_", " ").capitalize()
    return json.dumps({"status_code": code, "status_message": message[:255], "timestamp": timestamp()}).encode()
