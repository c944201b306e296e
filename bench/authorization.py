"""Real-time authorisation, while a driver waits: by our rpc and at the door of OCPI parties, each beside an echo.

At the door the stored token answers, or a service that listens, a process of its own: then each question goes through
the database to the service, and its answer back. The echoes send the same bytes: grpc.aio, and aiohttp.
"""

import asyncio
import base64
import gc
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import grpc
from aiohttp import web
from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.authorization_pb2 import (
    ALLOWED_TYPE_ALLOWED,
    AnswerAuthorizationRequest,
    AuthorizeTokenRequest,
    ServeAuthorizationsRequest,
)
from evbridge.v1.authorization_pb2_grpc import AuthorizationServiceStub
from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_OCPI, Integration
from evbridge.v1.location_pb2 import TOKEN_TYPE_RFID
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_BOTH, OcpiConnection
from evbridge.v1.party_pb2 import PARTY_ROLE_EMSP, Party, PartyKey
from evbridge.v1.token_pb2 import WHITELIST_TYPE_ALLOWED, CreateTokenRequest, Token
from evbridge.v1.token_pb2_grpc import TokenServiceStub
from evbridge.v1.types_pb2 import BusinessDetails

from bench import load, servers
from bench.rounds import BURST_S, Child, child, play, show
from service.app import evbridge
from service.cli.common import loop_factory
from service.resources.registration import token_give
from service.settings import Settings
from service.storage.api_key import api_key_create
from service.storage.integration import integration_insert
from service.storage.partner_token import new_token
from service.storage.party import party_insert

ROUNDS = 5
SECONDS = 1.5
WARM_UP_S = 1.0
CONNECTIONS = (1, 16)
_TENANT, _UID = "acme", "04A1B2C3D4E5F6"
_RPC = "/evbridge.v1.AuthorizationService/AuthorizeToken"
_DOOR = f"/ocpi/emsp/2.2.1/tokens/{_UID}/authorize"
_REFERENCE = "0f5c2a7d"
_PLACE = b'{"location_id": "LOC-1", "evse_uids": ["E1"]}'


def report() -> None:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evb", dir="/tmp")))
        client = stack.enter_context(child(load.run))
        ours = stack.enter_context(child(servers.run, with_parties, directory))
        places, secrets = (told.split() for told in ours.pipe.recv())
        stack.enter_context(child(listen, places[0], secrets[0])).pipe.recv()
        print(
            f"\nMay a token charge: median of {ROUNDS} interleaved rounds of {SECONDS} s on {os.cpu_count()} processors"
        )
        _compare("AuthorizeToken, of a token that is kept", client, *_by_rpc(stack, ours, places[0], secrets[0]))
        _compare(
            "POST .../tokens/{uid}/authorize, OCPI 2.2.1", client, *_at_the_door(stack, ours, places[1], *secrets[1:])
        )


def _compare(title: str, client: Child, children: dict[str, Child], calls: dict[str, load.Call]) -> None:
    for connections in CONNECTIONS:
        now = {name: call._replace(connections=connections, in_flight=1) for name, call in calls.items()}
        for name, call in now.items():
            play(children[name], client, call, WARM_UP_S)
        turns = [
            {name: play(children[name], client, call, SECONDS) for name, call in now.items()} for _ in range(ROUNDS)
        ]
        print(f"\n{title}, {connections} at once")
        show(turns, ("echo",))


def _by_rpc(stack: ExitStack, ours: Child, address: str, key: str) -> tuple[dict[str, Child], dict[str, load.Call]]:
    request = AuthorizeTokenRequest(uid=_UID)
    with grpc.insecure_channel(address) as channel:
        credential = (("authorization", f"Bearer {key}"),)
        reply = AuthorizationServiceStub(channel).AuthorizeToken(request, metadata=credential).SerializeToString()
    echo = stack.enter_context(child(servers.run, servers.echo, {_RPC: reply}))
    one_length = range(len(reply), len(reply) + 1)
    call = load.Call(address, _RPC, key, (request.SerializeToString(),), one_length)
    return {"echo": echo, "stored": ours}, {"echo": call._replace(address=echo.pipe.recv()[0]), "stored": call}


def _at_the_door(
    stack: ExitStack, ours: Child, address: str, stored: str, served: str
) -> tuple[dict[str, Child], dict[str, load.Call]]:
    """What the service says has a reference, so its answers are longer."""
    replies = {}
    for token in (stored, served):
        with urlopen(Request(f"http://{address}{_DOOR}", _PLACE, {"Authorization": f"Token {token}"})) as answer:
            replies[token] = answer.read()
    assert [_REFERENCE.encode() in each for each in replies.values()] == [False, True], replies
    echo = stack.enter_context(child(servers.run, http_echo, replies[served]))
    at_stored, at_served = (
        load.Call(address, _DOOR, token, (_PLACE,), range(len(reply), len(reply) + 1), grpc=False)
        for token, reply in replies.items()
    )
    calls = {"echo": at_served._replace(address=echo.pipe.recv()[0]), "stored": at_stored, "served": at_served}
    return {"echo": echo, "stored": ours, "served": ours}, calls


@asynccontextmanager
async def http_echo(reply: bytes) -> AsyncIterator[servers.Running]:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=reply, content_type="application/json")

    application = web.Application()
    application.router.add_post("/{path:.*}", answer)
    async with servers.http(application) as address:
        yield servers.Running(address)


@asynccontextmanager
async def with_parties(directory: Path) -> AsyncIterator[servers.Running]:
    """A provider, and two operators that ask it: behind the address and the key stand those of OCPI's door."""
    settings = Settings(
        listen="127.0.0.1:0", ocpi_listen="127.0.0.1:0", data_dir=directory, first_key=False, burst_s=BURST_S
    )
    async with evbridge(settings) as running:
        tokens = [new_token(), new_token()]
        party = Party(country_code="DE", party_id="EMP", roles=[PARTY_ROLE_EMSP])
        party.business_details.CopyFrom(BusinessDetails(name="Driver"))
        async with running.database.transaction() as conn:
            key = await api_key_create(conn, running.keyring, _TENANT, "", options.ROLE_ADMIN)
            await party_insert(conn, _TENANT, party)
            for id, token in zip(("stored", "served"), tokens, strict=True):
                integration = Integration(
                    id=id,
                    type=INTEGRATION_TYPE_OCPI,
                    enabled=True,
                    parties=[PartyKey(country_code="DE", party_id="EMP")],
                    ocpi=OcpiConnection(initial_role=INTERFACE_ROLE_BOTH),
                )
                await integration_insert(conn, _TENANT, integration)
                await token_give(conn, running.keyring, _TENANT, id, token)
        async with grpc.aio.insecure_channel(running.address) as channel:
            stub: Any = TokenServiceStub(channel)
            credential = (("authorization", f"Bearer {key.reveal()}"),)
            await stub.CreateToken(CreateTokenRequest(token=_a_token()), metadata=credential)
        gc.collect()
        gc.freeze()
        written = [base64.b64encode(each.reveal().encode()).decode() for each in tokens]
        door = running.ocpi_url.removeprefix("http://")
        yield servers.Running(f"{running.address} {door}", " ".join((key.reveal(), *written)))


def _a_token() -> Token:
    return Token(
        country_code="DE",
        party_id="EMP",
        uid=_UID,
        type=TOKEN_TYPE_RFID,
        contract_id="DEEMPC12345678X",
        issuer="Driver",
        valid=True,
        whitelist=WHITELIST_TYPE_ALLOWED,
    )


def listen(pipe: Connection, address: str, key: str) -> None:
    """A process's main: the provider's service, which lets everybody charge; it says when it listens."""
    credential = (("authorization", f"Bearer {key}"),)

    async def run() -> None:
        async with grpc.aio.insecure_channel(address) as channel, asyncio.TaskGroup() as tasks:
            stub: Any = AuthorizationServiceStub(channel)
            stream = stub.ServeAuthorizations(ServeAuthorizationsRequest(integration_id="served"), metadata=credential)
            await stream.read()
            pipe.send(None)
            ended = asyncio.create_task(asyncio.to_thread(pipe.poll, None))
            ended.add_done_callback(lambda _: stream.cancel())
            with suppress(asyncio.CancelledError):
                while response := await stream.read():
                    for question in response.questions:
                        tasks.create_task(answer(stub, question.id))

    async def answer(stub: Any, id: str) -> None:
        said = AnswerAuthorizationRequest(id=id, allowed=ALLOWED_TYPE_ALLOWED, authorization_reference=_REFERENCE)
        await stub.AnswerAuthorization(said, metadata=credential)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


if __name__ == "__main__":
    report()
