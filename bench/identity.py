"""What it costs in processor time to know who calls and what they may do, and to keep what they changed.

GetIntegration with a key, with one that is limited in every way, and with a JSON Web Token; ReportEvseStatus with and
without its audit event. The limits of keys and the audit have no switch: who does without is this benchmark.
"""

import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import grpc
import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from evbridge.options.v1.options_pb2 import ROLE_WRITER
from evbridge.v1.api_key_pb2 import CreateKeyRequest, Key
from evbridge.v1.api_key_pb2_grpc import KeyServiceStub
from evbridge.v1.chargeprice_connection_pb2 import ChargepriceConnection
from evbridge.v1.integration_pb2 import (
    INTEGRATION_TYPE_CHARGEPRICE,
    CreateIntegrationRequest,
    GetIntegrationRequest,
    Integration,
)
from evbridge.v1.integration_pb2_grpc import IntegrationServiceStub
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_AVAILABLE,
    EVSE_STATUS_CHARGING,
    BatchUpsertLocationsRequest,
    EvseStatusReport,
    LocationKey,
    ReportEvseStatusRequest,
    ReportEvseStatusResponse,
)
from evbridge.v1.location_pb2_grpc import LocationServiceStub
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, CreatePartyRequest, Party
from evbridge.v1.party_pb2_grpc import PartyServiceStub

from bench import load, servers
from bench.rounds import BURST_S, Round, child, play
from bench.sample import location
from service.app import FIRST_TENANT
from service.resources import mutation

ROUNDS = 9
SECONDS = 0.8
WARM_UP_S = 1.0
AIM = 0.10
"""Of the processor time of a call without it, at most."""
LOCATIONS = 64
_ISSUER, _AUDIENCE = "https://login.example.com/", "evbridge"


def report() -> None:
    with ExitStack() as stack:
        client = stack.enter_context(child(load.run))
        directories = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evb", dir="/tmp"))) for _ in range(2)
        ]
        audited = stack.enter_context(child(servers.run, with_tokens, directories[0]))
        silent = stack.enter_context(child(servers.run, without_audit, directories[1]))
        address, credentials = audited.pipe.recv()
        key, token = credentials.split()
        calls = {
            **_reads(address, key, token),
            "audit": _reports(address, key),
            "no audit": _reports(*silent.pipe.recv()),
        }
        of = {name: silent if name == "no audit" else audited for name in calls}
        for name, call in calls.items():
            play(of[name], client, call, WARM_UP_S)
        turns = [{name: play(of[name], client, call, SECONDS) for name, call in calls.items()} for _ in range(ROUNDS)]
    print(f"processor time of a call in the server's process: median of {ROUNDS} interleaved rounds of {SECONDS} s\n")
    for title, name, other in (
        ("GetIntegration, a limited key", "limited", "key"),
        ("GetIntegration, a JSON Web Token", "token", "key"),
        ("ReportEvseStatus, its audit event", "audit", "no audit"),
    ):
        _show(title, turns, name, other)


def _show(title: str, turns: list[dict[str, Round]], name: str, other: str) -> None:
    us = {each: median(turn[each].server_us for turn in turns) for each in (name, other)}
    more = median(turn[name].server_us / turn[other].server_us for turn in turns) - 1
    verdict = "" if more <= AIM else f": the aim is {AIM:.0%}, it FALLS SHORT"
    print(f"{title:36}{us[name]:6.0f} us with, {us[other]:6.0f} us without, {more:+6.1%}{verdict}", flush=True)


@asynccontextmanager
async def with_tokens(directory: Path) -> AsyncIterator[servers.Running]:
    """evbridge, and an issuer of tokens whose keys it reads; the key of a `Running` is followed by a token."""
    key = rsa.generate_private_key(65537, 2048)
    published = {**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "one", "use": "sig"}

    async def keys(_: web.Request) -> web.Response:
        return web.json_response({"keys": [published]})

    application = web.Application()
    application.router.add_get("/keys", keys)
    reached: dict[str, Any] = {"egress_allow_loopback": True, "egress_allow_http": True}
    now = int(time.time())
    claims = {"iss": _ISSUER, "aud": _AUDIENCE, "sub": "bench", "iat": now, "exp": now + 3600}
    claims |= {"tenant": FIRST_TENANT, "role": "reader"}
    token = jwt.encode(claims, key, "RS256", headers={"kid": "one"})
    async with servers.http(application) as address:
        url = f"http://{address}/keys"
        names: dict[str, Any] = {"jwt_issuer": _ISSUER, "jwt_audience": _AUDIENCE, "jwt_jwks_url": url}
        async with servers.full(directory, burst_s=BURST_S, **names, **reached) as running:
            yield running._replace(key=f"{running.key} {token}")


@asynccontextmanager
async def without_audit(directory: Path) -> AsyncIterator[servers.Running]:
    async def keep_nothing(*_: Any) -> None:
        pass

    with patch.object(mutation, "audit_call", keep_nothing):
        async with servers.full(directory, burst_s=BURST_S) as running:
            yield running


def _reads(address: str, key: str, token: str) -> dict[str, load.Call]:
    """The same call with three credentials."""
    credential = (("authorization", f"Bearer {key}"),)
    with grpc.insecure_channel(address) as channel:
        connection = ChargepriceConnection(base_url="http://127.0.0.1:9", api_key="partner-key")
        integration = Integration(id="cp", type=INTEGRATION_TYPE_CHARGEPRICE, chargeprice=connection)
        create = CreateIntegrationRequest(integration=integration)
        stored = IntegrationServiceStub(channel).CreateIntegration(create, metadata=credential)
        wanted = Key(role=ROLE_WRITER, name="limited", integrations=["cp"], calls_per_minute=1_000_000)
        wanted.services.append("evbridge.v1.IntegrationService")
        limited = KeyServiceStub(channel).CreateKey(CreateKeyRequest(key=wanted), metadata=credential).secret
    path = "/evbridge.v1.IntegrationService/GetIntegration"
    request = GetIntegrationRequest(id="cp").SerializeToString()
    replies = range(stored.ByteSize(), stored.ByteSize() + 1)
    keys = {"key": key, "limited": limited, "token": token}
    return {name: load.Call(address, path, each, (request,), replies) for name, each in keys.items()}


def _reports(address: str, key: str) -> load.Call:
    """The status of one EVSE at a time, another one each time."""
    credential = (("authorization", f"Bearer {key}"),)
    locations = [location(number) for number in range(LOCATIONS)]
    party = Party(country_code=locations[0].country_code, party_id=locations[0].party_id, roles=[PARTY_ROLE_CPO])
    party.business_details.name = "Wattwerk"
    with grpc.insecure_channel(address) as channel:
        PartyServiceStub(channel).CreateParty(CreatePartyRequest(party=party), metadata=credential)
        batch = BatchUpsertLocationsRequest(locations=locations, allow_missing=True)
        LocationServiceStub(channel).BatchUpsertLocations(batch, metadata=credential)
    requests = [
        ReportEvseStatusRequest(
            reports=[
                EvseStatusReport(
                    location=LocationKey(country_code=party.country_code, party_id=party.party_id, id=each.id),
                    evse_uid=each.evses[0].uid,
                    status=status,
                )
            ]
        ).SerializeToString()
        for status in (EVSE_STATUS_CHARGING, EVSE_STATUS_AVAILABLE)
        for each in locations
    ]
    # Two of one EVSE may pass each other, and then nothing changes.
    replies = range(ReportEvseStatusResponse(changed_count=1).ByteSize() + 1)
    return load.Call(address, "/evbridge.v1.LocationService/ReportEvseStatus", key, tuple(requests), replies)
