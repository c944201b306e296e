"""Pages of lists: sizes, tokens bound to their filters (AIP-158), and framing stored payloads as a list response."""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from uuid import UUID

from google.protobuf.message import Message

from service.domain.partner_error import PartnerFault
from service.errors import InvalidArgument, InvalidPageToken

DEFAULT_SIZE = 50
MAX_SIZE = 1000
MAX_BYTES = 1 << 20
HIGHEST_POSITION = (1 << 63) - 1
LOWEST, HIGHEST = UUID(int=0), UUID(int=(1 << 128) - 1)
MAX_BATCH_BYTES = 3 << 20  # clients take 4 MiB unless told otherwise


def page_size(requested: int) -> int:
    return min(requested or DEFAULT_SIZE, MAX_SIZE)


def _filters(request: Message) -> bytes:
    """8 bytes that stand for everything in a list request but the page."""
    filters = type(request)()
    filters.CopyFrom(request)
    filters.ClearField("page_size")
    filters.ClearField("page_token")
    name = request.DESCRIPTOR.full_name.encode()
    return hashlib.blake2b(filters.SerializeToString(deterministic=True), digest_size=8, person=name[-16:]).digest()


def token_after(request: Message, last_key: str) -> str:
    """The token of the page that follows `last_key`."""
    return base64.urlsafe_b64encode(_filters(request) + last_key.encode()).decode().rstrip("=")


def key_before(request: Message) -> str:
    """The last key of the page before, or "" for the first page.

    Raises InvalidPageToken for a damaged token and for one made with other filters.
    """
    token: str = request.page_token  # type: ignore[attr-defined]
    if not token:
        return ""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        key = raw[8:].decode()
    except (binascii.Error, ValueError):
        raise InvalidPageToken("the page token is damaged") from None
    if raw[:8] != _filters(request) or not key or "\0" in key:
        raise InvalidPageToken("the page token belongs to a list with other filters")
    return key


def uuid_before(request: Message, first: UUID = LOWEST) -> UUID:
    """`key_before` for a list in the order of UUIDs; `first` for the first page. Raises InvalidPageToken."""
    try:
        return UUID(key_before(request) or first.hex)
    except ValueError:
        raise InvalidPageToken("the page token is damaged") from None


def number_before(request: Message) -> int:
    """`key_before` for a list in the order of numbers from 1 on. Raises InvalidPageToken."""
    key = key_before(request) or "0"
    if not (key.isascii() and key.isdigit()) or int(key) >= 2**31:
        raise InvalidPageToken("the page token is damaged")
    return int(key)


def position_before(request: Message) -> int:
    """`key_before` for a list in the reverse order of 64-bit numbers. Raises InvalidPageToken."""
    key = key_before(request) or str(HIGHEST_POSITION)
    if not (key.isascii() and key.isdigit()) or int(key) > HIGHEST_POSITION:
        raise InvalidPageToken("the page token is damaged")
    return int(key)


_TIME = "%Y%m%d%H%M%S%f"
_TIME_LENGTH = 20


def place_of(time: datetime, id: str) -> str:
    """A place in a list in the order of times."""
    return f"{time.astimezone(UTC):{_TIME}}{id}"


def id_at(place: str) -> str:
    """What stands behind the time in a place of a list in the order of times."""
    return place[_TIME_LENGTH:]


def time_at(place: str) -> datetime:
    """The time in a place of such a list; "" comes before all places. Raises InvalidPageToken."""
    if not place:
        return datetime.min.replace(tzinfo=UTC)
    try:
        return datetime.strptime(place[:_TIME_LENGTH], _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise InvalidPageToken("the page token is damaged") from None


def list_response(request: Message, rows: Sequence[tuple[str, bytes]], size: int) -> bytes:
    """A serialized list response (field 1: the resources, field 2: the next token) from stored payloads, unparsed.

    `rows` are (key, payload) in the order of the keys: up to `size` + 1 of them, ending early at MAX_BYTES.
    """
    page = rows[:size]
    payloads = [payload for _, payload in page]
    more = len(rows) > size or sum(map(len, payloads)) >= MAX_BYTES
    return page_response(request, payloads, page[-1][0] if more else "")


def page_response(request: Message, payloads: Sequence[bytes], last_key: str) -> bytes:
    """The same, of a page that ends with `last_key`; "" when no other follows."""
    response = framed(payloads)
    if last_key:
        response += framed([token_after(request, last_key).encode()], 2)
    return response


def batch_response(payloads: Sequence[bytes]) -> bytes:
    """A serialized response with all that `keys` asked for. Raises InvalidArgument when it is too large to send."""
    if sum(map(len, payloads)) > MAX_BATCH_BYTES:
        raise InvalidArgument.field("keys", "name more than one answer can hold, 3 MiB: ask for fewer")
    return framed(payloads)


def whole_response(payload: bytes, path: str) -> bytes:
    """A serialized response. Raises InvalidArgument, for what asked for it, when it is too large to send."""
    if len(payload) > MAX_BATCH_BYTES:
        raise InvalidArgument.field(path, "makes an answer of more than 3 MiB: ask for less")
    return payload


def search_response(payloads: Sequence[bytes]) -> bytes:
    """A serialized response with the first of what was found, ending at MAX_BYTES."""
    before = accumulate((len(payload) for payload in payloads), initial=0)
    return framed([payload for payload, size in zip(payloads, before, strict=False) if size < MAX_BYTES])


def framed(payloads: Iterable[bytes], field: int = 1) -> bytes:
    """Stored payloads as a repeated field of a message, unparsed. `field` is up to 15."""
    tag = bytes([field << 3 | 2])
    parts: list[bytes] = []
    for payload in payloads:
        parts += (tag, _varint(len(payload)), payload)
    return b"".join(parts)


def link_noted(noted: str, link: str, number: int, partner: str) -> str:
    """Of the links of a partner's list the one to compare later ones with, after page `number`, from 1 on.

    It is the `link` after the last page whose number is a power of two, so that every circle comes back to it.
    Raises PartnerFault when that has happened. Source: R. P. Brent, An improved Monte Carlo factorization algorithm.
    """
    if link and link == noted:
        raise PartnerFault(f"the list goes in a circle: what follows page {number:,} was read before", partner=partner)
    return noted if number & (number - 1) else link


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
