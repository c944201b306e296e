"""Resume tokens: a place in the feed of one database."""

import base64
import binascii

from service.errors import InvalidArgument, ResumeTokenForeign, ResumeTokenTooOld

_DATABASE, _PLACE = 8, 8  # bytes


def token_of(database: bytes, place: int) -> str:
    """`database` are the 8 bytes that stand for it."""
    return base64.urlsafe_b64encode(database + place.to_bytes(_PLACE, "big")).decode().rstrip("=")


def place_in(token: str, database: bytes, floor: int, newest: int) -> int:
    """The place, of which nothing is gone: the floor is below it, and the newest transaction is not.

    Raises InvalidArgument for a damaged token, ResumeTokenForeign, ResumeTokenTooOld.
    """
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _DATABASE + _PLACE:
        raise InvalidArgument.field("resume_token", "is damaged; send one that a response held, or none")
    place = int.from_bytes(raw[_DATABASE:], "big")
    if raw[:_DATABASE] != database or place > newest:
        raise ResumeTokenForeign("the token is not of this database as it is now: watch again with a snapshot")
    check_kept(place, floor)
    return place


def check_kept(place: int, floor: int) -> None:
    """Raises ResumeTokenTooOld when changes from the place on are no longer kept."""
    if place <= floor:
        raise ResumeTokenTooOld("changes after the token are no longer kept: watch again with a snapshot")
