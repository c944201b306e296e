"""The partner contracts, read once at start: every rpc with its HTTP rule, checked (checks.py) and compiled."""

import pkgutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any

from evbridge.options.v1 import options_pb2 as options
from google.api import annotations_pb2 as annotations
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from service.bridge.checks import ContractError, path_segments, query_fields, rpc_faults
from service.bridge.codec import Codec, compile_codec
from service.bridge.values import JsonType, scalar
from service.bridge.wire import fields_on_the_wire, is_mask, marked, personal_names, wire_name


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
    next_link_header: str = ""
    unique_id_headers: tuple[str, ...] = ()
    strict_answers: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """A scalar of the request that travels in the URL. `name` is its dotted field path, or its wire name in a query."""

    name: str
    field: FieldDescriptor
    type: JsonType

    @property
    def is_personal(self) -> bool:
        return marked(self.field, options.personal_data)


@dataclass(frozen=True, slots=True)
class Operation:
    """One rpc of a partner's contract.

    `path` holds the segments after the first slash, none for "/", which adds nothing to the address; `body` is None
    when a request has none; `address_field` names the field that holds the URL to call, if there is one. An operation
    that is `safe` only reads; one that is `routed` says from which party to which it goes. The answer of a `raw` one is
    handed on as it was parsed, beside the message. What stands under a name of `personal` says who somebody is.
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
    routed: bool = False
    raw: bool = False
    personal: frozenset[str] = frozenset()

    @property
    def template(self) -> str:
        """The path for people and for metrics, with the names of its variables."""
        return "".join(f"/{part}" if isinstance(part, str) else f"/{{{part.name}}}" for part in self.path)


@dataclass(frozen=True, slots=True)
class Pages:
    """An rpc that streams the pages of a list: the one that reads a page, and the fields that lead to the next URL.

    There are none when a header does.
    """

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
            stated = [option for file in contents if (option := file.GetOptions().Extensions[options.partner]).name]
            if not stated or any(other != stated[0] for other in stated):
                faults.append(f"{package}: its files have {'different' if stated else 'no'} partner options")
            partner = _partner(stated[0] if stated else options.Partner())
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


@cache
def contract_files(package: str) -> tuple[FileDescriptor, ...]:
    """The files of a contract's package, `evbridge.partner.ocpi.v2`. Raises ImportError when there is none."""
    found = pkgutil.iter_modules(import_module(package).__path__, f"{package}.")
    return tuple(import_module(module.name).DESCRIPTOR for module in found if module.name.endswith("_pb2"))


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
        next_link_header=option.next_link_header,
        unique_id_headers=tuple(option.unique_id_headers),
        strict_answers=option.strict_answers,
    )


def _pages(method: MethodDescriptor, partner: Partner, operations: Mapping[str, Operation]) -> Pages:
    option = method.GetOptions().Extensions[options.pages_of]
    page = operations.get(f"/{method.containing_service.full_name}/{option}")
    next_link: tuple[str, ...] = ()
    faults = []
    if method.client_streaming or not method.server_streaming or method.GetOptions().HasExtension(annotations.http):
        faults.append("has pages_of, so it streams its answers and has no google.api.http")
    if not method.GetOptions().Extensions[options.role]:
        faults.append("names no role")
    if page is None or not (page.safe and page.http_method == "GET"):
        faults.append(f"{option} is no rpc of its service that only reads, with GET")
    elif (method.input_type, method.output_type) != (page.request_type.DESCRIPTOR, page.response_type.DESCRIPTOR):
        faults.append(f"its messages are not those of {option}")
    elif not partner.next_link_header and not (next_link := _next_link(method.output_type, partner)):
        faults.append(f"{method.output_type.name} has no string {'.'.join(partner.next_link)}")
    if page is None or faults:
        raise ContractError("\n".join(f"{method.full_name}: {problem}" for problem in faults))
    return Pages(f"/{method.containing_service.full_name}/{method.name}", page, next_link)


def _next_link(response: Descriptor, partner: Partner) -> tuple[str, ...]:
    """The fields that lead to the next URL; none when the response has no string at that place."""
    within: Descriptor | None = response
    fields: list[FieldDescriptor] = []
    for name in partner.next_link:
        steps = dict(fields_on_the_wire(within, partner.field_names)).get(name, ()) if within else ()
        if len(steps) != 1:
            return ()
        fields += steps
        within = steps[0].message_type if not steps[0].is_repeated else None
    return tuple(field.name for field in fields) if fields[-1].type == FieldDescriptor.TYPE_STRING else ()


@cache  # a server's registry and those of the simulators beside it read the same rpcs
def _operation(method: MethodDescriptor, partner: Partner) -> Operation:
    if faults := "\n".join(rpc_faults(method, partner.field_names)):
        raise ContractError(faults)
    rule, request, response = method.GetOptions().Extensions[annotations.http], method.input_type, method.output_type
    verb, level = rule.WhichOneof("pattern"), method.GetOptions().idempotency_level
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
            for field in query_fields(request, rule)
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
        mask_field=next((field.name for field in request.fields if is_mask(field)), ""),
        safe=level == MethodOptions.NO_SIDE_EFFECTS,
        idempotent=level in (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT),
        address_field=next((field.name for field in request.fields if marked(field, options.address)), ""),
        routed=method.containing_service.GetOptions().Extensions[options.routed],
        personal=_personal(method, partner),
    )


def _personal(method: MethodDescriptor, partner: Partner) -> frozenset[str]:
    members = method.containing_service.GetOptions().Extensions[options.personal_members]
    messages = (method.input_type, method.output_type)
    return frozenset(members).union(*(personal_names(message, partner.field_names) for message in messages))


def _path(request: Any, template: str) -> tuple[str | Parameter, ...]:
    return tuple(
        Parameter(name, field, scalar(field)) if field else name for name, field in path_segments(request, template)
    )


def _variables(path: tuple[str | Parameter, ...]) -> list[str]:
    return sorted(segment.name for segment in path if isinstance(segment, Parameter))
