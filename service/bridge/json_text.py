"""JSON text -> Python values with exact numbers, and how many values a text holds. Pure."""

import codecs
import json
import re
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from json.encoder import encode_basestring_ascii
from typing import Any, Final, NoReturn

import msgspec

MAX_VALUES: Final = 250_000
"""Values that one text may hold: what reading it costs grows with them, not with its bytes."""

_CONSTANTS: Final = {None: "null", True: "true", False: "false"}
_MANY = 3000
"""Values that are read in a few milliseconds."""
_LARGE = 1 << 18
_MAX_DIGITS = 400
"""Of an integer that is read as one. The largest double has 309."""
_DEEPEST = 100
"""Arrays and objects within each other, beyond which no contract follows."""


class CodecError(ValueError):
    """A body that does not follow the contract.

    `pointer` (RFC 6901, empty for the whole body) is made of the contract's names and of positions; neither it nor
    `problem` holds the partner's words. `object_id` and `text` do: of an object of a page that was left out, they are
    what it calls itself, empty when it has no id, and its JSON.
    """

    def __init__(self, pointer: str, problem: str, object_id: str = "", text: str = "") -> None:
        super().__init__(f"{pointer or 'the body'} {problem}")
        self.pointer = pointer
        self.problem = problem
        self.object_id = object_id
        self.text = text


class Number(str):
    """The digits of a JSON number with a fraction or an exponent; a JSON string is a plain str."""

    __slots__ = ()


class Unreadable(Enum):
    """What parse_tolerantly puts in the place of a value that Python has none for."""

    NAN = "NaN"
    BEYOND = "an infinite number, or what is nested beyond every contract"


def values_in(text: bytes | str) -> int:
    """How many values stand inside a JSON text, or more: a comma or a bracket inside a string counts too."""
    if isinstance(text, str):
        return sum(map(text.count, ",[{"))
    return len(text) - len(text.translate(None, b",[{"))


def takes_long(text: bytes | str) -> bool:
    """Whether reading the text may take longer than a few milliseconds: an event loop leaves it to a thread."""
    return len(text) > _LARGE or (len(text) > _MANY and values_in(text) > _MANY)


def parse_json(text: bytes | str) -> Any:
    """json.loads with exact numbers. Raises CodecError, before it parses more than MAX_VALUES.

    Parsing what takes long lets other threads run with every object and every integer.
    """
    if len(text) > MAX_VALUES and values_in(text) > MAX_VALUES:
        raise CodecError("", f"holds more than {MAX_VALUES:,} values")
    long = takes_long(text)
    if not long:
        with suppress(msgspec.MsgspecError, RecursionError, ValueError):  # what is wrong, the standard library says
            return _quickly(text)
    try:
        parse = _by_and_by if long else _strictly
        return parse(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise CodecError("", "is nested too deeply") from None
    except ValueError:
        raise CodecError("", "is not JSON in UTF-8 with finite numbers" if text.strip() else "is empty") from None


def parse_tolerantly(text: bytes | str) -> Any:
    """As parse_json, of what it refuses for one member's sake.

    That is a byte order mark, control characters inside strings, integers of any length (a Number), NaN, Infinity and
    what is nested too deeply (an Unreadable). Raises what parse_json raises.
    """
    try:
        return parse_json(text)
    except CodecError as error:
        refused = error
    try:
        text = (text if isinstance(text, str) else text.decode()).removeprefix("\ufeff")
        if values_in(text) <= MAX_VALUES:
            try:
                return _tolerantly(text)
            except RecursionError:
                return _tolerantly(_flattened(text))
    except (ValueError, RecursionError):
        pass
    raise refused


def _flattened(text: str) -> str:
    """The text with a number that is none in the place of whatever is nested too deeply."""
    pieces, depth, start = [], 0, 0
    for token in _BRACKETS_AND_STRINGS.finditer(text):
        match token[1]:
            case "[" | "{":
                depth += 1
                if depth == _DEEPEST + 1:
                    pieces.append(text[start : token.start(1)])
            case "]" | "}":
                if depth == _DEEPEST + 1:
                    pieces.append("Infinity")
                    start = token.end()
                depth -= 1
    return "".join((*pieces, text[start:]))


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _constant(name: str) -> Unreadable:
    return Unreadable.NAN if name == "NaN" else Unreadable.BEYOND


def _integer(digits: str) -> int | Number:
    return int(digits) if len(digits) <= _MAX_DIGITS else Number(digits)


def _bounded_integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError("the time to read an integer grows with the square of its digits")
    return int(digits)


def _object(members: dict[str, Any]) -> dict[str, Any]:
    """Does nothing: the parser, which is in C, lets other threads run when it calls Python."""
    return members


_BRACKETS_AND_STRINGS = re.compile(r'[^\[\]{}"]*([\[\]{}]|"[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)
_quickly = msgspec.json.Decoder(float_hook=Number).decode
"""Takes half the time, holds up all threads meanwhile, and refuses halves of surrogate pairs."""
_strictly = json.JSONDecoder(parse_float=Number, parse_constant=_refuse_constant).decode
_by_and_by = json.JSONDecoder(
    object_hook=_object, parse_int=_bounded_integer, parse_float=Number, parse_constant=_refuse_constant
).decode
_tolerantly = json.JSONDecoder(
    object_hook=_object, parse_int=_integer, parse_float=Number, parse_constant=_constant, strict=False
).decode


def as_read(value: Any) -> Any:
    """The value with words that are no JSON, NaN and Infinity, in the places that are Unreadable."""
    if isinstance(value, dict):
        return {name: as_read(item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_read(item) for item in value]
    return Number("NaN" if value is Unreadable.NAN else "Infinity") if isinstance(value, Unreadable) else value


def text_of(value: Any) -> str:
    """JSON of what was parsed, in ASCII, numbers with the same digits."""
    try:
        return _written(value).decode().encode("ascii", _ESCAPED).decode()
    except UnicodeEncodeError:  # half a surrogate pair
        pieces: list[str] = []
        _write(value, pieces.append)
        return "".join(pieces)


def text_as_read(value: Any) -> str:
    """What Python has no value for is written as JavaScript does; "" for what is nested too deeply."""
    try:
        return text_of(as_read(value))
    except RecursionError:
        return ""


def size_of(value: Any) -> tuple[int, int]:
    """The bytes of its JSON and the values in it, or more. Raises what writing it raises.

    Writing costs less than looking: that takes a nanosecond for a byte.
    """
    text = _written(value)
    return len(text), values_in(text)


def _write(value: Any, add: Callable[[str], None]) -> None:
    if isinstance(value, dict):
        before = "{"
        for name, item in value.items():
            add(f"{before}{encode_basestring_ascii(name)}:")
            _write(item, add)
            before = ","
        add("}" if value else "{}")
    elif isinstance(value, list):
        before = "["
        for item in value:
            add(before)
            _write(item, add)
            before = ","
        add("]" if value else "[]")
    elif isinstance(value, Number) or type(value) is int:
        add(str(value))
    elif isinstance(value, str):
        add(encode_basestring_ascii(value))
    else:
        add(_CONSTANTS[value])


def _digits(value: Any) -> msgspec.Raw:
    """How a Number is written, the only value that the encoder does not know."""
    if not isinstance(value, Number):
        raise TypeError(f"{type(value).__qualname__} is no value of JSON")
    return msgspec.Raw(value.encode())


def _escaped(fault: UnicodeError) -> tuple[str, int]:
    """Writes what is not ASCII so that JSON says the same."""
    if not isinstance(fault, UnicodeEncodeError):
        raise fault
    return encode_basestring_ascii(fault.object[fault.start : fault.end])[1:-1], fault.end


_written = msgspec.json.Encoder(enc_hook=_digits).encode
_ESCAPED: Final = "evbridge.json"
codecs.register_error(_ESCAPED, _escaped)
