"""JSON text <-> message, for bodies as partners write them; compiled once per descriptor, pure.

It differs from protobuf's own JSON mapping where partners do:

- names: an explicit json_name, else the field's name or its json_name, by one switch per partner;
- every scalar that is present travels, with false, 0 and ""; int64 is a number, google.type.Decimal a number with just
  its digits; a REQUIRED field always travels, as null or [] when there is nothing;
- null is "not set"; a member nobody knows goes into the sink (a Struct, so integers above 2^53 lose digits there) or is
  dropped; an unknown enum value, a wrong envelope or a missing REQUIRED member is an error, never an empty message;
- one bad object of a page (a field marked `items`) costs that object alone;
- fields that name the integration never travel.

Absent: Any, Duration, FieldMask and the wrappers. The registry refuses contracts that use them.
"""

import base64
import json
import math
import re
from collections.abc import Callable, Container, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring
from typing import Any, Final, NamedTuple, NoReturn

from evbridge.options.v1 import options_pb2 as options
from google.api import field_behavior_pb2 as behavior
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from service.errors import InvalidArgument

MAX_DEPTH: Final = 64
"""Arrays and objects within each other that a partner's JSON may have; in a Struct fewer, see _read_raw."""

_PROTOBUF_DEPTH: Final = 100
"""Messages within each other that protobuf reads back."""


class CodecError(ValueError):
    """A body that does not follow the contract.

    `pointer` (RFC 6901, empty for the whole body) is made of the contract's names and of positions; neither it nor
    `problem` holds the partner's words.
    """

    def __init__(self, pointer: str, problem: str) -> None:
        super().__init__(f"{pointer or 'the body'} {problem}")
        self.pointer = pointer
        self.problem = problem


class Reject(NamedTuple):
    """An object of a page that was left out."""

    pointer: str
    problem: str


class Decoded(NamedTuple):
    message: Any
    rejects: tuple[Reject, ...]


class Codec:
    """Reads and writes the body that one message type makes. See compile_codec."""

    def __init__(self, descriptor: Descriptor, field_names: bool, member: str | None, without: frozenset[str]) -> None:
        self._new = GetMessageClass(descriptor)
        self._member = descriptor.fields_by_name[member] if member else None
        self._body = _inside(self._member) if self._member else descriptor
        self._blank = not member and not any(travels(field, without) for field in descriptor.fields)
        self._quick, self._careful = (
            _compile_field(self._member, field_names, careful)
            if self._member
            else _compile_message(descriptor, field_names, careful, without)
            for careful in (False, True)
        )

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
            return self._quick.write(body, _tree(self._body, clear)) if clear else self._quick.write(body)
        except Unwritable as fault:
            raise InvalidArgument.field(".".join((*above, *fault.path)), fault.problem) from None

    def decode(self, text: bytes | str) -> Decoded:
        """Returns the message and what was left out of its pages. Raises CodecError."""
        if self._blank and not text.strip():
            return Decoded(self._new(), ())
        value = parse(text)
        try:
            return self._decode(self._quick, value)
        except (ValueError, TypeError, OverflowError):
            return self._decode(self._careful, value)

    def _decode(self, type_: "Type", value: Any) -> Decoded:
        trail = Trail()
        members = type_.read(value, trail)
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


def _is_required(field: FieldDescriptor) -> bool:
    return bool(behavior.REQUIRED in field.GetOptions().Extensions[behavior.field_behavior])


def travels(field: FieldDescriptor, without: Container[str] = ()) -> bool:
    """Whether the field is a member of the body."""
    return not (marked(field, options.sink) or marked(field, options.integration_id) or field.name in without)


class _Number(str):
    """The digits of a JSON number with a fraction or an exponent; a JSON string is a plain str."""

    __slots__ = ()


class Trail(list[str | int]):
    """The way from the body to the value in hand, and what was left out so far."""

    def __init__(self) -> None:
        self.rejects: list[Reject] = []

    def fault(self, problem: str) -> CodecError:
        steps = (str(step).replace("~", "~0").replace("/", "~1") for step in self)
        return CodecError("".join(f"/{step}" for step in steps), problem)


class Unwritable(Exception):
    """A value JSON cannot carry. The path to it grows while the exception climbs."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: tuple[str, ...] = ()


Read = Callable[[Any, Trail], Any]
Write = Callable[..., str]


class Type(NamedTuple):
    """How the values of one type are read and written.

    `read` turns a value of json.loads into what the constructor of the message around it takes, so that one call builds
    a whole message; a value whose type is `ready` it would return as it is. `write` returns JSON text.
    """

    read: Read
    write: Write
    ready: type | None = None


_Tree = Mapping[FieldDescriptor, Any]


def _compile_message(
    descriptor: Descriptor, field_names: bool, careful: bool, without: frozenset[str] = frozenset()
) -> Type:
    key = (descriptor, field_names, careful, without)
    if key in _types:
        return _types[key]
    wire = {wire_name(field, field_names): field for field in descriptor.fields if travels(field, without)}
    required = {name for name, field in wire.items() if _is_required(field)}
    always: _Tree = {field: None for field in wire.values() if _is_required(field)}
    enough = len(descriptor.fields) if always else 0
    sink = next((field.name for field in descriptor.fields if marked(field, options.sink)), None)
    choices = [{field.name for field in oneof.fields} for oneof in descriptor.oneofs if len(oneof.fields) > 1]
    readers: dict[str, tuple[str, type | None, Read]] = {}
    writers: dict[FieldDescriptor, tuple[str, Write, str]] = {}

    def read(value: Any, trail: Trail) -> dict[str, Any]:
        if type(value) is not dict or len(trail) >= MAX_DEPTH:
            raise trail.fault(f"must be an object, at most {MAX_DEPTH} deep")
        members: dict[str, Any] = {}
        unknown: dict[str, Any] = {}
        for name, item in value.items():
            if name not in readers:
                unknown[name] = item
                continue
            field_name, ready, read_field = readers[name]
            if type(item) is ready:
                members[field_name] = item
            elif item is not None:
                trail.append(name)
                members[field_name] = read_field(item, trail)
                trail.pop()
        if unknown:
            if readers and len(unknown) == len(value) and (sink is None or not trail):
                raise trail.fault(f"has none of the members of {descriptor.name}")
            if sink is not None:
                members[sink] = _read_raw(unknown, trail)
        if required and not required <= value.keys():
            trail.append(min(required - value.keys()))
            raise trail.fault("is missing")
        if choices and any(len(choice & members.keys()) > 1 for choice in choices):
            raise trail.fault("has more than one member of a choice")
        return members

    def write(message: Message, clear: _Tree | None = None) -> str:
        text = ""
        fields = message.ListFields()
        try:
            for field, value in fields:
                name, write_field, _ = writers[field]
                below = clear and clear.get(field)
                text += name + (write_field(value, below) if below else write_field(value))
        except Unwritable as fault:
            fault.path = (field.name, *fault.path)
            raise
        if clear or len(fields) < enough:
            present = dict(fields)
            for field, below in {**always, **(clear or {})}.items():
                if field not in present:
                    name, write_field, nothing = writers[field]
                    text += name + write_field(getattr(message, field.name), below) if below else nothing
        return "{" + text[1:] + "}"

    _types[key] = Type(read, write)  # before the fields: a message may contain itself
    for field in descriptor.fields:
        writers[field] = ("", (lambda sink: _struct_members(sink, wire)) if field.name == sink else lambda _: "", "")
    for name, field in wire.items():
        type_ = _compile_field(field, field_names, careful)
        readers[name] = (field.name, type_.ready, type_.read)
        prefix = f",{encode_basestring(name)}:"
        writers[field] = (
            prefix,
            type_.write,
            prefix + ("{}" if is_map(field) else "[]" if field.is_repeated else "null"),
        )
    return _types[key]


def _inside(field: FieldDescriptor) -> Descriptor | None:
    """The message whose fields a path can go on to."""
    type_ = None if field.is_repeated else field.message_type
    return None if type_ is None or type_.full_name in SPECIAL_TYPES else type_


def _tree(descriptor: Descriptor | None, paths: Iterable[str]) -> _Tree:
    tree: dict[FieldDescriptor, Any] = {}
    for path in paths:
        node, within = tree, descriptor
        for name in path.split("."):
            field = within.fields_by_name.get(name) if within else None
            if field is None:
                raise InvalidArgument.field(path, "is not a field that can be cleared")
            node = node.setdefault(field, {})
            within = _inside(field)
    return tree


def _compile_field(field: FieldDescriptor, field_names: bool, careful: bool) -> Type:
    if field.message_type and is_map(field):
        return _map_of(compile_value(field.message_type.fields_by_name["value"], field_names, careful))
    type_ = compile_value(field, field_names, careful)
    return _list_of(type_, marked(field, options.items)) if field.is_repeated else type_


def _list_of(type_: Type, items: bool) -> Type:
    read_item, write_item, ready = type_

    def read(value: Any, trail: Trail) -> list[Any]:
        values: list[Any] = _check(value, list, trail, "an array")
        if ready is not None and {*map(type, values)} <= {ready}:
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
                trail.rejects.append(Reject(fault.pointer, fault.problem))
                del trail[depth:]
        trail.pop()
        return good

    return Type(read, lambda values: "[" + ",".join(map(write_item, values[:])) + "]")


def _map_of(type_: Type) -> Type:
    def read(value: Any, trail: Trail) -> dict[str, Any]:
        given: dict[str, Any] = _check(value, dict, trail, "an object")
        members: dict[str, Any] = {}
        trail.append(0)
        for position, (key, item) in enumerate(given.items()):
            trail[-1] = position  # not the key: that is the partner's word
            members[_read_string(key, trail)] = type_.read(item, trail)
        trail.pop()
        return members

    def write(value: Any) -> str:
        return "{" + ",".join(f"{encode_basestring(key)}:{type_.write(value[key])}" for key in sorted(value)) + "}"

    return Type(read, write)


def compile_value(field: FieldDescriptor, field_names: bool, careful: bool = True) -> Type:
    """Returns the type of one value of the field.

    Readers that are not careful leave ranges and surrogates to the constructor, which cannot say where the fault is.
    """
    if field.message_type:
        special = SPECIAL_TYPES.get(field.message_type.full_name)
        return special or _compile_message(field.message_type, field_names, careful)
    if field.enum_type:
        return _enum({value.name: value.number for value in field.enum_type.values})
    if field.type == FieldDescriptor.TYPE_BYTES:
        return Type(_read_bytes, lambda value: f'"{base64.b64encode(value).decode()}"')
    if field.cpp_type in _INTEGERS:
        return _integer(_INTEGERS[field.cpp_type], None if careful else int)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return Type(_read_string, encode_basestring, None if careful else str)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return Type(lambda value, trail: _check(value, bool, trail, "true or false"), _write_bool, bool)
    return Type(_read_double, _write_double)


def _check(value: Any, kind: type, trail: Trail, words: str) -> Any:
    if type(value) is not kind:
        raise trail.fault(f"must be {words}")
    return value


def _enum(numbers: Mapping[str, int]) -> Type:
    names = {number: name for name, number in numbers.items()}

    def read(value: Any, trail: Trail) -> int:
        if type(value) is not str or value not in numbers:
            raise trail.fault("is not a value the contract knows")
        return numbers[value]

    def write(value: int) -> str:
        if value not in names:
            raise Unwritable("is not a value the contract knows")
        return f'"{names[value]}"'

    return Type(read, write)


def _integer(values: range, ready: type | None) -> Type:
    def read(value: Any, trail: Trail) -> Any:
        if type(value) is not int or value not in values:
            raise trail.fault(f"must be an integer from {values.start} to {values.stop - 1}")
        return value

    return Type(read, str, ready)


def _read_string(value: Any, trail: Trail) -> str:
    if type(value) in (int, _Number):  # partners send ids as numbers
        return str(value)
    text: str = _check(value, str, trail, "a string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise trail.fault("must not contain half a surrogate pair") from None
    return text


def _read_bytes(value: Any, trail: Trail) -> bytes:
    try:
        return base64.b64decode(_check(value, str, trail, "base64"), validate=True)
    except ValueError:
        raise trail.fault("must be base64") from None


_write_bool: Write = {True: "true", False: "false"}.__getitem__


def _read_double(value: Any, trail: Trail) -> float:
    if type(value) not in (int, _Number):
        raise trail.fault("must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise trail.fault("is too large a number")
    return number


def _write_double(value: float) -> str:
    if not math.isfinite(value):
        raise Unwritable("must be a finite number")
    return repr(value).removesuffix(".0")


def _decimal(text: str) -> str | None:
    """The same number with the same digits, as JSON writes numbers. None when it is not a number."""
    if _JSON_NUMBER.fullmatch(text):
        return text
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return str(number) if number.is_finite() else None


def _read_decimal(value: Any, trail: Trail) -> dict[str, str]:
    text = _decimal(str(value)) if type(value) in (int, _Number, str) else None
    if text is None:
        raise trail.fault("must be a decimal number")
    return {"value": text}


def _write_decimal(value: Any) -> str:
    text = _decimal(value.value)
    if text is None:
        raise Unwritable("must be a decimal number")
    return text


def _read_timestamp(value: Any, trail: Trail) -> dict[str, int]:
    parts = _RFC_3339.fullmatch(_check(value, str, trail, "a time"))
    try:
        seconds = (datetime.fromisoformat(parts[1] + parts[3]) - _EPOCH) // timedelta(seconds=1) if parts else None
    except ValueError:
        seconds = None
    if parts is None or seconds is None or seconds not in _TIMESTAMP_SECONDS:
        raise trail.fault("must be a time with its offset (RFC 3339), of the years 1 to 9999")
    return {"seconds": seconds, "nanos": int((parts[2] or "").ljust(9, "0"))}


def _write_timestamp(value: Any) -> str:
    if value.seconds not in _TIMESTAMP_SECONDS or value.nanos not in range(10**9):
        raise Unwritable("must be a time of the years 1 to 9999")
    fraction = f".{value.nanos:09}".removesuffix("000").removesuffix("000") if value.nanos else ""
    return f'"{(_EPOCH + timedelta(seconds=value.seconds)).isoformat()[:19]}{fraction}Z"'


def _read_raw(value: Any, trail: Trail, depth: int = 0) -> Any:
    """Any JSON as a Struct's constructor takes it. A fault points at the Struct: the names inside are the partner's.

    A level of JSON is up to three messages here; deeper ones would make a message nobody can parse.
    """
    if len(trail) + 3 * (depth + 1) > _PROTOBUF_DEPTH:
        raise trail.fault("is nested too deeply")
    kind = type(value)
    if kind is dict:
        return {_read_string(key, trail): _read_raw(item, trail, depth + 1) for key, item in value.items()}
    if kind is list:
        return [_read_raw(item, trail, depth + 1) for item in value]
    if kind is str:
        return _read_string(value, trail)
    return value if value is None or kind is bool else _read_double(value, trail)


def _read_value(value: Any, trail: Trail) -> dict[str, Any]:
    raw = _read_raw(value, trail)
    return {"null_value": 0} if raw is None else {_VALUE_KINDS[type(raw)]: raw}


def _write_value(value: Any) -> str:
    kind = value.WhichOneof("kind")
    return _VALUE_WRITERS[kind](getattr(value, kind)) if kind else "null"


def _struct_members(struct: Any, known: Container[str] = ()) -> str:
    """The members of a Struct in order, a comma before each, without those the contract speaks for."""
    fields = struct.fields
    return "".join(
        f",{encode_basestring(key)}:{_write_value(fields[key])}" for key in sorted(fields) if key not in known
    )


def _write_struct(struct: Any) -> str:
    return "{" + _struct_members(struct)[1:] + "}"


def _write_list_value(value: Any) -> str:
    return "[" + ",".join(map(_write_value, value.values)) + "]"


def _no_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_scan = json.JSONDecoder(parse_float=_Number, parse_constant=_no_constant).decode


def parse(text: bytes | str) -> Any:
    """json.loads with exact numbers. Raises CodecError."""
    try:
        return _scan(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise CodecError("", "is nested too deeply") from None
    except ValueError:
        raise CodecError("", "is not JSON in UTF-8 with finite numbers" if text.strip() else "is empty") from None


_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP_SECONDS = range(-62_135_596_800, 253_402_300_800)
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: range(-(2**31), 2**31),
    FieldDescriptor.CPPTYPE_INT64: range(-(2**63), 2**63),
    FieldDescriptor.CPPTYPE_UINT32: range(2**32),
    FieldDescriptor.CPPTYPE_UINT64: range(2**64),
}
_VALUE_KINDS = {
    bool: "bool_value",
    float: "number_value",
    str: "string_value",
    dict: "struct_value",
    list: "list_value",
}
_VALUE_WRITERS: Mapping[str, Write] = {
    "null_value": lambda _: "null",
    "bool_value": _write_bool,
    "number_value": _write_double,
    "string_value": encode_basestring,
    "struct_value": _write_struct,
    "list_value": _write_list_value,
}
SPECIAL_TYPES: Mapping[str, Type] = {
    "google.protobuf.Struct": Type(
        lambda v, trail: _read_raw(_check(v, dict, trail, "an object"), trail), _write_struct
    ),
    "google.protobuf.Value": Type(_read_value, _write_value),
    "google.protobuf.ListValue": Type(
        lambda v, trail: _read_raw(_check(v, list, trail, "an array"), trail), _write_list_value
    ),
    "google.protobuf.Timestamp": Type(_read_timestamp, _write_timestamp),
    "google.type.Decimal": Type(_read_decimal, _write_decimal),
}
_codecs: dict[tuple[Descriptor, bool, str | None, frozenset[str]], Codec] = {}
_types: dict[tuple[Descriptor, bool, bool, frozenset[str]], Type] = {}
