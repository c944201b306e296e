"""data.json: calls as one types them into grpcurl, which fill an empty evbridge with one of everything."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

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


async def fill(channel: grpc.aio.Channel, credential: Credential) -> AsyncIterator[Call]:
    """Makes the calls, in order. What already exists stays as it is. Raises AioRpcError for any other failure."""
    for entry in json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")):
        service, name = entry["rpc"].split("/")
        method = Default().FindServiceByName(f"evbridge.v1.{service}").methods_by_name[name]
        request = ParseDict(entry["request"], GetMessageClass(method.input_type)())
        call = channel.unary_unary(
            f"/{method.containing_service.full_name}/{name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        try:
            yield Call(method, request, await call(request, metadata=credential, timeout=30))
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
