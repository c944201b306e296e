"""The partner contracts, read once at start: every rpc with its HTTP rule, checked and compiled.

A contract that could lose data silently (an implicit scalar, a second binding, a message in the query) does not start.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from evbridge.options.v1 import options_pb2 as options
from google.api import annotations_pb2 as annotations
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from service.bridge.codec import Codec, compile_codec, is_map, marked, travels, wire_name
from service.bridge.values import WELL_KNOWN_TYPES, JsonType, scalar

_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()+,;=:@%-]+|\{(?P<variable>[A-Za-z0-9_.]+)(=\*)?\}")


class ContractError(ValueError):
    """A contract that cannot be served. The text names every fault, one per line."""


@dataclass(frozen=True, slots=True)
class Partner:
    """How a partner's API is spoken."""

    name: str
    field_names: bool
    credential_header: str
    credential_prefix: str
    unique_id_headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A scalar of the request that travels in the URL. `name` is its dotted field path, or its wire name in a query."""

    name: str
    field: FieldDescriptor
    type: JsonType


@dataclass(frozen=True, slots=True)
class Operation:
    """One rpc of a partner's contract.

    `path` holds the segments after the first slash, none for "/", which adds nothing to the address; `body` is None
    when a request has none; `address_field` names the field that holds the URL to call, if there is one. An operation
    that is `safe` only reads.
    """

    name: str
    partner: Partner
    http_method: str
    path: tuple[str | Parameter, ...]
    query: tuple[Parameter, ...]
    body: Codec | None
    reply: Codec
    request_type: type[Message]
    response_type: type[Message]
    integration_field: str
    safe: bool
    address_field: str = ""


class Registry:
    """All operations of some contracts, by the path gRPC calls them under."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations: Mapping[str, Operation] = MappingProxyType({each.name: each for each in operations})

    @classmethod
    def of(cls, files: Iterable[FileDescriptor]) -> "Registry":
        """Reads every service of the files. Raises ContractError with all faults."""
        operations, faults = [], []
        for file in files:
            option = file.GetOptions().Extensions[options.partner]
            if not option.name:
                faults.append(f"{file.name}: has no partner option")
            partner = Partner(
                name=option.name,
                field_names=option.wire_names != options.WIRE_NAMES_JSON,
                credential_header=option.credential_header.name,
                credential_prefix=option.credential_header.prefix,
                unique_id_headers=tuple(option.unique_id_headers),
            )
            for service in file.services_by_name.values():
                for method in service.methods:
                    try:
                        operations.append(_operation(method, partner))
                    except ContractError as fault:
                        faults.append(str(fault))
        if faults:
            raise ContractError("\n".join(dict.fromkeys("\n".join(faults).splitlines())))
        return cls(operations)


def _operation(method: MethodDescriptor, partner: Partner) -> Operation:
    rule, request, response = method.GetOptions().Extensions[annotations.http], method.input_type, method.output_type
    verb = rule.WhichOneof("pattern")
    faults = [f"{method.full_name}: {problem}" for problem in _rule_faults(method, rule)]
    seen: set[str] = set()
    for message in (request, response):
        faults += _message_faults(message, partner.field_names, seen)
    if faults:
        raise ContractError("\n".join(faults))
    path = tuple(
        Parameter(name, field, scalar(field)) if field else name
        for name, field in _segments(request, getattr(rule, verb))
    )
    in_path = frozenset(segment.name for segment in path if isinstance(segment, Parameter))
    body = None
    if rule.body:
        body = compile_codec(
            request,
            field_names=partner.field_names,
            member=None if rule.body == "*" else rule.body,
            without=in_path if rule.body == "*" else frozenset(),
        )
    return Operation(
        name=f"/{method.containing_service.full_name}/{method.name}",
        partner=partner,
        http_method=verb.upper(),
        path=path,
        query=tuple(
            Parameter(wire_name(field, partner.field_names), field, scalar(field))
            for field in _query_fields(request, rule)
        ),
        body=body,
        reply=compile_codec(response, field_names=partner.field_names, member=rule.response_body or None),
        request_type=GetMessageClass(request),
        response_type=GetMessageClass(response),
        integration_field=next(field.name for field in request.fields if marked(field, options.integration_id)),
        safe=method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS,
        address_field=next((field.name for field in request.fields if marked(field, options.address)), ""),
    )


def _segments(request: Descriptor, path: str) -> Iterator[tuple[str, FieldDescriptor | None]]:
    """The segments after the first slash: a literal without a field, or a variable's name with its field.

    Raises ContractError for anything else and for a variable that names no singular scalar.
    """
    for segment in path.removeprefix("/").split("/") if path != "/" else ():
        match = _SEGMENT.fullmatch(segment)
        if match is None or not path.startswith("/"):
            raise ContractError(f"the path {path} is not made of literals and single-segment variables")
        name = match["variable"]
        field: FieldDescriptor | None = None
        within: Descriptor | None = request
        for part in name.split(".") if name else ():
            field = within.fields_by_name.get(part) if within else None
            within = field.message_type if field and not field.is_repeated else None
        if name and (field is None or field.is_repeated or field.message_type or not travels(field)):
            raise ContractError(f"the path variable {name} is not a singular scalar of {request.name} that travels")
        yield name or segment, field


def _query_fields(request: Descriptor, rule: Any) -> list[FieldDescriptor]:
    path = getattr(rule, rule.WhichOneof("pattern"))
    elsewhere = {rule.body, *(name for name, field in _segments(request, path) if field)}
    return (
        []
        if rule.body == "*"
        else [field for field in request.fields if travels(field, elsewhere) or marked(field, options.sink)]
    )


def _rule_faults(method: MethodDescriptor, rule: Any) -> Iterator[str]:
    request = method.input_type
    if method.client_streaming or method.server_streaming:
        yield "streams"
    ids = [field for field in request.fields if marked(field, options.integration_id)]
    if len(ids) != 1 or ids[0].type != FieldDescriptor.TYPE_STRING or ids[0].is_repeated:
        yield f"{request.name} needs one string field marked integration_id"
    addresses = [field for field in request.fields if marked(field, options.address)]
    if len(addresses) > 1 or any(each.type != FieldDescriptor.TYPE_STRING or each.is_repeated for each in addresses):
        yield f"{request.name} has at most one address, a string"
    if rule.response_body and rule.response_body not in method.output_type.fields_by_name:
        yield f"the response_body {rule.response_body} is not a field of {method.output_type.name}"
    if not rule.response_body and method.output_type.full_name in WELL_KNOWN_TYPES:
        yield f"{method.output_type.name} cannot be a response itself: make it a field, named by response_body"
    if rule.additional_bindings:
        yield "has additional_bindings"
    if rule.body and rule.body != "*" and rule.body not in request.fields_by_name:
        yield f"the body {rule.body} is not a field of {request.name}"
    if rule.WhichOneof("pattern") in (None, "custom"):
        yield "has a custom verb" if rule.HasField("custom") else "has no google.api.http"
        return
    try:
        for field in _query_fields(request, rule):
            if field.message_type:
                yield f"{field.name} is a message and would have to travel in the query"
    except ContractError as fault:
        yield str(fault)


def _message_faults(message: Descriptor, field_names: bool, seen: set[str]) -> Iterator[str]:
    """What is wrong with a message or one below it; `seen` are the ones already looked at."""
    if message.full_name in seen or message.full_name in WELL_KNOWN_TYPES:
        return
    seen.add(message.full_name)
    if message.file.package == "google.protobuf" and message.name != "Empty":
        yield f"{message.full_name}: has no form on a partner's wire"
        return
    sinks = [field for field in message.fields if marked(field, options.sink)]
    if len(sinks) > 1 or any(
        field.is_repeated or not field.message_type or field.message_type.full_name != "google.protobuf.Struct"
        for field in sinks
    ):
        yield f"{message.full_name}: a message has at most one sink, a google.protobuf.Struct"
    names: set[str] = set()
    for field in message.fields:
        name = wire_name(field, field_names)
        if travels(field) and name in names:
            yield f"{field.full_name}: another field has the wire name {name} too"
        if travels(field):
            names.add(name)
        if not field.is_repeated and not field.message_type and not field.has_presence:
            yield f"{field.full_name}: is an implicit scalar, so its zero would not travel: make it optional"
        if field.type == FieldDescriptor.TYPE_FLOAT:
            yield f"{field.full_name}: a float cannot hold the digits of a JSON number: make it a double"
        if marked(field, options.items) and not (field.is_repeated and field.message_type and not is_map(field)):
            yield f"{field.full_name}: items are repeated messages"
        below = field.message_type
        if below and is_map(field):
            if below.fields_by_name["key"].type != FieldDescriptor.TYPE_STRING:
                yield f"{field.full_name}: a map's keys are strings"
            below = below.fields_by_name["value"].message_type
        if below:
            yield from _message_faults(below, field_names, seen)
