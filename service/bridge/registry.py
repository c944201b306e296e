"""The partner contracts, read once at start: every rpc with its HTTP rule, checked and compiled.

A contract that could lose data silently (an implicit scalar, a second binding, a message in the query) does not start.
"""

import pkgutil
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from evbridge.options.v1 import options_pb2 as options
from google.api import annotations_pb2 as annotations
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from service.bridge.codec import (
    Codec,
    also_named,
    compile_codec,
    fields_on_the_wire,
    inlined,
    is_map,
    is_mask,
    marked,
    travels,
    wire_name,
)
from service.bridge.values import WELL_KNOWN_TYPES, JsonType, enum_names, scalar
from service.domain.exchange import is_hidden

_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()+,;=:@%-]+|\{(?P<variable>[A-Za-z0-9_.]+)(=\*)?\}")


class ContractError(ValueError):
    """A contract that cannot be served. The text names every fault, one per line."""


@dataclass(frozen=True, slots=True)
class Partner:
    """How a partner's API is spoken. The credential travels in a header or, when that is named, in the query.

    With `strict_answers` nothing is read that the contract does not say.
    """

    name: str
    field_names: bool
    credential_header: str = ""
    credential_prefix: str = ""
    credential_query: str = ""
    next_link: tuple[str, ...] = ("links", "next")
    unique_id_headers: tuple[str, ...] = ()
    strict_answers: bool = False


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
    mask_field: str
    safe: bool
    idempotent: bool
    address_field: str = ""


@dataclass(frozen=True, slots=True)
class Pages:
    """An rpc that streams the pages of a list: the one that reads a page, and the fields that lead to the next URL."""

    name: str
    page: Operation
    next_link: tuple[str, ...]


class Registry:
    """Some contracts: their services, and by the path gRPC calls them under, operations and streams of pages."""

    def __init__(
        self, services: Iterable[ServiceDescriptor], operations: Iterable[Operation], pages: Iterable[Pages]
    ) -> None:
        self.services = tuple(services)
        self.operations: Mapping[str, Operation] = MappingProxyType({each.name: each for each in operations})
        self.pages: Mapping[str, Pages] = MappingProxyType({each.name: each for each in pages})

    @classmethod
    def of(cls, files: Iterable[FileDescriptor]) -> "Registry":
        """Reads every service of the files. Raises ContractError with all faults."""
        operations: dict[str, Operation] = {}
        services: list[ServiceDescriptor] = []
        streams, pages, faults = [], [], []
        packages: dict[str, list[FileDescriptor]] = defaultdict(list)
        for file in files:
            packages[file.package].append(file)
        for package, contents in packages.items():
            said = [option for file in contents if (option := file.GetOptions().Extensions[options.partner]).name]
            if not said or any(other != said[0] for other in said):
                faults.append(f"{package}: its files have {'different' if said else 'no'} partner options")
            partner = _partner(said[0] if said else options.Partner())
            found = [service for file in contents for service in file.services_by_name.values()]
            services += found
            for method in (rpc for service in found for rpc in service.methods):
                if method.GetOptions().Extensions[options.pages_of]:
                    streams.append((method, partner))
                    continue
                try:
                    operation = _operation(method, partner)
                    operations[operation.name] = operation
                except ContractError as fault:
                    faults.append(str(fault))
        for method, partner in streams:
            try:
                pages.append(_pages(method, partner, operations))
            except ContractError as fault:
                faults.append(str(fault))
        if faults:
            raise ContractError("\n".join(dict.fromkeys("\n".join(faults).splitlines())))
        return cls(services, operations.values(), pages)


def contract_files(package: str) -> list[FileDescriptor]:
    """The files of a contract's package, `evbridge.partner.ocpi.v2`. Raises ImportError when there is none."""
    found = pkgutil.iter_modules(import_module(package).__path__, f"{package}.")
    return [import_module(module.name).DESCRIPTOR for module in found if module.name.endswith("_pb2")]


def at_path(operation: Operation, template: str | None) -> Operation:
    """The operation at another path with the same variables, or as it is. Raises ContractError."""
    if template is None:
        return operation
    path = _path(operation.request_type.DESCRIPTOR, template)
    if _variables(path) != _variables(operation.path):
        raise ContractError(f"the path {template} has not the variables of {operation.name}, each once")
    return replace(operation, path=path)


def _partner(option: options.Partner) -> Partner:
    return Partner(
        name=option.name,
        field_names=option.wire_names != options.WIRE_NAMES_JSON,
        credential_header=option.credential_header.name,
        credential_prefix=option.credential_header.prefix,
        credential_query=option.credential_query,
        next_link=tuple((option.next_link or "links.next").split(".")),
        unique_id_headers=tuple(option.unique_id_headers),
        strict_answers=option.strict_answers,
    )


def _pages(method: MethodDescriptor, partner: Partner, operations: Mapping[str, Operation]) -> Pages:
    option = method.GetOptions().Extensions[options.pages_of]
    page = operations.get(f"/{method.containing_service.full_name}/{option}")
    faults = []
    if method.client_streaming or not method.server_streaming or method.GetOptions().HasExtension(annotations.http):
        faults.append("has pages_of, so it streams its answers and has no google.api.http")
    if not method.GetOptions().Extensions[options.role]:
        faults.append("names no role")
    next_link: list[str] = []
    if page is None or not (page.safe and page.http_method == "GET"):
        faults.append(f"{option} is no rpc of its service that only reads, with GET")
    elif (method.input_type, method.output_type) != (page.request_type.DESCRIPTOR, page.response_type.DESCRIPTOR):
        faults.append(f"its messages are not those of {option}")
    else:
        within: Descriptor | None = method.output_type
        for name in partner.next_link:
            way = dict(fields_on_the_wire(within, partner.field_names)).get(name) if within else None
            field = way[0] if way and len(way) == 1 else None
            within = field.message_type if field and not field.is_repeated else None
            next_link += [field.name] if field else []
        if len(next_link) < len(partner.next_link) or field is None or field.type != FieldDescriptor.TYPE_STRING:
            faults.append(f"{method.output_type.name} has no string {'.'.join(partner.next_link)}")
    if page is None or faults:
        raise ContractError("\n".join(f"{method.full_name}: {problem}" for problem in faults))
    return Pages(f"/{method.containing_service.full_name}/{method.name}", page, tuple(next_link))


def _operation(method: MethodDescriptor, partner: Partner) -> Operation:
    rule, request, response = method.GetOptions().Extensions[annotations.http], method.input_type, method.output_type
    verb, level = rule.WhichOneof("pattern"), method.GetOptions().idempotency_level
    faults = [f"{method.full_name}: {problem}" for problem in _rule_faults(method, rule)]
    seen: set[str] = set()
    masks = [field for field in request.fields if is_mask(field)]
    for message in (request, response):
        faults += _message_faults(message, partner.field_names, seen, masks)
    if faults:
        raise ContractError("\n".join(faults))
    path = _path(request, getattr(rule, verb))
    in_path = frozenset(_variables(path))
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
        reply=compile_codec(
            response,
            field_names=partner.field_names,
            member=rule.response_body or None,
            lenient=not partner.strict_answers,
        ),
        request_type=GetMessageClass(request),
        response_type=GetMessageClass(response),
        integration_field=next(field.name for field in request.fields if marked(field, options.integration_id)),
        mask_field=masks[0].name if masks else "",
        safe=level == MethodOptions.NO_SIDE_EFFECTS,
        idempotent=level in (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT),
        address_field=next((field.name for field in request.fields if marked(field, options.address)), ""),
    )


def _path(request: Any, template: str) -> tuple[str | Parameter, ...]:
    return tuple(
        Parameter(name, field, scalar(field)) if field else name for name, field in _segments(request, template)
    )


def _variables(path: tuple[str | Parameter, ...]) -> list[str]:
    return sorted(segment.name for segment in path if isinstance(segment, Parameter))


def _segments(request: Descriptor, path: str) -> Iterator[tuple[str, FieldDescriptor | None]]:
    """The segments after the first slash: a literal without a field, or a variable's name with its field.

    Raises ContractError for anything else and for a variable that names no singular scalar.
    """
    for segment in path.removeprefix("/").split("/") if path != "/" else ():
        match = _SEGMENT.fullmatch(segment)
        if match is None or unquote(segment) in (".", "..") or not path.startswith("/"):
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
    if not method.GetOptions().Extensions[options.role]:
        yield "names no role"
    masks = [field for field in request.fields if is_mask(field)]
    if len(masks) > 1 or any(mask.is_repeated for mask in masks) or (masks and not rule.body):
        yield "a request has at most one google.protobuf.FieldMask, and a body for it"
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


def _message_faults(
    message: Descriptor, field_names: bool, seen: set[str], masks: Iterable[FieldDescriptor] = ()
) -> Iterator[str]:
    """What is wrong with a message or one below it; `seen` are the ones already looked at, `masks` do not travel."""
    if message.full_name in seen or message.full_name in WELL_KNOWN_TYPES:
        return
    seen.add(message.full_name)
    if message.file.package == "google.protobuf" and message.name != "Empty":
        yield f"{message.full_name}: has no form on a partner's wire"
        return
    sinks = _sinks(message)
    if len(sinks) > 1 or any(
        field.is_repeated or not field.message_type or field.message_type.full_name != "google.protobuf.Struct"
        for field in sinks
    ):
        yield f"{message.full_name}: a message has at most one sink, a google.protobuf.Struct"
    for oneof in filter(inlined, message.oneofs):
        variants = [field.message_type for field in oneof.fields]
        if any(each is None or each.full_name in WELL_KNOWN_TYPES or _astray(each) for each in variants):
            problem = "an inlined oneof holds messages of ours, without a sink and other names"
            yield f"{message.full_name}.{oneof.name}: {problem}"
            return
    places: dict[str, str] = {}
    for own, (field, *_) in fields_on_the_wire(message, field_names):
        around = field.containing_oneof
        place = around.full_name if around and inlined(around) else field.full_name
        for name in (own, *also_named(field)):
            if places.setdefault(name, place) != place:
                yield f"{field.full_name}: another field has the wire name {name} too"
    for field in message.fields:
        if not field.is_repeated and not field.message_type and not field.has_presence:
            yield f"{field.full_name}: is an implicit scalar, so its zero would not travel: make it optional"
        if field.enum_type and len(names := enum_names(field.enum_type)) > len(set(names.values())):
            yield f"{field.full_name}: two values of its enum have one wire name"
        if field.type == FieldDescriptor.TYPE_FLOAT:
            yield f"{field.full_name}: a float cannot hold the digits of a JSON number: make it a double"
        if marked(field, options.secret) and not all(
            map(is_hidden, (wire_name(field, field_names), *also_named(field)))
        ):
            yield f"{field.full_name}: is secret, and a recorded exchange cannot tell that by its wire name"
        if marked(field, options.items) and not (field.is_repeated and field.message_type and not is_map(field)):
            yield f"{field.full_name}: items are repeated messages"
        below = field.message_type
        if below and is_map(field):
            if below.fields_by_name["key"].type != FieldDescriptor.TYPE_STRING:
                yield f"{field.full_name}: a map's keys are strings"
            below = below.fields_by_name["value"].message_type
        if below and field not in masks:
            yield from _message_faults(below, field_names, seen)


def _astray(variant: Descriptor) -> bool:
    """Whether it reads members that the object around it would not hand on."""
    return bool(_sinks(variant)) or any(also_named(field) for field in variant.fields)


def _sinks(message: Descriptor) -> list[FieldDescriptor]:
    return [field for field in message.fields if marked(field, options.sink)]
