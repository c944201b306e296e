"""JSON Web Tokens of an issuer: which open the door, what is told of those that do not, and what its keys cost."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import grpc
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from evbridge.options.v1.options_pb2 import ROLE_READER
from evbridge.v1.api_key_pb2 import CreateKeyRequest, Key, ListKeysRequest
from evbridge.v1.company_pb2 import ListCompaniesRequest, UpsertCompanyRequest

from service.app import evbridge
from service.identity import issuer_keys
from service.settings import SettingError
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.front_door import Client, a_company, fails, settings
from tests.partners import listening

Code = grpc.StatusCode
ISSUER, AUDIENCE = "https://login.example.com/", "evbridge"
LISTS = ListCompaniesRequest()
WHO = Statement("who", "SELECT key_id FROM change WHERE tenant_id = $1")


@dataclass
class Issuer:
    """Signs with `keys`, by their ids, of which it publishes all but those that are `hidden`."""

    keys: dict[str, Any] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    body: bytes | None = None
    status: int = 200
    asked: int = 0
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=self.status, body=self.published() if self.body is None else self.body)

    def published(self) -> bytes:
        keys = []
        for id, key in self.keys.items():
            kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
            if id not in self.hidden:
                keys.append({**kind.to_jwk(key.public_key(), as_dict=True), "kid": id, "use": "sig"})
        return json.dumps({"keys": [{"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}, *keys]}).encode()

    def token(self, of: str, key: str = "rsa", algorithm: str = "RS256", **changes: Any) -> str:
        """For a reader; a claim that is None is left out."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": f"user-{uuid4()}",
            "exp": now + 3600,
            "iat": now,
            "tenant": of,
            "role": "reader",
            **changes,
        }
        present = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(present, self.keys[key], algorithm, headers={"kid": key})


def configured(url: str, issuer: Issuer, **changes: Any) -> Any:
    by_issuer = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks_url": issuer.url}
    return settings(url, delivery=False, ocpi_listen="", **{**by_issuer, **changes})


@asynccontextmanager
async def serving(url: str, issuer: Issuer, **changes: Any) -> AsyncIterator[grpc.aio.Channel]:
    async with (
        evbridge(configured(url, issuer, **changes)) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        yield channel


@pytest.fixture(scope="module")
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer({"rsa": rsa.generate_private_key(65537, 2048), "ec": ec.generate_private_key(ec.SECP256R1())})
    made.keys["stranger"] = rsa.generate_private_key(65537, 2048)
    made.hidden.add("stranger")
    application = web.Application()
    application.router.add_get("/keys", made.answer)
    async with listening(application) as url:
        made.url = f"{url}/keys"
        yield made


@pytest.fixture(scope="module")
async def door(shared_database_url: str, issuer: Issuer) -> AsyncIterator[grpc.aio.Channel]:
    async with serving(shared_database_url, issuer) as channel:
        yield channel


@pytest.mark.parametrize(("key", "algorithm"), [("rsa", "RS256"), ("ec", "ES256")])
async def test_a_token_of_the_issuer_opens_the_door_to_its_tenant_in_its_role(
    door: grpc.aio.Channel, issuer: Issuer, tenant: Tenant, key: str, algorithm: str
) -> None:
    company = UpsertCompanyRequest(company=a_company())
    reader = Client(door, issuer.token(tenant.name, key, algorithm))
    await reader.companies.ListCompanies(LISTS)
    failure = await fails(reader.companies.UpsertCompany(company))
    assert (failure.code, failure.reason) == (Code.PERMISSION_DENIED, "ROLE_REQUIRED")
    writer = Client(door, issuer.token(tenant.name, key, algorithm, role=["staff", "writer", "reader", 7], sub="ada"))
    await writer.companies.UpsertCompany(company)
    assert len((await reader.companies.ListCompanies(LISTS)).companies) == 1
    await Client(door, tenant.keys["reader"]).companies.ListCompanies(LISTS)  # keys go on working


async def test_an_admin_with_a_token_makes_keys_and_is_named_in_the_feed(
    door: grpc.aio.Channel, issuer: Issuer, tenant: Tenant, shared_database_url: str
) -> None:
    admin = Client(door, issuer.token(tenant.name, role="admin", sub="ada@example.com", aud=["other", AUDIENCE]))
    made = await admin.keys.CreateKey(CreateKeyRequest(key=Key(role=ROLE_READER)))
    await Client(door, made.secret).companies.ListCompanies(LISTS)
    assert made.key.id in str(await tenant.admin.keys.ListKeys(ListKeysRequest()))
    await admin.companies.UpsertCompany(UpsertCompanyRequest(company=a_company()))
    async with evbridge(settings(shared_database_url, delivery=False, ocpi_listen="")) as running:
        assert await running.database.value(WHO, tenant.name) == "jwt/ada@example.com"


def forged(issuer: Issuer, tenant: str, algorithm: str) -> str:
    """A token without a signature, or with one by a secret that everybody knows: the public key."""
    header, body, _ = issuer.token(tenant).split(".")
    header = _encoded(json.dumps({"alg": algorithm, "typ": "JWT", "kid": "rsa"}).encode())
    public = issuer.keys["rsa"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = hmac.digest(public, f"{header}.{body}".encode(), hashlib.sha256) if algorithm == "HS256" else b""
    return f"{header}.{body}.{_encoded(signed)}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def refused(issuer: Issuer, tenant: str) -> dict[str, tuple[str, str]]:
    """Tokens that open nothing, and the problem of each."""
    good, now = issuer.token(tenant), int(time.time())
    header, body, signature = good.split(".")
    deep = _encoded(b'{"alg": ' + b"[" * 3000)
    other = _encoded(b'{"alg": "ES256", "kid": "rsa"}')
    shared = jwt.encode({"sub": "x"}, b"secret" * 8, "HS256", headers={"kid": "shared"})
    return {
        "no signature": (f"{header}.{body}.", "signature"),
        "another's signature": (f"{header}.{body}.{issuer.token(tenant).split('.')[2]}", "signature"),
        "another body": (f"{header}.{issuer.token('other').split('.')[1]}.{signature}", "signature"),
        "expired": (issuer.token(tenant, exp=now - 60), "CREDENTIAL_EXPIRED"),
        "not yet": (issuer.token(tenant, nbf=now + 600), "not_yet"),
        "another audience": (issuer.token(tenant, aud="other"), "audience"),
        "another issuer": (issuer.token(tenant, iss="https://login.example.com"), "issuer"),
        "alg none": (forged(issuer, tenant, "none"), "algorithm"),
        "HS256 by the public key": (forged(issuer, tenant, "HS256"), "algorithm"),
        "HS256 by a shared key": (shared, "algorithm"),
        "an algorithm that is not allowed": (issuer.token(tenant, algorithm="PS256"), "algorithm"),
        "the algorithm of another key": (f"{other}.{body}.{signature}", "algorithm"),
        "an unknown key": (issuer.token(tenant, "stranger"), "key"),
        "no name of a key": (jwt.encode({"sub": "x"}, issuer.keys["rsa"], "RS256"), "key"),
        "no end": (issuer.token(tenant, exp=None), "claim"),
        "no audience": (issuer.token(tenant, aud=None), "claim"),
        "no subject": (issuer.token(tenant, sub=None), "claim"),
        "an endless subject": (issuer.token(tenant, sub="x" * 201), "subject"),
        "no tenant": (issuer.token(tenant, tenant=None), "tenant"),
        "a tenant that does not exist": (issuer.token("nobody"), "tenant"),
        "a tenant that cannot be": (issuer.token("no\0body"), "tenant"),
        "no role": (issuer.token(tenant, role=None), "role"),
        "a role of somebody else's": (issuer.token(tenant, role={"admin": True}), "role"),
        "garbage": ("a.nothing.c", "malformed"),
        "a deep header": (f"{deep}.{body}.{signature}", "malformed"),
        "an infinite end": (issuer.token(tenant, exp=float("inf")), "malformed"),
    }


async def test_every_other_token_is_unauthenticated_with_a_reason(
    door: grpc.aio.Channel, issuer: Issuer, tenant: Tenant
) -> None:
    for what, (token, problem) in refused(issuer, tenant.name).items():
        failure = await fails(Client(door, token).companies.ListCompanies(LISTS))
        assert failure.code is Code.UNAUTHENTICATED, (what, failure)
        told = failure.metadata.get("problem", failure.reason)
        assert told == problem, (what, failure)
        assert failure.reason in ("JWT_INVALID", "CREDENTIAL_EXPIRED"), what
        assert token.split(".")[1] not in str(failure), what
    await Client(door, issuer.token(tenant.name)).companies.ListCompanies(LISTS)  # the control


async def test_a_token_is_nothing_where_no_issuer_is_named(
    channel: grpc.aio.Channel, issuer: Issuer, tenant: Tenant
) -> None:
    failure = await fails(Client(channel, issuer.token(tenant.name)).companies.ListCompanies(LISTS))
    assert (failure.code, failure.reason) == (Code.UNAUTHENTICATED, "CREDENTIAL_REQUIRED")


async def test_strangers_cost_the_issuer_nothing(door: grpc.aio.Channel, issuer: Issuer, tenant: Tenant) -> None:
    asked = issuer.asked
    body = issuer.token(tenant.name).partition(".")[2]
    for number in range(200):
        header = _encoded(json.dumps({"alg": "RS256", "kid": f"made up {number}"}).encode())
        failure = await fails(Client(door, f"{header}.{body}").companies.ListCompanies(LISTS))
        assert failure.metadata == {"problem": "key"}
    assert issuer.asked <= asked + 1, "once a minute"


async def test_keys_are_read_again_when_one_is_not_known(
    shared_database_url: str, issuer: Issuer, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that the issuer has taken back is not good any more."""
    monkeypatch.setattr(issuer_keys, "_LEAST_S", 0.01)
    turning = Issuer({"rsa": issuer.keys["rsa"]})
    application = web.Application()
    application.router.add_get("/keys", turning.answer)
    async with listening(application) as url:
        turning.url = f"{url}/keys"
        async with serving(shared_database_url, turning) as channel:
            await Client(channel, turning.token(tenant.name)).companies.ListCompanies(LISTS)
            turning.keys["newer"] = issuer.keys["stranger"]
            turning.hidden.add("rsa")
            await _opens(channel, turning, tenant.name, "newer")
            failure = await fails(Client(channel, turning.token(tenant.name)).companies.ListCompanies(LISTS))
            assert failure.metadata == {"problem": "key"}
            # An issuer that is away takes nothing from those whose keys are known.
            asked, turning.status = turning.asked, 500
            await fails(Client(channel, turning.token(tenant.name, "rsa")).companies.ListCompanies(LISTS))
            async with asyncio.timeout(60):
                while turning.asked == asked:
                    await asyncio.sleep(0.01)
            await Client(channel, turning.token(tenant.name, "newer")).companies.ListCompanies(LISTS)


async def _opens(channel: grpc.aio.Channel, issuer: Issuer, tenant: str, key: str) -> None:
    """A token with the key does, once the key is known."""
    async with asyncio.timeout(60):
        while True:
            try:
                await Client(channel, issuer.token(tenant, key)).companies.ListCompanies(LISTS)
            except grpc.aio.AioRpcError as error:
                assert error.code() is Code.UNAUTHENTICATED
                await asyncio.sleep(0.02)
            else:
                return


WEAK = {"kty": "RSA", "kid": "rsa", "n": _encoded(b"\xff" * 64), "e": "AQAB"}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"{}"),
        (200, b"<html>"),
        (200, b'{"keys": 7}'),
        (200, json.dumps({"keys": [WEAK, 7, {"kty": "oct", "kid": "s", "k": "czM"}]}).encode()),
        (200, b"[" * 100_000),
        (200, b" " * (256 << 10) + b"{}"),
    ],
    ids=["a fault", "a page", "no list", "no key that is good", "too deep", "too large"],
)
async def test_while_the_issuers_keys_cannot_be_read_tokens_are_unauthenticated_and_keys_work(
    status: int,
    body: bytes,
    shared_database_url: str,
    issuer: Issuer,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(issuer_keys, "_FIRST_PAUSE_S", 0.05)
    broken = Issuer(dict(issuer.keys), body=body, status=status)
    application = web.Application()
    application.router.add_get("/keys", broken.answer)
    async with listening(application) as url:
        broken.url = f"{url}/keys"
        async with serving(shared_database_url, broken) as channel:
            failure = await fails(Client(channel, broken.token(tenant.name)).companies.ListCompanies(LISTS))
            assert (failure.code, failure.reason) == (Code.UNAUTHENTICATED, "JWT_KEYS_UNAVAILABLE")
            assert failure.retry_after_s
            await Client(channel, tenant.keys["reader"]).companies.ListCompanies(LISTS)
            broken.status, broken.body = 200, None
            await _opens(channel, broken, tenant.name, "rsa")  # the control: it was that


@pytest.mark.parametrize(
    "url", ["https://10.0.0.1/keys", "http://192.0.2.1/keys", "https://u:p@login.example.com/keys"]
)
async def test_keys_are_not_read_from_where_partners_may_not_be(url: str, shared_database_url: str) -> None:
    with pytest.raises(SettingError, match="EVBRIDGE_JWT_JWKS_URL"):
        async with serving(shared_database_url, Issuer(url=url)):
            pass
