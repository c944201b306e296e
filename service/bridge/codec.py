"""JSON text <-> message, for bodies as partners write them; compiled once per descriptor, pure.

Single values are read and written in values.py. All this differs from protobuf's own JSON mapping where partners do:

- names: an explicit json_name, else the field's name or its json_name, by one switch per partner;
- every scalar that is present travels, with false, 0 and ""; a REQUIRED field always travels, as null or [] when there
  is nothing;
- null is "not set", but a REQUIRED message of the body itself must not be null: {"data": null} is no document;
- a member nobody knows goes into the sink (a Struct) or is dropped;
- an unknown enum value, a wrong envelope or a missing REQUIRED member is an error, never an empty message;
- one bad object of a page (a field marked `items`) costs that object alone;
- fields that name the integration or an address never travel.
"""

from collections.abc import Container, Iterable
from json.encoder import encode_basestring
from typing import Any, Final, NamedTuple

from evbridge.options.v1 import options_pb2 as options
from google.api import field_behavior_pb2 as behavior
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from service.bridge.values import (
    WELL_KNOWN_TYPES,
    CodecError,
    JsonType,
    Read,
    Trail,
    Unwritable,
    Write,
    parse_json,
    read_raw,
    read_string,
    scalar,
    write_members,
)
from service.errors import InvalidArgument

__all__ = ["Codec", "CodecError", "Decoded", "compile_codec", "is_map", "marked", "travels", "wire_name"]

MAX_DEPTH: Final = 64
"""Arrays and objects within each other that a partner's JSON may have; in a Struct fewer, see read_raw."""


class Decoded(NamedTuple):
    """A message, and why objects of its pages were left out."""

    message: Any
    rejects: tuple[CodecError, ...]


class Codec:
    """Reads and writes the body that one message type makes. See compile_codec."""

    def __init__(self, descriptor: Descriptor, field_names: bool, member: str | None, without: frozenset[str]) -> None:
        self._new = GetMessageClass(descriptor)
        self._member = descriptor.fields_by_name[member] if member else None
        if self._member:
            self._type = _compile_field(self._member, field_names)
            self._body = _message_in(self._member)
        else:
            self._type = _compile_message(descriptor, field_names, without)
            self._body = descriptor
        self._may_be_blank = not member and not any(travels(field, without) for field in descriptor.fields)

    def encode(self, message: Message, clear: frozenset[str] = frozenset()) -> str:
        """Returns the JSON text; "" for google.protobuf.Empty.

        `clear` holds dotted paths of fields, from the message that is the body: what is not set there travels as null
        (repeated: []). Raises InvalidArgument for a path that does not exist and for a value JSON cannot carry.
        """
        body, above = message, tuple[str, ...]()
        if self._member:
            above = (self._member.name,)
            if not self._member.is_repeated and not message.HasField(self._member.name):
                raise InvalidArgument.field(self._member.name, "is required: it is the body")
            body = getattr(message, self._member.name)
        if self._body is not None and self._body.full_name == "google.protobuf.Empty":
            return ""
        try:
            return self._type.write(body, _tree(self._body, clear)) if clear else self._type.write(body)
        except Unwritable as fault:
            raise InvalidArgument.field(".".join((*above, *fault.path)), fault.problem) from None

    def decode(self, text: bytes | str) -> Decoded:
        """Returns the message and what was left out of its pages. Raises CodecError."""
        if self._may_be_blank and not text.strip():
            return Decoded(self._new(), ())
        value = parse_json(text)
        try:
            return self._read(value, Trail(quick=True))
        except (ValueError, TypeError, OverflowError):
            return self._read(value, Trail())

    def _read(self, value: Any, trail: Trail) -> Decoded:
        members = self._type.read(value, trail)
        message = self._new(**{self._member.name: members}) if self._member else self._new(**members)
        return Decoded(message, tuple(trail.rejects))


def compile_codec(
    descriptor: Descriptor, *, field_names: bool, member: str | None = None, without: frozenset[str] = frozenset()
) -> Codec:
    """Returns the codec of a message type; the same one for the same arguments.

    `field_names` names members by field instead of json_name. With `member` the body is that field's value, not the
    object around it. `without` are fields of the message itself that something else than the body carries.
    """
    key = (descriptor, field_names, member, without)
    if key not in _codecs:
        _codecs[key] = Codec(*key)
    return _codecs[key]


def wire_name(field: FieldDescriptor, field_names: bool) -> str:
    """What a field is called on the wire. A json_name that is not the implied one wins over the partner's switch."""
    first, *rest = field.name.split("_")
    implied = first + "".join(part[:1].upper() + part[1:] for part in rest)
    return field.name if field_names and field.json_name == implied else field.json_name


def marked(field: FieldDescriptor, option: Any) -> bool:
    """Whether a bool option of options.proto is true for the field."""
    return bool(field.GetOptions().Extensions[option])


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def travels(field: FieldDescriptor, without: Container[str] = ()) -> bool:
    """Whether the field is a member of the body."""
    apart = (options.sink, options.integration_id, options.address)
    return not (any(marked(field, option) for option in apart) or field.name in without)


_Tree = dict[FieldDescriptor, Any]
"""Fields to clear, each with the tree of those below it; an empty one where a path ends."""


def _tree(descriptor: Descriptor | None, paths: Iterable[str]) -> _Tree:
    tree: _Tree = {}
    for path in paths:
        node, within = tree, descriptor
        for name in path.split("."):
            field = within.fields_by_name.get(name) if within else None
            if field is None:
                raise InvalidArgument.field(path, "is not a field that can be cleared")
            node = node.setdefault(field, {})
            within = _message_in(field)
    return tree


def _message_in(field: FieldDescriptor) -> Descriptor | None:
    """The type of the message a singular field holds. None when it holds a single value."""
    type_ = None if field.is_repeated else field.message_type
    return None if type_ is None or type_.full_name in WELL_KNOWN_TYPES else type_


def _compile_message(descriptor: Descriptor, field_names: bool, without: frozenset[str] = frozenset()) -> JsonType:
    key = (descriptor, field_names, without)
    if key in _messages:
        return _messages[key]
    names = {field: wire_name(field, field_names) for field in descriptor.fields if travels(field, without)}
    required: _Tree = {
        field: {} for field in names if behavior.REQUIRED in field.GetOptions().Extensions[behavior.field_behavior]
    }
    required_names = {names[field] for field in required}
    required_messages = {names[field] for field in required if _message_in(field)}
    sink = next((field.name for field in descriptor.fields if marked(field, options.sink)), None)
    choices = [{field.name for field in oneof.fields} for oneof in descriptor.oneofs if len(oneof.fields) > 1]
    readers: dict[str, tuple[str, type | None, Read]] = {}
    writers: dict[FieldDescriptor, tuple[str, Write, str]] = {}

    def read(value: Any, trail: Trail) -> dict[str, Any]:
        if type(value) is not dict or len(trail) >= MAX_DEPTH:
            raise trail.fault(f"must be an object, at most {MAX_DEPTH} deep")
        quick = trail.quick
        members: dict[str, Any] = {}
        unknown: dict[str, Any] = {}
        for name, item in value.items():
            if name not in readers:
                unknown[name] = item
                continue
            field_name, ready, read_field = readers[name]
            if quick and type(item) is ready:
                members[field_name] = item
            elif item is not None:
                trail.append(name)
                members[field_name] = read_field(item, trail)
                trail.pop()
            elif name in required_messages and not trail:
                raise trail.missing(name)
        if unknown and readers and len(unknown) == len(value) and (sink is None or not trail):
            raise trail.fault(f"has none of the members of {descriptor.name}")
        if len(members) < len(readers) and not required_names <= value.keys():
            raise trail.missing(min(required_names - value.keys()))
        if unknown and sink is not None:
            members[sink] = read_raw(unknown, trail)
        if choices and any(len(choice & members.keys()) > 1 for choice in choices):
            raise trail.fault("has more than one member of a choice")
        return members

    def write(message: Message, clear: _Tree | None = None) -> str:
        text = ""
        fields = message.ListFields()
        try:
            for field, value in fields:
                prefix, write_field, _ = writers[field]
                below = clear and clear.get(field)
                text += prefix + (write_field(value, below) if below else write_field(value))
        except Unwritable as fault:
            fault.path = (field.name, *fault.path)
            raise
        if clear or (required and len(fields) < len(writers)):
            present = dict(fields)
            for field, below in (required | clear if clear else required).items():
                if field not in present:
                    prefix, write_field, nothing = writers[field]
                    text += prefix + write_field(getattr(message, field.name), below) if below else nothing
        return "{" + text[1:] + "}"

    _messages[key] = JsonType(read, write)  # before the fields: a message may contain itself
    for field in descriptor.fields:
        if field in names:
            name, type_ = names[field], _compile_field(field, field_names)
            prefix = f",{encode_basestring(name)}:"
            nothing = "{}" if is_map(field) else "[]" if field.is_repeated else "null"
            readers[name] = (field.name, type_.ready, type_.read)
            writers[field] = (prefix, type_.write, prefix + nothing)
        elif field.name == sink:
            writers[field] = ("", lambda struct: write_members(struct, known=readers), "")
        else:
            writers[field] = ("", lambda _: "", "")
    return _messages[key]


def _compile_field(field: FieldDescriptor, field_names: bool) -> JsonType:
    if field.message_type and is_map(field):
        return _map_of(_compile_value(field.message_type.fields_by_name["value"], field_names))
    type_ = _compile_value(field, field_names)
    return _list_of(type_, marked(field, options.items)) if field.is_repeated else type_


def _compile_value(field: FieldDescriptor, field_names: bool) -> JsonType:
    message = field.message_type
    if message is None:
        return scalar(field)
    return WELL_KNOWN_TYPES.get(message.full_name) or _compile_message(message, field_names)


def _list_of(type_: JsonType, items: bool) -> JsonType:
    read_item, write_item, ready, _ = type_
    all_ready = {ready}

    def read(value: Any, trail: Trail) -> list[Any]:
        values: list[Any] = trail.expect(value, list, "an array")
        if trail.quick and all_ready.issuperset(map(type, values)):
            return values
        good: list[Any] = []
        trail.append(0)
        depth = len(trail)
        for position, item in enumerate(values):
            trail[-1] = position
            try:
                good.append(read_item(item, trail))
            except CodecError as fault:
                if not items:
                    raise
                trail.rejects.append(CodecError(fault.pointer, fault.problem))  # a new one, which holds no frames
                del trail[depth:]
        trail.pop()
        return good

    return JsonType(read, lambda values: "[" + ",".join(map(write_item, values[:])) + "]")


def _map_of(type_: JsonType) -> JsonType:
    def read(value: Any, trail: Trail) -> dict[str, Any]:
        given: dict[str, Any] = trail.expect(value, dict, "an object")
        members: dict[str, Any] = {}
        trail.append(0)
        for position, (key, item) in enumerate(given.items()):
            trail[-1] = position  # not the key: that is the partner's word
            members[read_string(key, trail)] = type_.read(item, trail)
        trail.pop()
        return members

    def write(value: Any) -> str:
        return "{" + ",".join(f"{encode_basestring(key)}:{type_.write(value[key])}" for key in sorted(value)) + "}"

    return JsonType(read, write)


_codecs: dict[tuple[Descriptor, bool, str | None, frozenset[str]], Codec] = {}
_messages: dict[tuple[Descriptor, bool, frozenset[str]], JsonType] = {}
