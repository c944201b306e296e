"""Who may call what: every rpc x every kind of credential, and what a caller learns."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.api_key_pb2 import Key
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from service.app import PARTNERS, Evbridge
from service.bridge.registry import contract_files
from service.cli.keys import ROLES
from service.storage.api_key import api_key_insert, api_key_revoke, new_key
from tests.conftest import Tenant
from tests.front_door import fails, failure_of

SERVICES = [
    service
    for package in ("evbridge.v1", *(partner.contract for partner in PARTNERS if partner.contract))
    for file in contract_files(package)
    for service in file.services_by_name.values()
    if not service.GetOptions().Extensions[options.internal]
]
METHODS = [method for service in SERVICES for method in service.methods]
BY_NAME = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)


async def _call(
    channel: grpc.aio.Channel,
    method: MethodDescriptor,
    metadata: tuple[tuple[str, str], ...],
    request: Message | None = None,
) -> Any:
    """The answer to a request, an empty one when none is given, or the first answer."""
    new = channel.unary_stream if method.server_streaming else channel.unary_unary
    rpc = new(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    call = rpc(request or GetMessageClass(method.input_type)(), metadata=metadata, timeout=10)
    if not method.server_streaming:
        return await call
    try:
        return await call.read()
    finally:
        call.cancel()


CREDENTIALS = {
    "none": (),
    "empty": (("authorization", ""),),
    "another scheme": (("authorization", "Basic ZXZiOmtleQ=="),),
    "not a key": (("authorization", "Bearer password"),),
    "an unknown key": (("authorization", f"Bearer evb_abcdefgh_{secrets.token_urlsafe(32)}"),),
    "another header": (("x-api-key", "evb_abcdefgh_x"),),
}


@BY_NAME
async def test_without_a_good_key_every_rpc_is_unauthenticated(
    channel: grpc.aio.Channel, method: MethodDescriptor
) -> None:
    for kind, credential in CREDENTIALS.items():
        failure = await fails(_call(channel, method, credential))
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_REQUIRED"), kind


@BY_NAME
async def test_a_role_below_the_contract_is_refused_and_one_at_it_gets_in(
    channel: grpc.aio.Channel, tenant: Tenant, method: MethodDescriptor
) -> None:
    needed = method.GetOptions().Extensions[options.role]
    assert needed != options.ROLE_UNSPECIFIED
    for role, number in ROLES.items():
        call = _call(channel, method, (("authorization", f"Bearer {tenant.keys[role]}"),))
        if number < needed:
            failure = await fails(call)
            assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED")
            assert failure.metadata["role"] == role.upper()
        else:
            try:
                await call
            except grpc.aio.AioRpcError as error:
                # The request is empty: it is judged by its content now.
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def _bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


@pytest.fixture
async def limited(running: Evbridge, tenant: Tenant) -> Callable[..., Awaitable[str]]:
    """Makes an admin key with limits, which no server has seen yet."""

    async def make(**limits: Any) -> str:
        key = new_key()
        async with running.database.transaction() as conn:
            await api_key_insert(conn, running.keyring, tenant.name, Key(role=options.ROLE_ADMIN, **limits), key)
        return key.reveal()

    return make


async def test_a_key_that_ended_opens_no_rpc(
    running: Evbridge, channel: grpc.aio.Channel, tenant: Tenant, limited: Callable[..., Awaitable[str]]
) -> None:
    ended = {
        "CREDENTIAL_REQUIRED": await limited(name="revoked"),
        "CREDENTIAL_EXPIRED": await limited(name="expired", expire_time=Timestamp(seconds=1)),
    }
    revoked = ended["CREDENTIAL_REQUIRED"].split("_")[1]
    assert await api_key_revoke(running.database, tenant.name, revoked)
    for method in METHODS:
        for reason, key in ended.items():
            failure = await fails(_call(channel, method, _bearer(key)))
            assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason), method.full_name


async def test_a_key_for_one_service_opens_no_other(
    channel: grpc.aio.Channel, limited: Callable[..., Awaitable[str]]
) -> None:
    own = "evbridge.v1.PartyService"
    key = await limited(services=[own])
    opened = []
    for method in METHODS:
        if method.containing_service.full_name == own:
            opened.append(await _outcome(channel, method, key))
        else:
            failure = await fails(_call(channel, method, _bearer(key)))
            assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "KEY_LIMITED")
            assert failure.metadata["service"] == method.containing_service.full_name
    assert {*opened} == {"", "INVALID_FIELD"}


async def _outcome(channel: grpc.aio.Channel, method: MethodDescriptor, key: str, request: Any = None) -> str:
    """The reason of the failure, "" for none."""
    try:
        await _call(channel, method, _bearer(key), request)
    except grpc.aio.AioRpcError as error:
        return failure_of(error).reason
    return ""


def _naming(descriptor: Descriptor, id: str) -> Message | None:
    """A request that says that it is about an integration, with nothing else in it; None when it cannot say so."""
    message: Any = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.GetOptions().Extensions[options.integration_id]:
            setattr(message, field.name, id)
            return message  # type: ignore[no-any-return]
    for field in descriptor.fields:
        ours = field.message_type and field.message_type.file.package.startswith("evbridge.")
        if ours and (inner := _naming(field.message_type, id)) is not None:
            if field.is_repeated:
                getattr(message, field.name).append(inner)
            else:
                getattr(message, field.name).CopyFrom(inner)
            return message  # type: ignore[no-any-return]
    return None


async def test_a_key_for_one_integration_opens_what_names_it_and_nothing_else(
    channel: grpc.aio.Channel, limited: Callable[..., Awaitable[str]]
) -> None:
    key = await limited(integrations=["own"])
    closed = set()
    for method in METHODS:
        name = method.full_name
        assert await _outcome(channel, method, key) == "KEY_LIMITED", f"{name} without an integration"
        own, other = (_naming(method.input_type, id) for id in ("own", "other"))
        if other is None:
            closed.add(name)
            continue
        failure = await fails(_call(channel, method, _bearer(key), other))
        assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "KEY_LIMITED"), name
        assert failure.metadata == {"limit": "integrations", "integration": "other"}, name
        if not method.server_streaming:
            assert await _outcome(channel, method, key, own) != "KEY_LIMITED", f"{name} with its own"
    # All that calls partners can be told apart; what makes a key or an integration more than it was is closed.
    assert {name for name in closed if name.startswith("evbridge.partner.")} == set()
    for name in ("KeyService.CreateKey", "IntegrationService.UpdateIntegration", "PartnerService.Preview"):
        assert f"evbridge.v1.{name}" in closed


async def test_a_revoked_key_stops_working(running: Evbridge, channel: grpc.aio.Channel, tenant: Tenant) -> None:
    key = tenant.keys["reader"]
    assert await api_key_revoke(running.database, tenant.name, key.split("_")[1])
    (method,) = (each for each in METHODS if each.full_name == "evbridge.v1.CompanyService.ListCompanies")
    # Never used before, so the server has no fresh answer about it.
    failure = await fails(_call(channel, method, (("authorization", f"Bearer {key}"),)))
    assert failure.code is grpc.StatusCode.UNAUTHENTICATED
    assert not await api_key_revoke(running.database, tenant.name, key.split("_")[1])


async def test_the_scheme_is_read_in_any_case(channel: grpc.aio.Channel, tenant: Tenant) -> None:
    (method,) = (each for each in METHODS if each.full_name == "evbridge.v1.CompanyService.ListCompanies")
    await _call(channel, method, (("authorization", f"bearer {tenant.keys['reader']}"),))
