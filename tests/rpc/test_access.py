"""Who may call what: every rpc x every kind of credential, and what a caller learns."""

import secrets
from typing import Any

import grpc
import pytest
from evbridge.options.v1 import options_pb2 as options
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from service.app import PARTNERS, Evbridge
from service.bridge.registry import contract_files
from service.cli.keys import ROLES
from service.storage.api_key import api_key_revoke
from tests.conftest import Tenant
from tests.front_door import fails

SERVICES = [
    service
    for package in ("evbridge.v1", *(partner.contract for partner in PARTNERS if partner.contract))
    for file in contract_files(package)
    for service in file.services_by_name.values()
    if not service.GetOptions().Extensions[options.internal]
]
METHODS = [method for service in SERVICES for method in service.methods]
BY_NAME = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)


async def _call(channel: grpc.aio.Channel, method: MethodDescriptor, metadata: tuple[tuple[str, str], ...]) -> Any:
    """The answer to an empty request, or the first of them."""
    new = channel.unary_stream if method.server_streaming else channel.unary_unary
    rpc = new(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    call = rpc(GetMessageClass(method.input_type)(), metadata=metadata, timeout=10)
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
