"""Single values <-> JSON, and scalars as text in a URL: scalars, enums, well-known types and their limits. Pure.

A reader takes what parse_json returned and gives what the constructor of the message around the value takes, so that
one call builds a whole message; a writer gives JSON text. int64 is a number, google.type.Decimal a number with just its
digits, a Struct loses digits of integers above 2^53.

Absent: Any, Duration, FieldMask and the wrappers. The registry refuses contracts that use them.
"""

import base64
import math
import re
from collections.abc import Callable, Container, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring
from typing import Any, Final, NamedTuple

from evbridge.options.v1 import options_pb2 as options
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from service.bridge import tidy
from service.bridge.json_text import CodecError, Number, Unreadable, parse_json
from service.bridge.tidy import Tidy

_PROTOBUF_DEPTH: Final = 100
"""Messages within each other that protobuf reads back."""


class Unwritable(Exception):
    """A value JSON cannot carry. The path to it grows while the exception climbs."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: tuple[str, ...] = ()


class Trail(list[str | int]):
    """The way from the body to the value in hand, and what was found on it so far.

    A `quick` reading leaves ranges and surrogates to the constructor, which cannot say where the fault is. A `lenient`
    one takes what a partner writes for what it means, and counts that in `repairs`; `repair` is the last.
    """

    def __init__(self, *, quick: bool = False, lenient: bool = False) -> None:
        self.quick = quick
        self.lenient = lenient
        self.rejects: list[CodecError] = []
        self.repairs = 0
        self.repair: CodecError | None = None

    def fault(self, problem: str) -> CodecError:
        steps = (str(step).replace("~", "~0").replace("/", "~1") for step in self)
        return CodecError("".join(f"/{step}" for step in steps), problem)

    def repaired(self, problem: str) -> None:
        """Counts a value that was read although it breaks the contract."""
        self.repairs += 1
        if self.repair is None:
            self.repair = self.fault(problem)

    def tidied(self, means: Tidy, value: Any) -> Any:
        """What the value means, None when that is nothing. In a strict reading it is what it is."""
        if not self.lenient:
            return value
        meant = None if value is Unreadable.NAN else means(value)
        if meant is not value:
            self.repaired(_found(value))
        return meant

    def missing(self, name: str) -> CodecError:
        self.append(name)
        return self.fault("is missing")

    def expect(self, value: Any, kind: type, words: str) -> Any:
        """Returns the value. Raises CodecError when its type is another one."""
        if type(value) is not kind:
            raise self.fault(f"must be {words}")
        return value


def _found(value: Any) -> str:
    if isinstance(value, Unreadable):
        return "is a number that is none"
    return f"is {'empty ' if value == '' else ''}{_KINDS_OF_JSON[type(value)]}"


Read = Callable[[Any, Trail], Any]
Write = Callable[..., str]


class JsonType(NamedTuple):
    """How the values of one type are read and written.

    A quick reading takes a value of the Python type `ready` as it is. `quoted` says that the JSON is a string, `means`
    what is meant by partners who write something else; `nullable` that null is a value.
    """

    read: Read
    write: Write
    ready: type | None = None
    quoted: bool = False
    means: Tidy = tidy.filled
    nullable: bool = False


def to_url_text(type_: JsonType, value: Any) -> str:
    """A scalar as a URL carries it: as in JSON, but without quotes. Raises Unwritable."""
    return value if isinstance(value, str) else type_.write(value).strip('"')


def from_url_text(type_: JsonType, text: str) -> Any:
    """The scalar that to_url_text wrote so. Raises CodecError."""
    return type_.read(text if type_.quoted else parse_json(text), Trail())


def scalar(field: FieldDescriptor) -> JsonType:
    """The type of one value of a field that holds no messages."""
    if field.enum_type:
        return _enum(field.enum_type)
    return _BYTES if field.type == FieldDescriptor.TYPE_BYTES else _SCALARS[field.cpp_type]


def enum_names(enum: EnumDescriptor) -> dict[int, str]:
    """What the values are called on the wire, without UNSPECIFIED, which does not travel."""
    prefix = _WORD_START.sub("_", enum.name).upper() + "_"
    return {
        value.number: value.GetOptions().Extensions[options.wire_name] or value.name.removeprefix(prefix)
        for value in enum.values
        if value.name != prefix + "UNSPECIFIED"
    }


def _enum(enum: EnumDescriptor) -> JsonType:
    names = enum_names(enum)
    texts = {number: encode_basestring(name) for number, name in names.items()}
    numbers: dict[Any, int] = {name: number for number, name in names.items()}
    if enum.GetOptions().Extensions[options.ordinals]:
        numbers |= dict(enumerate(names))

    def read(value: Any, trail: Trail) -> int:
        if type(value) not in (str, int) or value not in numbers:
            raise trail.fault("is not a value the contract knows")
        return numbers[value]

    def write(value: int) -> str:
        if value not in texts:
            raise Unwritable("is not a value the contract knows")
        return texts[value]

    return JsonType(read, write, quoted=True, means=tidy.integer)


def _integer(values: range) -> JsonType:
    def read(value: Any, trail: Trail) -> Any:
        if type(value) is not int or value not in values:
            raise trail.fault(f"must be an integer from {values.start} to {values.stop - 1}")
        return value

    return JsonType(read, str, ready=int, means=tidy.integer)


def read_string(value: Any, trail: Trail) -> str:
    if type(value) in (int, Number):  # partners send ids as numbers
        return str(value)
    text: str = trail.expect(value, str, "a string")
    try:
        text.encode()
    except UnicodeEncodeError:
        if not trail.lenient:
            raise trail.fault("must not contain half a surrogate pair") from None
        trail.repaired("contains half a surrogate pair")
        return tidy.whole(text)
    return text


def _read_bytes(value: Any, trail: Trail) -> bytes:
    try:
        return base64.b64decode(trail.expect(value, str, "base64"), validate=True)
    except ValueError:
        raise trail.fault("must be base64") from None


def _write_bytes(value: bytes) -> str:
    return f'"{base64.b64encode(value).decode()}"'


def _read_bool(value: Any, trail: Trail) -> Any:
    return trail.expect(value, bool, "true or false")


_write_bool: Write = {True: "true", False: "false"}.__getitem__


def _read_double(value: Any, trail: Trail) -> float:
    if type(value) not in (int, Number):
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
    text = _decimal(str(value)) if type(value) in (int, Number, str) else None
    if text is None:
        raise trail.fault("must be a decimal number")
    return {"value": text}


def _write_decimal(value: Any) -> str:
    text = _decimal(value.value)
    if text is None:
        raise Unwritable("must be a decimal number")
    return text


def _read_timestamp(value: Any, trail: Trail) -> dict[str, int]:
    parts = _RFC_3339.fullmatch(trail.expect(value, str, "a time"))
    try:
        # Whole seconds are exact as a float.
        seconds = int(datetime.fromisoformat(parts[1] + parts[3]).timestamp()) if parts else None
    except ValueError:
        seconds = None
    if parts is None or seconds is None or seconds not in _TIMESTAMP_SECONDS:
        raise trail.fault("must be a time with its offset (RFC 3339), of the years 1 to 9999")
    return {"seconds": seconds, "nanos": int((parts[2] or "").ljust(9, "0"))}


def _write_timestamp(value: Any) -> str:
    seconds, nanos = value.seconds, value.nanos
    if seconds not in _TIMESTAMP_SECONDS or not 0 <= nanos < 10**9:
        raise Unwritable("must be a time of the years 1 to 9999")
    fraction = f".{nanos:09}".removesuffix("000").removesuffix("000") if nanos else ""
    return f'"{(_EPOCH + timedelta(0, seconds)).isoformat()}{fraction}Z"'


def read_raw(value: Any, trail: Trail, depth: int = 0) -> Any:
    """Any JSON as a Struct's constructor takes it. A fault points at the Struct: the names inside are the partner's.

    A level of JSON is up to three messages here; deeper ones would make a message nobody can parse.
    """
    if len(trail) + 3 * (depth + 1) > _PROTOBUF_DEPTH:
        raise trail.fault("is nested too deeply")
    kind = type(value)
    if kind is dict:
        if trail.lenient and not depth:
            return dict(_readable(value, trail))
        return {read_string(key, trail): read_raw(item, trail, depth + 1) for key, item in value.items()}
    if kind is list:
        return [read_raw(item, trail, depth + 1) for item in value]
    if kind is str:
        return read_string(value, trail)
    return value if value is None or kind is bool else _read_double(value, trail)


def _readable(value: dict[str, Any], trail: Trail) -> Iterator[tuple[str, Any]]:
    """Without the members that no message can hold."""
    for key, item in value.items():
        try:
            yield read_string(key, trail), read_raw(item, trail, 1)
        except CodecError as fault:
            trail.repaired(f"had a member left out, which {fault.problem}")


def _raw_reader(kind: type, words: str) -> Read:
    return lambda value, trail: read_raw(trail.expect(value, kind, words), trail)


def _read_value(value: Any, trail: Trail) -> dict[str, Any]:
    raw = read_raw(value, trail)
    return {"null_value": 0} if raw is None else {_KINDS[type(raw)]: raw}


def _write_value(value: Any) -> str:
    kind = value.WhichOneof("kind")
    return _KIND_WRITERS[kind](getattr(value, kind)) if kind else "null"


def write_members(struct: Any, known: Container[str] = ()) -> str:
    """The members of a Struct in order, a comma before each, without those the contract speaks for."""
    fields = struct.fields
    return "".join(
        f",{encode_basestring(key)}:{_write_value(fields[key])}" for key in sorted(fields) if key not in known
    )


def _write_struct(struct: Any) -> str:
    return "{" + write_members(struct)[1:] + "}"


def _write_list_value(value: Any) -> str:
    return "[" + ",".join(map(_write_value, value.values)) + "]"


_KINDS_OF_JSON = {
    dict: "an object",
    list: "an array",
    str: "text",
    Number: "a number",
    int: "a number",
    bool: "true or false",
    type(None): "null",
}
_WORD_START = re.compile("(?<!^)(?=[A-Z])")
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH = datetime(1970, 1, 1)  # without a time zone, which would be written
_TIMESTAMP_SECONDS = range(-62_135_596_800, 253_402_300_800)
_BYTES = JsonType(_read_bytes, _write_bytes, quoted=True, means=tidy.same)
_DOUBLE = JsonType(_read_double, _write_double, means=tidy.number)
_SCALARS = {
    FieldDescriptor.CPPTYPE_STRING: JsonType(read_string, encode_basestring, ready=str, quoted=True, means=tidy.same),
    FieldDescriptor.CPPTYPE_BOOL: JsonType(_read_bool, _write_bool, ready=bool, means=tidy.boolean),
    FieldDescriptor.CPPTYPE_INT32: _integer(range(-(2**31), 2**31)),
    FieldDescriptor.CPPTYPE_INT64: _integer(range(-(2**63), 2**63)),
    FieldDescriptor.CPPTYPE_UINT32: _integer(range(2**32)),
    FieldDescriptor.CPPTYPE_UINT64: _integer(range(2**64)),
    FieldDescriptor.CPPTYPE_DOUBLE: _DOUBLE,
    FieldDescriptor.CPPTYPE_FLOAT: _DOUBLE,
}
_KINDS = {bool: "bool_value", float: "number_value", str: "string_value", dict: "struct_value", list: "list_value"}
_KIND_WRITERS: Mapping[str, Write] = {
    "null_value": lambda _: "null",
    "bool_value": _write_bool,
    "number_value": _write_double,
    "string_value": encode_basestring,
    "struct_value": _write_struct,
    "list_value": _write_list_value,
}
WELL_KNOWN_TYPES: Mapping[str, JsonType] = {
    "google.protobuf.Struct": JsonType(_raw_reader(dict, "an object"), _write_struct, means=tidy.mapping),
    "google.protobuf.Value": JsonType(_read_value, _write_value, means=tidy.same, nullable=True),
    "google.protobuf.ListValue": JsonType(_raw_reader(list, "an array"), _write_list_value, means=tidy.array),
    "google.protobuf.Timestamp": JsonType(_read_timestamp, _write_timestamp, quoted=True),
    "google.type.Decimal": JsonType(_read_decimal, _write_decimal),
}
