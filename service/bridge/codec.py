"""JSON text <-> message, for bodies as partners write them; compiled once per descriptor, pure.

Single values are read and written in values.py. All this differs from protobuf's own JSON mapping where partners do:

- names: an explicit json_name, else the field's name or its json_name, by one switch per partner;
- every scalar that is present travels, with false, 0 and ""; a REQUIRED field always travels, as null or [] when there
  is nothing;
- null is "not set", but a REQUIRED message of the body itself must not be null: {"data": null} is no document;
- a lenient codec takes what partners write instead of what the contract says (tidy.py), and counts it;
- a member may have other names on reading (`also_named`);
- a member nobody knows goes into the sink (a Struct) or is dropped; one that no message can hold costs itself alone;
- an unknown enum value, a wrong envelope or a missing REQUIRED member is an error, never an empty message (204 has no
  body: the channel answers for it);
- one bad object of a page (a field marked `items`) costs that object alone;
- the fields of a message in an `inlined` oneof stand in the object around it;
- fields that name the integration or an address, and masks, never travel: a masked field that is not set is null.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any, Final, NamedTuple

from buf.validate import validate_pb2
from evbridge.options.v1 import options_pb2 as options
from google.api import field_behavior_pb2 as behavior
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from service.bridge import tidy
from service.bridge.json_text import CodecError, parse_json, parse_tolerantly
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
from service.errors import InvalidArgument

__all__ = [
    "Codec",
    "CodecError",
    "Decoded",
    "also_named",
    "compile_codec",
    "fields_on_the_wire",
    "inlined",
    "is_map",
    "is_mask",
    "marked",
    "travels",
    "wire_name",
]

MAX_DEPTH: Final = 64
"""Arrays and objects within each other that a partner's JSON may have; in a Struct fewer, see read_raw."""


MAX_REJECTS: Final = 1000
"""Unreadable objects in one body that are left out; with more of them the body is what is wrong."""

_MAX_ID = 64
_MANY = 200


class Decoded(NamedTuple):
    """A message, why objects of its pages were left out, and how often something else was read than the contract says.

    `repair` is an example of that.
    """

    message: Any
    rejects: tuple[CodecError, ...] = ()
    repairs: int = 0
    repair: CodecError | None = None


class Codec:
    """Reads and writes the body that one message type makes. See compile_codec.

    `member` is the field that is the body, None when the message itself is; `form` is the message whose members the
    body has, None when it is a list or a single value.
    """

    def __init__(
        self, descriptor: Descriptor, field_names: bool, member: str | None, without: frozenset[str], lenient: bool
    ) -> None:
        self._new = GetMessageClass(descriptor)
        self._lenient = lenient
        self._field_names = field_names
        self.member = descriptor.fields_by_name[member] if member else None
        if self.member:
            self._type = _compile_field(self.member, field_names)
            self.form = _message_in(self.member)
        else:
            self._type = _compile_message(descriptor, field_names, without)
            self.form = descriptor
        self._lists = [field.name for field in descriptor.fields if field.is_repeated and _is_ours(field)]
        self._may_be_blank = not member and not any(travels(field, without) for field in descriptor.fields)
        # Nothing is read into a body that is [] unless it has no members: it may stand for "there is none".
        self._means = self._type.means if self._may_be_blank or self.form is None else tidy.same

    def encode(self, message: Message, clear: frozenset[str] = frozenset()) -> str:
        """Returns the JSON text; "" for google.protobuf.Empty.

        `clear` holds dotted paths of fields, from the message that is the body: what is not set there travels as null
        (repeated: []). Raises InvalidArgument for a path that does not exist and for a value JSON cannot carry.
        """
        body, above = message, tuple[str, ...]()
        if self.member:
            above = (self.member.name,)
            if not self.member.is_repeated and not message.HasField(self.member.name):
                raise InvalidArgument.field(self.member.name, "is required: it is the body")
            body = getattr(message, self.member.name)
        if self.form is not None and self.form.full_name == "google.protobuf.Empty":
            return ""
        try:
            return self._type.write(body, _tree(self.form, clear, above)) if clear else self._type.write(body)
        except Unwritable as fault:
            raise InvalidArgument.field(".".join((*above, *fault.path)), fault.problem) from None

    def decode(self, text: bytes | str) -> Decoded:
        """Returns the message and what was left out of its pages. Raises CodecError."""
        if self._may_be_blank and not text.strip():
            return Decoded(self._new())
        value = None
        try:
            value = parse_json(text)
            return self._read(value, Trail(quick=True))
        except (ValueError, TypeError, OverflowError):
            return self._carefully(text, value)

    def field_path(self, names: Sequence[str]) -> str:
        """Where in our message the value stands that has these names and positions on the wire; "" when nowhere."""
        path = self.member.name if self.member else ""
        within = self.member.message_type if self.member else self.form
        for name in names:
            if name.isdecimal() and path:
                path += f"[{name}]"
                continue
            fields = dict(fields_on_the_wire(within, self._field_names)) if within else {}
            if name not in fields:
                return ""
            path = ".".join((*([path] if path else []), *(field.name for field in fields[name])))
            within = fields[name][-1].message_type
        return path

    def _carefully(self, text: bytes | str, value: Any) -> Decoded:
        """Reads what a quick reading could not; `value` is None when the text is no JSON."""
        trail = Trail(lenient=self._lenient)
        if value is None and not self._lenient:
            value = parse_json(text)
        elif value is None:
            value = parse_tolerantly(text)
            trail.repaired("is not quite JSON")
        return self._read(trail.tidied(self._means, value), trail)

    def _read(self, value: Any, trail: Trail) -> Decoded:
        members = self._type.read(value, trail)
        if self.member:
            members = {self.member.name: members}
        pages = {name: members.pop(name) for name in self._lists if len(members.get(name, ())) > _MANY}
        message = self._new(**members)
        for name, items in pages.items():  # not by the constructor, which lets no other thread run
            add = getattr(message, name).add
            for item in items:
                add(**item)
        return Decoded(message, tuple(trail.rejects), trail.repairs, trail.repair)


def compile_codec(
    descriptor: Descriptor,
    *,
    field_names: bool,
    member: str | None = None,
    without: frozenset[str] = frozenset(),
    lenient: bool = False,
) -> Codec:
    """Returns the codec of a message type; the same one for the same arguments.

    `field_names` names members by field instead of json_name. With `member` the body is that field's value, not the
    object around it. `without` are fields of the message itself that something else than the body carries. A
    `lenient` one reads what partners write as they mean it.
    """
    key = (descriptor, field_names, member, without, lenient)
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


def also_named(field: FieldDescriptor) -> Sequence[str]:
    """The other names of the field on the wire, which are read and not written."""
    names: Sequence[str] = field.GetOptions().Extensions[options.also_named]
    return names


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def is_mask(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.FieldMask"


def inlined(oneof: OneofDescriptor | None) -> bool:
    """Whether the fields of the oneof's messages stand in the object around them."""
    return oneof is not None and bool(oneof.GetOptions().Extensions[options.inlined])


def travels(field: FieldDescriptor, without: Container[str] = ()) -> bool:
    """Whether the field is a member of the body."""
    apart = any(marked(field, option) for option in (options.sink, options.integration_id, options.address))
    return not (apart or is_mask(field) or field.name in without)


def fields_on_the_wire(descriptor: Descriptor, field_names: bool) -> Iterator[tuple[str, tuple[FieldDescriptor, ...]]]:
    """(wire name, the way to the field): one step, or two through a member of an inlined oneof."""
    for field in descriptor.fields:
        if inlined(field.containing_oneof) and field.message_type:
            for name, below in fields_on_the_wire(field.message_type, field_names):
                yield name, (field, *below)
        elif travels(field):
            yield wire_name(field, field_names), (field,)


_Tree = dict[FieldDescriptor, Any]
"""Fields to clear, each with the tree of those below it; an empty one where a path ends."""


def _tree(descriptor: Descriptor | None, paths: Iterable[str], above: tuple[str, ...]) -> _Tree:
    tree: _Tree = {}
    for path in paths:
        node, within, field = tree, descriptor, None
        for name in path.split("."):
            field = within.fields_by_name.get(name) if within else None
            if field is None:
                break
            node = node.setdefault(field, {})
            within = _message_in(field)
        if field is None or inlined(field.containing_oneof):
            raise InvalidArgument.field(".".join((*above, path)), "is not a field that can be cleared")
    return tree


def _message_in(field: FieldDescriptor) -> Descriptor | None:
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
    type_ = _compile_message(message, field_names)
    names = dict(fields_on_the_wire(message, field_names))
    rules = {name: way[-1].GetOptions().Extensions[validate_pb2.field].string for name, way in names.items()}

    def write(message: Message, clear: _Tree | None = None) -> str:
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


def _is_ours(field: FieldDescriptor) -> bool:
    """Whether it holds messages that are read as the members of an object."""
    message = field.message_type
    return message is not None and not is_map(field) and message.full_name not in WELL_KNOWN_TYPES


def _required(field: FieldDescriptor) -> bool:
    return behavior.REQUIRED in field.GetOptions().Extensions[behavior.field_behavior]


def _compile_message(descriptor: Descriptor, field_names: bool, without: frozenset[str] = frozenset()) -> JsonType:
    key = (descriptor, field_names, without)
    if key in _messages:
        return _messages[key]
    names = {
        field: wire_name(field, field_names)
        for field in descriptor.fields
        if travels(field, without) and not inlined(field.containing_oneof)
    }
    required: _Tree = {field: {} for field in names if _required(field)}
    required_names = {names[field] for field in required}
    required_messages = {names[field] for field in required if _message_in(field)}
    sink = next((field.name for field in descriptor.fields if marked(field, options.sink)), None)
    choices = [{field.name for field in oneof.fields} for oneof in descriptor.oneofs if len(oneof.fields) > 1]
    others = {other: name for field, name in names.items() for other in also_named(field)}
    variants: list[list[_Variant]] = []
    known: set[str] = set()
    readers: dict[str, tuple[str, type | None, Read]] = {}
    meanings: dict[str, Tidy] = {}
    writers: dict[FieldDescriptor, tuple[str, Write, str]] = {}

    def read(value: Any, trail: Trail) -> dict[str, Any]:
        if type(value) is not dict or len(trail) >= MAX_DEPTH:
            raise trail.fault(f"must be an object, at most {MAX_DEPTH} deep")
        if others and not others.keys().isdisjoint(value):
            value = _by_own_names(value, others)
        members: dict[str, Any] = {}
        unknown: dict[str, Any] = {}
        quick = trail.quick
        for name, item in value.items():
            reader = readers.get(name)
            if reader is None:
                unknown[name] = item
                continue
            field_name, ready, read_field = reader
            if quick and type(item) is ready:
                members[field_name] = item
            elif item is not None:
                trail.append(name)
                if quick or (item := trail.tidied(meanings[name], item)) is not None:
                    members[field_name] = read_field(item, trail)
                elif len(trail) == 1 and name in required_messages:
                    raise trail.fault("is missing")
                trail.pop()
            elif name in required_messages and not trail:
                raise trail.missing(name)
        if unknown and known and known.isdisjoint(value) and (sink is None or not trail):
            raise trail.fault(f"has none of the members of {descriptor.name}")
        if len(members) < len(readers) and not required_names <= value.keys():
            raise trail.missing(min(required_names - value.keys()))
        if unknown:
            for oneof in variants:
                members |= _read_inlined(oneof, unknown, trail)
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
                if clear and (below := clear.get(field)):
                    text += prefix + write_field(value, below)
                else:
                    text += prefix + write_field(value)
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

    means = tidy.message_or_nothing if required else tidy.message
    _messages[key] = JsonType(read, write, means=means)  # before the fields: a message may contain itself
    for oneof in filter(inlined, descriptor.oneofs):
        variants.append(
            [_compile_variant(field, message, field_names) for field in oneof.fields if (message := field.message_type)]
        )
        for variant in variants[-1]:
            known |= variant.names
            writers[variant.field] = ("", variant.type.write, "")
    known |= {*names.values(), *others}
    for field in descriptor.fields:
        if field in names:
            name, type_ = names[field], _compile_field(field, field_names)
            prefix = f",{encode_basestring(name)}:"
            nothing = "{}" if is_map(field) else "[]" if field.is_repeated else "null"
            readers[name] = (field.name, type_.ready, type_.read)
            meanings[name] = tidy.message_or_nothing if name in required_messages else type_.means
            writers[field] = (prefix, type_.write, prefix + nothing)
        elif field.name == sink:
            writers[field] = ("", lambda struct: write_members(struct, known=known), "")
        elif field not in writers:
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
    read_item, write_item = type_.read, type_.write
    all_ready = {type_.ready}

    def read(value: Any, trail: Trail) -> list[Any]:
        values: list[Any] = trail.expect(value, list, "an array")
        if trail.quick and all_ready.issuperset(map(type, values)):
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
            trail.rejects.append(CodecError(fault.pointer, fault.problem, _id_of(item)))
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


_codecs: dict[tuple[Descriptor, bool, str | None, frozenset[str], bool], Codec] = {}
_messages: dict[tuple[Descriptor, bool, frozenset[str]], JsonType] = {}
