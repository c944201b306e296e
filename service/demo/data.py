"""data.json: calls as one types them into grpcurl, which fill an empty evbridge with one of everything."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_KEY = ("integration_id", "country_code", "party_id", "id")
Credential = tuple[tuple[str, str], ...]


class Call(NamedTuple):
    """One rpc that was answered."""

    method: MethodDescriptor
    request: Message
    answer: Message

    @property
    def subject(self) -> str:
        """What was stored, by the ids that stand in the request."""
        return ", ".join(_ids(self.request))


async def made(channel: grpc.aio.Channel, credential: Credential, rpc: str, request: dict[str, Any]) -> Call:
    """Makes the call `Service/Rpc` of evbridge.v1. Raises AioRpcError."""
    service, name = rpc.split("/")
    method = Default().FindServiceByName(f"evbridge.v1.{service}").methods_by_name[name]
    message = ParseDict(request, GetMessageClass(method.input_type)())
    call = channel.unary_unary(
        f"/{method.containing_service.full_name}/{name}",
        request_serializer=type(message).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    return Call(method, message, await call(message, metadata=credential, timeout=30))


async def fill(channel: grpc.aio.Channel, credential: Credential) -> AsyncIterator[Call]:
    """Makes the calls, in order. What already exists stays as it is. Raises AioRpcError for any other failure."""
    for entry in json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")):
        try:
            yield await made(channel, credential, entry["rpc"], entry["request"])
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                raise


def _ids(message: Message) -> list[str]:
    """The keys of the outermost messages that have one."""
    key = [str(value) for field, value in message.ListFields() if field.name in _KEY]
    if key:
        return ["*".join(key)]
    below = [[value] if not field.is_repeated else value for field, value in message.ListFields() if field.message_type]
    return [id for values in below for each in values for id in _ids(each)]
