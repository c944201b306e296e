"""Secrets go in at every door, and a partner throws its own back at us: they come out nowhere.

One story is told to a server of its own, and everything it let out is kept: replies, log, telemetry, rows, files.
"""

import base64
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from aiohttp import web
from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.chargeprice_connection_pb2 import ChargepriceConnection
from evbridge.v1.company_pb2 import DeleteCompanyRequest, GetCompanyRequest, ListCompaniesRequest, UpsertCompanyRequest
from evbridge.v1.delivery_pb2 import (
    Delivery,
    GetDeliveryRequest,
    ListDeliveriesRequest,
    ListDeliveriesResponse,
    RetryDeliveryRequest,
)
from evbridge.v1.integration_pb2 import (
    CreateIntegrationRequest,
    DeleteIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    ListIntegrationsRequest,
    UpdateIntegrationRequest,
)
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from service.storage.api_key import api_key_create, api_key_revoke
from service.storage.embedded import EmbeddedPostgres
from service.storage.keyring import Keyring
from service.storage.pool import Database
from tests.front_door import (
    CONNECTIONS,
    a_company,
    an_integration,
    an_integration_of,
    collecting,
    data_directory,
    environment,
    serving,
)
from tests.partners import listening
from tests.rpc.test_access import METHODS


def planted(seed: int, length: int) -> str:
    """So many bytes as a secret has them, the same in every process that collects the tests."""
    return base64.urlsafe_b64encode(random.Random(seed).randbytes(length)).decode().rstrip("=")


STAMP = "pl4nt5e0d7c19b2f4"
"""Begins and ends every planted secret, so that a part of one is found too."""
SECRETS = [f"{STAMP}-{planted(number, 8 + 9 * (number % 6))}-{STAMP}" for number in range(50)]
MARKER = "marker-90c2f7a41d6e"
"""No secret: wherever it is found, the search works."""

Echo = Callable[[str, web.Request], web.Response | bytes]
"""What the partner answers to a request with this credential; bytes go out as they are."""


def status(number: int) -> Echo:
    def echo(credential: str, _: web.Request) -> web.Response:
        error = {"status": str(number), "code": credential, "title": credential, "detail": credential}
        return web.json_response({"errors": [error], credential: credential}, status=number)

    return echo


def headers(number: int, *names: str) -> Echo:
    return lambda credential, _: web.Response(status=number, headers=dict.fromkeys(names, credential))


def redirect(number: int) -> Echo:
    return lambda credential, request: web.Response(
        status=number, headers={"Location": f"http://{request.host}/{credential}?key={credential}"}
    )


def body(template: str) -> Echo:
    """With the credential in the place of KEY."""
    return lambda credential, _: web.Response(
        body=template.replace("KEY", credential).encode(), content_type="application/json"
    )


def success(id: str = "") -> Echo:
    """A company, alone or in a list, that holds the credential wherever there is room for it."""

    def echo(credential: str, request: web.Request) -> web.Response:
        company = {
            "id": id.replace("KEY", credential) or request.path.rpartition("/")[2],
            "type": "company",
            "attributes": {"name": credential, "version": 1, "is_cpo": True, "is_emp": True, credential: credential},
            credential: [credential],
        }
        if request.method == "GET":
            return web.json_response({"data": [], "meta": {"overall_count": 0, credential: credential}})
        return web.json_response({"data": company, credential: credential})

    return echo


def raw(template: str) -> Echo:
    return lambda credential, _: template.replace("KEY", credential).encode()


ECHOES = [
    *map(status, (400, 401, 403, 404, 409, 418, 422, 429, 500, 503)),
    *map(redirect, (301, 302, 303, 307, 308)),
    success(),
    success("KEY"),
    headers(401, "WWW-Authenticate", "X-Api-Key"),
    headers(429, "Retry-After", "X-RateLimit-Reset"),
    headers(200, "Content-Encoding", "Set-Cookie", "API-Key"),
    headers(200, "Content-Type"),
    *map(body, ("KEY", '"KEY"', '{"KEY": "KEY"}', '{"data": "KEY"}', '{"data": {"id": 7, "KEY": 1, "KEY": 2}}')),
    body('{"data": [{"id": "x", "attributes": {"version": "KEY", "KEY": 1e999}}], "errors": ["KEY"]}'),
    body('{"data": {"attributes": {"KEY": ' + "[" * 500 + "]" * 500 + "}}}"),
    lambda credential, _: web.Response(status=502, reason=credential, text=credential),
    *map(raw, ("HTTP/1.1 200 KEY\r\nKEY\r\n\r\n", "KEY\r\n\r\n", "HTTP/1.1 200 OK\r\nX: " + "KEY" * 300 + "\r\n\r\n")),
]


@asynccontextmanager
async def partner() -> AsyncIterator[str]:
    """A Chargeprice that gives every credential back, each in a way of its own."""

    async def answer(request: web.Request) -> web.StreamResponse:
        credential = request.headers["API-Key"]
        response = ECHOES[SECRETS.index(credential) % len(ECHOES)](credential, request)
        if isinstance(response, web.Response):
            return response
        assert request.transport is not None
        request.transport.write(response)
        request.transport.close()
        return web.Response()

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with listening(application) as url:
        yield url


class Told:
    """Calls rpcs and keeps every byte and word that comes back."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._methods: dict[str, list[MethodDescriptor]] = {}
        for method in METHODS:
            self._methods.setdefault(method.input_type.full_name, []).append(method)
        self.words = b""
        self.called: set[str] = set()

    async def call(self, request: Message | tuple[type[Message], bytes], *metadata: tuple[str, str]) -> bytes:
        """Calls what takes the request; returns the last reply, empty when it failed."""
        request_type, data = request if isinstance(request, tuple) else (type(request), request.SerializeToString())
        reply = b""
        for method in self._methods[request_type.DESCRIPTOR.full_name]:
            path = f"/{method.containing_service.full_name}/{method.name}"
            self.called.add(path)
            new = self._channel.unary_stream if method.server_streaming else self._channel.unary_unary
            # A watch has no end.
            call: Any = new(path)(data, metadata=metadata, timeout=1 if method.server_streaming else 20)
            reply = await self._heard(call, method)
        return reply

    async def _heard(self, call: Any, method: MethodDescriptor) -> bytes:
        reply = b""
        try:
            reply = b"".join([each async for each in call]) if method.server_streaming else await call
        except grpc.aio.AioRpcError as error:
            self.words += repr(error).encode()
        for trailers in (await call.initial_metadata(), await call.trailing_metadata()):
            self.words += b"".join(
                key.encode() + (value if isinstance(value, bytes) else value.encode()) for key, value in trailers
            )
        self.words += reply + (await call.details() or "").encode()
        return reply


def bearer(key: str) -> tuple[str, str]:
    return "authorization", f"Bearer {key}"


def connected(secret: str, base_url: str, **changes: Any) -> Integration:
    return an_integration(base_url, secret, display_name=MARKER, **changes)


async def plant(told: Told, admin: tuple[str, str], partner_url: str) -> None:
    """An integration per secret: half of the secrets come with its creation, the others replace one."""
    for number, secret in enumerate(SECRETS):
        id, other = f"{MARKER}-{number}", SECRETS[number - 1]
        create = CreateIntegrationRequest(request_id=str(uuid4()))
        create.integration.CopyFrom(connected(other if number % 2 else secret, partner_url, id=id, enabled=False))
        await told.call(create, admin)
        update = UpdateIntegrationRequest(request_id=str(uuid4()), integration=Integration(id=id, enabled=True))
        if number % 2:
            update.integration.chargeprice.api_key = secret
        await told.call(update, admin)


async def plant_in_every_type(told: Told, admin: tuple[str, str]) -> None:
    """In each secret field of each connection: one with its creation, one that replaces it, one in vain."""
    short = [secret for secret in SECRETS if len(secret) <= 64]  # the most that OCPI allows
    for number, type in enumerate(CONNECTIONS):
        first, second, third = (
            an_integration_of(type, secret, id=f"{MARKER}-type-{number}", display_name=MARKER, enabled=False)
            for secret in short[:3]
        )
        assert await told.call(CreateIntegrationRequest(integration=first, request_id=str(uuid4())), admin)
        assert await told.call(UpdateIntegrationRequest(integration=second, request_id=str(uuid4())), admin)
        connection = getattr(third, type)
        for field in connection.DESCRIPTOR.fields:
            if field.GetOptions().Extensions[options.url]:
                setattr(connection, field.name, f"http://user:{short[0]}@127.0.0.1")
        assert not await told.call(UpdateIntegrationRequest(integration=third), admin)
        assert await told.call(GetIntegrationRequest(id=first.id), admin)
    paths = an_integration_of("emabler", emabler={"api_key": "key", "add_location_path": f"/{short[0]}"})
    assert not await told.call(CreateIntegrationRequest(integration=paths), admin)


def mistakes(secret: str, partner_url: str) -> Iterator[Message | tuple[type[Message], bytes]]:
    """Requests that bring a secret in vain."""
    create, update, id = CreateIntegrationRequest, UpdateIntegrationRequest, f"{MARKER}-0"
    for wrong in (
        connected(secret, partner_url, id=id),  # exists
        connected(secret, partner_url, type=99),
        connected(secret + " ", partner_url),
        connected(secret * 20, partner_url),
        connected("key", f"http://user:{secret}@127.0.0.1"),
        connected("key", f"http://127.0.0.1?key={secret}"),
        connected("key", f"http://127.0.0.1#{secret}"),
        connected("key", secret),
        connected("key", f"https://10.0.0.1/{secret}"),
        connected("key", partner_url, id=f"{secret}_"),
        connected(secret, partner_url, etag=secret),
    ):
        yield create(integration=wrong)
    yield create(integration=connected(secret, partner_url), validate_only=True)
    yield create(integration=connected(secret, partner_url), request_id=secret)
    reused = str(uuid4())
    for again in (secret, secret[::-1]):
        yield create(integration=connected(again, partner_url, id="again"), request_id=reused, validate_only=False)
    here = Integration(id=id, chargeprice=ChargepriceConnection(api_key=secret))
    yield update(integration=here, update_mask=FieldMask(paths=["chargeprice.api_key", "nonsense"]))
    yield update(integration=here, update_mask=FieldMask(paths=["chargeprice.api_key"]), validate_only=True)
    yield update(integration=Integration(id=id, chargeprice=here.chargeprice, etag=secret))
    yield update(integration=Integration(id="nowhere", chargeprice=here.chargeprice))
    yield update(integration=Integration(id=id, chargeprice=ChargepriceConnection(base_url="http://127.0.0.1:1")))
    yield DeleteIntegrationRequest(id=id, etag=secret)
    yield DeleteCompanyRequest(id=str(uuid4()), etag=secret, request_id=secret)
    yield GetCompanyRequest(id=secret)
    yield GetDeliveryRequest(id=secret)
    yield RetryDeliveryRequest(id=secret)
    for listing in (ListIntegrationsRequest, ListCompaniesRequest, ListDeliveriesRequest):
        yield listing(page_token=secret)
    yield ListDeliveriesRequest(object_id=secret)
    yield UpsertCompanyRequest(company=a_company(url=f"user:{secret}@nowhere", version=2))
    whole = create(integration=connected(secret, partner_url)).SerializeToString()
    unknown = b"\xf2\x7f" + bytes([len(secret)]) + secret.encode()  # field 2046
    yield create, whole[:-3]
    yield create, whole + b"\xff"
    yield UpsertCompanyRequest, UpsertCompanyRequest(company=a_company()).SerializeToString() + unknown
    yield GetIntegrationRequest, GetIntegrationRequest(id=id).SerializeToString() + unknown
    for method in METHODS:
        yield GetMessageClass(method.input_type), unknown


async def deliveries(told: Told, key: tuple[str, str]) -> list[Delivery]:
    """All of them with their attempts."""
    page = ListDeliveriesRequest(page_size=1000)
    listed = ListDeliveriesResponse.FromString(await told.call(page, key))
    return [Delivery.FromString(await told.call(GetDeliveryRequest(id=found.id), key)) for found in listed.deliveries]


async def tell(told: Told, keys: dict[str, str], partner_url: str) -> None:
    admin, reader = bearer(keys["admin"]), bearer(keys["reader"])
    company = a_company(name=MARKER)
    await told.call(UpsertCompanyRequest(company=company, request_id=str(uuid4())), bearer(keys["writer"]))
    await plant(told, admin, partner_url)
    await plant_in_every_type(told, admin)
    for number, mistake in enumerate(mistakes(SECRETS[0], partner_url)):
        await told.call(mistake, (admin, bearer(keys["writer"]))[number % 2])
    for header in (
        bearer(keys["revoked"]),
        bearer(SECRETS[1]),
        ("authorization", SECRETS[2]),
        ("x-api-key", SECRETS[3]),
    ):
        await told.call(ListCompaniesRequest(), header)
    await told.call(CreateIntegrationRequest(integration=connected(SECRETS[4], partner_url)), reader)
    for attempts in (1, 2):
        tried: set[str] = set()
        while not tried >= {f"{MARKER}-{number}" for number in range(len(SECRETS))}:
            found = await deliveries(told, reader)
            tried = {delivery.integration_id for delivery in found if len(delivery.attempts) >= attempts}
        for delivery in found:
            await told.call(RetryDeliveryRequest(id=delivery.id, overwrite_partner_change=True), admin)
    await told.call(GetCompanyRequest(id=company.id), reader)
    await told.call(GetIntegrationRequest(id=f"{MARKER}-1"), reader)
    for listing in (ListIntegrationsRequest, ListCompaniesRequest, ListDeliveriesRequest):
        await told.call(listing(page_size=1000), reader)
    await told.call(DeleteIntegrationRequest(id=f"{MARKER}-2", force=True), admin)
    await told.call(DeleteCompanyRequest(id=company.id), admin)


async def dumped(url: str) -> bytes:
    """Every row of every table as text, which shows bytes in hexadecimal."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables")
        rows = [row for (table,) in tables for row in await connection.fetch(f"SELECT t::text FROM {table} AS t")]
    finally:
        await connection.close()
    return "\n".join(row[0] for row in rows).encode()


PLACES = ("replies", "log", "traces", "metrics", "rows", "files")


@pytest.fixture(scope="module")
async def let_out() -> AsyncIterator[tuple[dict[str, bytes], dict[str, str]]]:
    """What is in each of PLACES afterwards, and the API keys of evbridge that were used."""
    with data_directory() as data_dir:
        environ = environment("", DATA_DIR=data_dir, SECRETS_KEYS="", LOG_LEVEL="DEBUG", DELIVERY_MAX_ATTEMPTS=2)
        async with (
            partner() as partner_url,
            collecting() as (collector, bodies),
            serving(environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector}) as server,
        ):
            url = EmbeddedPostgres(data_dir / "postgres").dsn()
            keys = await made_keys(url, Keyring.load(data_dir / "secrets.keys"))
            async with grpc.aio.insecure_channel(server.address) as channel:
                told = Told(channel)
                await tell(told, keys, partner_url)
            rows = await dumped(url)
        places = {
            "replies": told.words,
            "log": server.log.encode(),
            "traces": b"".join(body for body in bodies if body.startswith(b"/v1/traces")),
            "metrics": b"".join(body for body in bodies if body.startswith(b"/v1/metrics")),
            "rows": rows,
            "files": b"".join(path.read_bytes() for path in data_dir.rglob("*") if path.is_file()),
        }
        assert len(told.called) == len(METHODS)
        yield places, keys


async def made_keys(url: str, keyring: Keyring) -> dict[str, str]:
    database = Database(url, acquire_timeout_s=5.0)
    await database.open()
    try:
        async with database.transaction() as conn:
            roles = {"reader": 1, "writer": 2, "admin": 3, "revoked": 3}
            keys = {
                name: (await api_key_create(conn, keyring, "t", name, role)).reveal() for name, role in roles.items()
            }
        assert await api_key_revoke(database, "t", keys["revoked"].split("_")[1])
    finally:
        await database.close()
    return keys


def finds(place: bytes, text: str) -> bool:
    """Whether the text is there as it is, in hexadecimal, or in base64 at any offset."""
    plain = text.encode()
    # Of base64, what does not depend on the bytes around it.
    shifted = [base64.b64encode(bytes(offset) + plain)[-(-offset * 4 // 3) : -4] for offset in range(3)]
    return any(form in place for form in (plain, plain.hex().encode(), *shifted))


@pytest.mark.parametrize("place", PLACES)
async def test_no_secret_comes_out(let_out: tuple[dict[str, bytes], dict[str, str]], place: str) -> None:
    places, keys = let_out
    assert not finds(places[place], STAMP)
    for key in keys.values():
        assert not finds(places[place], key.split("_", 2)[2])


@pytest.mark.parametrize("place", [place for place in PLACES if place != "metrics"])
async def test_a_control_what_is_no_secret_is_found(
    let_out: tuple[dict[str, bytes], dict[str, str]], place: str
) -> None:
    assert finds(let_out[0][place], MARKER)


async def test_a_control_the_metrics_were_searched(let_out: tuple[dict[str, bytes], dict[str, str]]) -> None:
    assert finds(let_out[0]["metrics"], "evbridge.v1.CompanyService/UpsertCompany")


@pytest.mark.parametrize("offset", range(4))
def test_the_search_finds_every_form(offset: int) -> None:
    around = b"." * offset + STAMP.encode() + b"." * 7
    for form in (around, around.hex().encode(), base64.b64encode(around)):
        assert finds(form, STAMP)
        assert not finds(form, MARKER)
