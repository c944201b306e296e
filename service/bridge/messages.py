"""Messages <-> JSON objects, with their lists and maps, compiled once per descriptor. codec.py has the rules. Pure."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from json.encoder import encode_basestring
from typing import Any, Final, NamedTuple

from buf.validate import validate_pb2
from evbridge.options.v1 import options_pb2 as options
from google.api import field_behavior_pb2 as behavior
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from service.bridge import tidy
from service.bridge.json_text import CodecError, text_as_read
from service.bridge.tidy import Tidy
from service.bridge.values import (
    WELL_KNOWN_TYPES,
    JsonType,
    Read,
    Trail,
    Unwritable,
    Write,
    read_raw,
    read_string,
    scalar,
    write_members,
)
from service.bridge.wire import also_named, fields_on_the_wire, inlined, is_map, marked, travels, wire_name
from service.errors import InvalidArgument

MAX_DEPTH: Final = 64
"""Arrays and objects within each other that a partner's JSON may have; in a Struct fewer, see read_raw."""

MAX_REJECTS: Final = 1000
"""Unreadable objects in one body that are left out; with more of them the body is what is wrong."""

_MAX_ID = 64

Tree = dict[FieldDescriptor, Any]
"""Fields to clear, each with the tree of those below it; an empty one where a path ends."""


def fields_to_clear(descriptor: Descriptor | None, paths: Iterable[str], above: tuple[str, ...]) -> Tree:
    """Raises InvalidArgument for a path that leads to no field; `above` stands before it in what that says."""
    tree: Tree = {}
    for path in paths:
        node, within, field = tree, descriptor, None
        for name in path.split("."):
            field = within.fields_by_name.get(name) if within else None
            if field is None:
                break
            node = node.setdefault(field, {})
            within = message_in(field)
        if field is None or inlined(field.containing_oneof):
            raise InvalidArgument.field(".".join((*above, path)), "is not a field that can be cleared")
    return tree


def message_in(field: FieldDescriptor) -> Descriptor | None:
    """The type of the message a singular field holds. None when it holds a single value."""
    type_ = None if field.is_repeated else field.message_type
    return None if type_ is None or type_.full_name in WELL_KNOWN_TYPES else type_


class _Variant(NamedTuple):
    """A member of an inlined oneof: its field, the names it knows and needs, and the values that make it this one."""

    field: FieldDescriptor
    names: frozenset[str]
    required: frozenset[str]
    constants: Mapping[str, str]
    type: JsonType

    def fits(self, members: Mapping[str, Any]) -> bool:
        return self.required <= members.keys() and all(
            members.get(name) in (None, value) for name, value in self.constants.items()
        )


def _compile_variant(field: FieldDescriptor, message: Descriptor, field_names: bool) -> _Variant:
    type_ = compile_message(message, field_names)
    names = dict(fields_on_the_wire(message, field_names))
    rules = {name: way[-1].GetOptions().Extensions[validate_pb2.field].string for name, way in names.items()}

    def write(message: Message, clear: Tree | None = None) -> str:
        text = type_.write(message, clear)[1:-1]
        return text and f",{text}"

    return _Variant(
        field,
        frozenset(names),
        frozenset(name for name, way in names.items() if _required(way[-1])),
        {name: rule.const for name, rule in rules.items() if rule.HasField("const")},
        JsonType(type_.read, write),
    )


def _read_inlined(variants: Sequence[_Variant], unknown: dict[str, Any], trail: Trail) -> dict[str, Any]:
    """Moves the members of one variant out of `unknown`, and returns its field; nothing when none of them is there."""
    given = {name for name, item in unknown.items() if item is not None}
    if not any(given & variant.names for variant in variants):
        return {}
    fitting = [(len(given & variant.names), variant) for variant in variants if variant.fits(unknown)]
    best = [variant for known, variant in fitting if known == max(fitting, key=lambda fit: fit[0])[0]]
    if len(best) != 1:
        raise trail.fault(f"fits {'several' if best else 'none'} of {'/'.join(each.field.name for each in variants)}")
    taken = {name: unknown.pop(name) for name in list(unknown) if name in best[0].names}
    return {best[0].field.name: best[0].type.read(taken, trail)}


def _by_own_names(value: dict[str, Any], others: Mapping[str, str]) -> dict[str, Any]:
    """The members with `others` (other name -> own name) renamed, unless the own one says something."""
    renamed = {name: item for name, item in value.items() if name not in others}
    for other, own in others.items():
        if other in value and renamed.get(own) is None:
            renamed[own] = value[other]
    return renamed


def _required(field: FieldDescriptor) -> bool:
    return behavior.REQUIRED in field.GetOptions().Extensions[behavior.field_behavior]


class _Members:
    """How the objects that a message type stands for are read and written.

    By wire name there is a reader: the field, the type that a quick reading takes as it is, how another value is read
    and what is meant by it. By field there is a writer: what stands before a value, how that is written, and the whole
    member when there is none.
    """

    def __init__(self, descriptor: Descriptor, field_names: bool, without: frozenset[str]) -> None:
        self._descriptor = descriptor
        self._field_names = field_names
        self._names = {
            field: wire_name(field, field_names)
            for field in descriptor.fields
            if travels(field, without) and not inlined(field.containing_oneof)
        }
        self._required: Tree = {field: {} for field in self._names if _required(field)}
        self._required_names = {self._names[field] for field in self._required}
        self._required_messages = {self._names[field] for field in self._required if message_in(field)}
        self._sink = next((field.name for field in descriptor.fields if marked(field, options.sink)), None)
        self._choices = [{field.name for field in oneof.fields} for oneof in descriptor.oneofs if len(oneof.fields) > 1]
        self._others = {other: name for field, name in self._names.items() for other in also_named(field)}
        self._known = {*self._names.values(), *self._others}
        self._variants: list[list[_Variant]] = []
        self._readers: dict[str, tuple[str, type | None, Read, Tidy]] = {}
        self._writers: dict[FieldDescriptor, tuple[str, Write, str]] = {}
        self.type = JsonType(self._read, self._write, means=tidy.message_or_nothing if self._required else tidy.message)

    def compile_fields(self) -> None:
        """Apart from the constructor, because a message may contain itself."""
        for oneof in filter(inlined, self._descriptor.oneofs):
            variants = [
                _compile_variant(field, message, self._field_names)
                for field in oneof.fields
                if (message := field.message_type)
            ]
            self._variants.append(variants)
            for variant in variants:
                self._known |= variant.names
                self._writers[variant.field] = ("", variant.type.write, "")
        for field in self._descriptor.fields:
            if field in self._names:
                self._compile_member(field, self._names[field])
            elif field.name == self._sink:
                self._writers[field] = ("", lambda struct: write_members(struct, known=self._known), "")
            elif field not in self._writers:
                self._writers[field] = ("", lambda _: "", "")

    def _compile_member(self, field: FieldDescriptor, name: str) -> None:
        type_ = compile_field(field, self._field_names)
        means = tidy.message_or_nothing if name in self._required_messages else type_.means
        self._readers[name] = (field.name, type_.ready, type_.read, means)
        prefix = f",{encode_basestring(name)}:"
        nothing = "{}" if is_map(field) else "[]" if field.is_repeated else "null"
        self._writers[field] = (prefix, type_.write, prefix + nothing)

    def _read(self, value: Any, trail: Trail) -> dict[str, Any]:
        if type(value) is not dict or len(trail) >= MAX_DEPTH:
            raise trail.fault(f"must be an object, at most {MAX_DEPTH} deep")
        if self._others and not self._others.keys().isdisjoint(value):
            value = _by_own_names(value, self._others)
        members: dict[str, Any] = {}
        unknown: dict[str, Any] = {}
        readers, quick = self._readers, trail.quick
        for name, item in value.items():
            reader = readers.get(name)
            if reader is None:
                unknown[name] = item
            elif quick and type(item) is reader[1]:
                members[reader[0]] = item
            elif item is not None:
                trail.append(name)
                if quick or (item := self._meant(name, item, trail)) is not None:
                    members[reader[0]] = reader[2](item, trail)
                trail.pop()
            elif name in self._required_messages and not trail:
                raise trail.missing(name)
        if unknown or (self._required_names and len(members) < len(readers)):
            self._check_names(value.keys(), unknown.keys(), trail)
        if unknown:
            members |= self._read_unknown(unknown, trail)
        if self._choices and any(len(choice & members.keys()) > 1 for choice in self._choices):
            raise trail.fault("has more than one member of a choice")
        return members

    def _meant(self, name: str, item: Any, trail: Trail) -> Any:
        """What the member means, None when that is nothing; the last step of the trail leads to it."""
        meant = trail.tidied(self._readers[name][3], item)
        if meant is None and len(trail) == 1 and name in self._required_messages:
            raise trail.fault("is missing")
        return meant

    def _check_names(self, names: Set[str], unknown: Set[str], trail: Trail) -> None:
        if unknown and self._known and self._known.isdisjoint(names) and (self._sink is None or not trail):
            raise trail.fault(f"has none of the members of {self._descriptor.name}")
        if not self._required_names <= names:
            raise trail.missing(min(self._required_names - names))

    def _read_unknown(self, unknown: dict[str, Any], trail: Trail) -> dict[str, Any]:
        """The members that inlined oneofs and the sink make of what no field is called."""
        members: dict[str, Any] = {}
        for oneof in self._variants:
            members |= _read_inlined(oneof, unknown, trail)
        if unknown and self._sink is not None:
            members[self._sink] = read_raw(unknown, trail)
        return members

    def _write(self, message: Message, clear: Tree | None = None) -> str:
        text = ""
        fields = message.ListFields()
        try:
            for field, value in fields:
                prefix, write, _ = self._writers[field]
                if clear and (below := clear.get(field)):
                    text += prefix + write(value, below)
                else:
                    text += prefix + write(value)
        except Unwritable as fault:
            fault.path = (field.name, *fault.path)
            raise
        if clear or (self._required and len(fields) < len(self._writers)):
            text += self._write_absent(message, dict(fields), self._required | clear if clear else self._required)
        return "{" + text[1:] + "}"

    def _write_absent(self, message: Message, present: Container[FieldDescriptor], wanted: Tree) -> str:
        text = ""
        for field, below in wanted.items():
            if field not in present:
                prefix, write, nothing = self._writers[field]
                text += prefix + write(getattr(message, field.name), below) if below else nothing
        return text


def compile_message(descriptor: Descriptor, field_names: bool, without: frozenset[str] = frozenset()) -> JsonType:
    """The type of a message's objects, without the members that the fields `without` would make."""
    key = (descriptor, field_names, without)
    if key not in _messages:
        members = _Members(*key)
        _messages[key] = members.type
        members.compile_fields()
    return _messages[key]


def compile_field(field: FieldDescriptor, field_names: bool) -> JsonType:
    if field.message_type and is_map(field):
        return _map_of(_compile_value(field.message_type.fields_by_name["value"], field_names))
    type_ = _compile_value(field, field_names)
    return _list_of(type_, marked(field, options.items)) if field.is_repeated else type_


def _compile_value(field: FieldDescriptor, field_names: bool) -> JsonType:
    message = field.message_type
    if message is None:
        return scalar(field)
    return WELL_KNOWN_TYPES.get(message.full_name) or compile_message(message, field_names)


def _list_of(type_: JsonType, items: bool) -> JsonType:
    read_item, write_item = type_.read, type_.write
    all_ready = {type_.ready} if type_.ready else None

    def read(values: Any, trail: Trail) -> list[Any]:
        if type(values) is not list:
            raise trail.fault("must be an array")
        if all_ready and trail.quick and all_ready.issuperset(map(type, values)):
            return values
        trail.append(0)
        if trail.quick:  # whoever is at fault is found by the next reading
            good = [read_item(item, trail) for item in values]
        elif items:
            good = list(_readable(type_, values, trail))
        else:
            good = [read_item(item, trail) for _, item in _meant(type_, values, trail)]
        trail.pop()
        return good

    means = tidy.page if items else tidy.array
    return JsonType(read, lambda values: "[" + ",".join(map(write_item, values[:])) + "]", means=means)


def _readable(type_: JsonType, items: Iterable[Any], trail: Trail) -> Iterator[Any]:
    """The objects of a page that can be read."""
    depth = len(trail)
    for position, item in enumerate(items):
        trail[-1] = position
        try:
            yield type_.read(item, trail)
        except CodecError as fault:
            if len(trail.rejects) == MAX_REJECTS:
                raise
            # A new one, which holds no frames.
            trail.rejects.append(CodecError(fault.pointer, fault.problem, _id_of(item), text_as_read(item)))
            del trail[depth:]


def _id_of(item: Any) -> str:
    """What an object of a partner calls itself."""
    id = item.get("id") if isinstance(item, dict) else None
    known = isinstance(id, int | str) and len(text := str(id)) <= _MAX_ID and text.isascii() and text.isprintable()
    return text if known else ""


def _meant(type_: JsonType, items: Iterable[Any], trail: Trail) -> Iterator[tuple[int, Any]]:
    """(position, item) of what a list or a map holds; a lenient reading leaves out null where that is no value."""
    for position, item in enumerate(items):
        trail[-1] = position
        meant = trail.tidied(type_.means, item)
        if meant is not None or type_.nullable or not trail.lenient:
            yield position, meant
        elif item is None:
            trail.repaired("is null")


def _map_of(type_: JsonType) -> JsonType:
    def read(value: Any, trail: Trail) -> dict[str, Any]:
        given: dict[str, Any] = trail.expect(value, dict, "an object")
        members: dict[str, Any] = {}
        keys = list(given)
        trail.append(0)
        for position, item in _meant(type_, given.values(), trail):  # not the key: that is the partner's word
            members[read_string(keys[position], trail)] = type_.read(item, trail)
        trail.pop()
        return members

    def write(value: Any) -> str:
        return "{" + ",".join(f"{encode_basestring(key)}:{type_.write(value[key])}" for key in sorted(value)) + "}"

    return JsonType(read, write, means=tidy.mapping)


_messages: dict[tuple[Descriptor, bool, frozenset[str]], JsonType] = {}
