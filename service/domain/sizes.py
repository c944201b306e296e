"""How much a request may hold, judged from its bytes, before anything is parsed.

A message takes up to two hundred times its bytes once it is parsed: an empty message in a list is two bytes on the
wire. The rules visit each of them before they say that there are too many. So the items of each list, the length of
each text and the number of all fields are counted first, in one pass that ends at the first excess. The limits are
those of the contract (`max_items`, `max_pairs`, `max_len`), and ours where it names none.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from buf.validate import validate_pb2 as rules
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from service.errors import FieldViolation, InvalidArgument, MalformedRequest, RequestTooLarge

GZIP = b"\x1f\x8b"
"""How gzip begins, and no message: field 3 has no wire type 7."""
MAX_BYTES = 4 << 20
SMALL_BYTES = 4096
"""What fits here cannot hold enough to matter: 2,000 empty messages are parsed in a tenth of a millisecond."""
MAX_FIELDS = 500_000
MAX_MESSAGES = 100_000
MAX_ITEMS = 10_000
LONGEST_TEXT_BYTES = 64 << 10
_LONGEST_DECIMAL_BYTES = 100
_DEEPEST = 120
"""Further than protobuf's own limit, which is 100."""

_CONTINUED = bytes(range(0x80, 0x100))
"""The bytes of a varint but for its last."""
_NUMBER_BYTES = {
    FieldDescriptor.TYPE_FIXED32: 4,
    FieldDescriptor.TYPE_SFIXED32: 4,
    FieldDescriptor.TYPE_FLOAT: 4,
    FieldDescriptor.TYPE_FIXED64: 8,
    FieldDescriptor.TYPE_SFIXED64: 8,
    FieldDescriptor.TYPE_DOUBLE: 8,
}


@dataclass(slots=True)
class _Field:
    name: str
    most: int
    """Items of a list, or pairs of a map; 0 when there is one value."""
    longest: int
    """Bytes of a text; 0 when it is none."""
    item_bytes: int
    """Of a number in a packed list; 0 when their lengths vary."""
    message: "dict[int, _Field] | None"


class _Excess(Exception):
    """Too much of something. `path` grows from the inside out."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem


class _Left:
    """What the rest of a request may hold."""

    __slots__ = ("fields", "messages")

    def __init__(self) -> None:
        self.fields = MAX_FIELDS
        self.messages = MAX_MESSAGES


def inflated(data: bytes) -> bytes:
    """Raises RequestTooLarge beyond MAX_BYTES, without inflating more than that, and MalformedRequest."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        whole = unpacker.decompress(data, MAX_BYTES + 1)
    except zlib.error:
        raise MalformedRequest("the bytes are not gzip") from None
    if len(whole) > MAX_BYTES:
        limit = str(MAX_BYTES)
        raise RequestTooLarge(f"the request is longer than {limit} bytes once it is decompressed", limit_bytes=limit)
    if not unpacker.eof:
        raise MalformedRequest("the gzip ends too early")
    return whole


@cache
def sizes(descriptor: Descriptor) -> Callable[[bytes], None]:
    """A function that judges the bytes of such a message.

    It raises InvalidArgument for the first thing that is too long or too many, MalformedRequest for bytes that are no
    message at all. It knows sizes only: that it returns says nothing else about the bytes.
    """
    fields = _compiled(descriptor, lenient=False, known={})

    def judge(data: bytes) -> None:
        if len(data) <= SMALL_BYTES:
            return
        try:
            _walk(data, 0, len(data), fields, _Left(), 0)
        except IndexError:
            raise MalformedRequest(f"the bytes are not a {descriptor.full_name}") from None
        except _Excess as excess:
            raise InvalidArgument.of((FieldViolation(excess.path, excess.problem),)) from None

    return judge


def _compiled(
    descriptor: Descriptor, *, lenient: bool, known: dict[tuple[str, bool], dict[int, _Field]]
) -> dict[int, _Field]:
    """Its fields by number, without single numbers, which have no size. A `lenient` message is judged item by item
    later, by its handler, so that one wrong item does not refuse the others: the contract's limits are not applied."""
    name = (descriptor.full_name, lenient)
    if name in known:
        return known[name]
    fields = known[name] = {}
    for each in descriptor.fields:
        rule = each.GetOptions().Extensions[rules.field]
        message = None
        if each.message_type is not None:
            inside = lenient or rule.ignore == rules.IGNORE_ALWAYS
            message = _compiled(each.message_type, lenient=inside, known=known)
        most, longest = _limits(each, rules.FieldRules() if lenient else rule)
        if most or longest or message is not None:
            fields[each.number] = _Field(each.name, most, longest, _NUMBER_BYTES.get(each.type, 0), message)
    return fields


def _limits(field: FieldDescriptor, rule: rules.FieldRules) -> tuple[int, int]:
    """The most items and the longest text."""
    most = (rule.repeated.max_items or rule.map.max_pairs or MAX_ITEMS) if field.is_repeated else 0
    if field.type == FieldDescriptor.TYPE_BYTES:
        return most, LONGEST_TEXT_BYTES
    if field.type != FieldDescriptor.TYPE_STRING:
        return most, 0
    if field.containing_type is not None and field.containing_type.full_name == "google.type.Decimal":
        return most, _LONGEST_DECIMAL_BYTES
    text = rule.repeated.items.string if field.is_repeated else rule.string
    # A character takes up to four bytes.
    return most, text.max_bytes or text.len_bytes or 4 * (text.max_len or text.len) or LONGEST_TEXT_BYTES


def _walk(data: bytes, at: int, end: int, fields: dict[int, _Field], left: _Left, depth: int) -> None:
    """Raises _Excess, and IndexError for what is no message."""
    counts: dict[int, int] = {}
    left.messages -= 1
    if left.messages < 0:
        raise _Excess("", f"holds more than {MAX_MESSAGES} messages in all")
    if depth > _DEEPEST:
        raise IndexError
    while at < end:
        left.fields -= 1
        if left.fields < 0:
            raise _Excess("", f"holds more than {MAX_FIELDS} fields in all")
        tag = data[at]
        at += 1
        if tag > 0x7F:
            tag, at = _varint(data, at - 1)
        elif tag < 8:
            raise IndexError  # field 0
        field = fields.get(tag >> 3)
        match tag & 7:
            case 2:
                length = data[at]
                at += 1
                if length > 0x7F:
                    length, at = _varint(data, at - 1)
                stop = at + length
                if stop > end:
                    raise IndexError
                if field is not None:
                    if field.most:
                        _count(field, tag >> 3, counts, _items(field, data, at, stop))
                    if field.message is not None:
                        try:
                            _walk(data, at, stop, field.message, left, depth + 1)
                        except _Excess as excess:
                            raise _inside(field, counts.get(tag >> 3, 0) - 1, excess) from None
                    elif length > field.longest and field.longest:
                        raise _inside(field, counts.get(tag >> 3, 0) - 1, _Excess("", _too_long(field)))
                at = stop
                continue
            case 0:
                while data[at] > 0x7F:
                    at += 1
                at += 1
            case 5:
                at += 4
            case 1:
                at += 8
            case 3 | 4:
                continue  # no contract of today has groups: what is in them is unknown, and counts all the same
            case _:
                raise IndexError
        if field is not None and field.most:
            _count(field, tag >> 3, counts, 1)
    if at > end:
        raise IndexError


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where what follows it begins."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise IndexError


def _items(field: _Field, data: bytes, at: int, stop: int) -> int:
    """How many items a block holds: one, or as many as a packed list."""
    if field.message is not None or field.longest:
        return 1
    if field.item_bytes:
        return (stop - at) // field.item_bytes
    return len(data[at:stop].translate(None, _CONTINUED))


def _count(field: _Field, number: int, counts: dict[int, int], items: int) -> None:
    counts[number] = counts.get(number, 0) + items
    if counts[number] > field.most:
        raise _Excess(field.name, f"takes at most {field.most} items")


def _inside(field: _Field, index: int, excess: _Excess) -> _Excess:
    place = f"{field.name}[{index}]" if field.most else field.name
    return _Excess(f"{place}.{excess.path}".rstrip("."), excess.problem)


def _too_long(field: _Field) -> str:
    return f"takes at most {field.longest} bytes"
