"""What a partner's contract must not have: whatever would lose data silently, or could not be served. Pure."""

import re
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import unquote

from evbridge.options.v1 import options_pb2 as options
from google.api import annotations_pb2 as annotations
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from service.bridge.values import WELL_KNOWN_TYPES, enum_names
from service.bridge.wire import also_named, fields_on_the_wire, inlined, is_map, is_mask, marked, travels, wire_name
from service.domain.exchange import is_hidden

_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()+,;=:@%-]+|\{(?P<variable>[A-Za-z0-9_.]+)(=\*)?\}")


class ContractError(ValueError):
    """A contract that cannot be served. The text names every fault, one per line."""


def path_segments(request: Descriptor, path: str) -> Iterator[tuple[str, FieldDescriptor | None]]:
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


def query_fields(request: Descriptor, rule: Any) -> list[FieldDescriptor]:
    """The fields that a google.api.http rule leaves to the query. Raises what path_segments raises."""
    path = getattr(rule, rule.WhichOneof("pattern"))
    elsewhere = {rule.body, *(name for name, field in path_segments(request, path) if field)}
    if rule.body == "*":
        return []
    return [field for field in request.fields if travels(field, elsewhere) or marked(field, options.sink)]


def rpc_faults(method: MethodDescriptor, field_names: bool) -> Iterator[str]:
    """What is wrong with an rpc that is one HTTP request, each with the name of what has it."""
    request, rule = method.input_type, method.GetOptions().Extensions[annotations.http]
    for faults in (_form_faults(method), _request_faults(request, rule), _rule_faults(method, rule)):
        for problem in faults:
            yield f"{method.full_name}: {problem}"
    seen: set[str] = set()
    for message in (request, method.output_type):
        yield from _message_faults(message, field_names, seen, [field for field in request.fields if is_mask(field)])


def _form_faults(method: MethodDescriptor) -> Iterator[str]:
    if method.client_streaming or method.server_streaming:
        yield "streams"
    if not method.GetOptions().Extensions[options.role]:
        yield "names no role"


def _request_faults(request: Descriptor, rule: Any) -> Iterator[str]:
    masks = [field for field in request.fields if is_mask(field)]
    if len(masks) > 1 or any(mask.is_repeated for mask in masks) or (masks and not rule.body):
        yield "a request has at most one google.protobuf.FieldMask, and a body for it"
    ids = [field for field in request.fields if marked(field, options.integration_id)]
    if len(ids) != 1 or not _is_text(ids[0]):
        yield f"{request.name} needs one string field marked integration_id"
    addresses = [field for field in request.fields if marked(field, options.address)]
    if len(addresses) > 1 or not all(map(_is_text, addresses)):
        yield f"{request.name} has at most one address, a string"


def _rule_faults(method: MethodDescriptor, rule: Any) -> Iterator[str]:
    request, response = method.input_type, method.output_type
    if rule.response_body and rule.response_body not in response.fields_by_name:
        yield f"the response_body {rule.response_body} is not a field of {response.name}"
    if not rule.response_body and response.full_name in WELL_KNOWN_TYPES:
        yield f"{response.name} cannot be a response itself: make it a field, named by response_body"
    if rule.additional_bindings:
        yield "has additional_bindings"
    if rule.body and rule.body != "*" and rule.body not in request.fields_by_name:
        yield f"the body {rule.body} is not a field of {request.name}"
    if rule.WhichOneof("pattern") in (None, "custom"):
        yield "has a custom verb" if rule.HasField("custom") else "has no google.api.http"
        return
    try:
        for field in query_fields(request, rule):
            if field.message_type:
                yield f"{field.name} is a message and would have to travel in the query"
    except ContractError as fault:
        yield str(fault)


def _message_faults(
    message: Descriptor, field_names: bool, seen: set[str], masks: Collection[FieldDescriptor]
) -> Iterator[str]:
    """What is wrong with a message or one below it; `seen` are the ones already looked at, `masks` do not travel."""
    if message.full_name in seen or message.full_name in WELL_KNOWN_TYPES:
        return
    seen.add(message.full_name)
    if message.file.package == "google.protobuf" and message.name != "Empty":
        yield f"{message.full_name}: has no form on a partner's wire"
        return
    if not all(map(_may_be_sink, sinks := _sinks(message))) or len(sinks) > 1:
        yield f"{message.full_name}: a message has at most one sink, a google.protobuf.Struct"
    for oneof in filter(inlined, message.oneofs):
        if not all(_may_be_inlined(field.message_type) for field in oneof.fields):
            problem = "an inlined oneof holds messages of ours, without a sink and other names"
            yield f"{message.full_name}.{oneof.name}: {problem}"
            return
    yield from _name_faults(message, field_names)
    for field in message.fields:
        for problem in _field_faults(field, field_names):
            yield f"{field.full_name}: {problem}"
        below = _value_type(field)
        if below and field not in masks:
            yield from _message_faults(below, field_names, seen, ())


def _name_faults(message: Descriptor, field_names: bool) -> Iterator[str]:
    """Members of an inlined oneof share names: which of them is meant, the other members say."""
    places: dict[str, str] = {}
    for own, (field, *_) in fields_on_the_wire(message, field_names):
        around = field.containing_oneof
        place = around.full_name if around and inlined(around) else field.full_name
        for name in (own, *also_named(field)):
            if places.setdefault(name, place) != place:
                yield f"{field.full_name}: another field has the wire name {name} too"


def _field_faults(field: FieldDescriptor, field_names: bool) -> Iterator[str]:
    if not field.is_repeated and not field.message_type and not field.has_presence:
        yield "is an implicit scalar, so its zero would not travel: make it optional"
    if field.enum_type and len(names := enum_names(field.enum_type)) > len(set(names.values())):
        yield "two values of its enum have one wire name"
    if field.type == FieldDescriptor.TYPE_FLOAT:
        yield "a float cannot hold the digits of a JSON number: make it a double"
    if marked(field, options.secret) and not all(map(is_hidden, (wire_name(field, field_names), *also_named(field)))):
        yield "is secret, and a recorded exchange cannot tell that by its wire name"
    if marked(field, options.items) and not (field.is_repeated and field.message_type and not is_map(field)):
        yield "items are repeated messages"
    known = field.message_type.fields_by_name if field.message_type else ()
    for name in field.GetOptions().Extensions[options.needs]:
        if name not in known:
            yield f"needs {name}, which it does not have"
    if (message := field.message_type) and is_map(field) and not _is_text(message.fields_by_name["key"]):
        yield "a map's keys are strings"


def _is_text(field: FieldDescriptor) -> bool:
    return field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated


def _may_be_sink(field: FieldDescriptor) -> bool:
    message = field.message_type
    return not field.is_repeated and message is not None and message.full_name == "google.protobuf.Struct"


def _may_be_inlined(variant: Descriptor | None) -> bool:
    """Whether the object around it can hand on all members that it reads."""
    if variant is None or variant.full_name in WELL_KNOWN_TYPES:
        return False
    return not _sinks(variant) and not any(also_named(field) for field in variant.fields)


def _sinks(message: Descriptor) -> list[FieldDescriptor]:
    return [field for field in message.fields if marked(field, options.sink)]


def _value_type(field: FieldDescriptor) -> Descriptor | None:
    """The message that a field, or each value of a map, holds."""
    message = field.message_type
    return message.fields_by_name["value"].message_type if message and is_map(field) else message
