"""What partners in PHP, Rails and Node write, in the form their contract means. Pure.

PHP writes an empty object as [] and a list with gaps as an object, languages with loose types write numbers as text,
and many write "" where there is nothing. Each function takes a value that JSON holds and gives what is meant: the same
value where it needs no help or cannot be helped, None for null.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from service.bridge.json_text import Number

Tidy = Callable[[Any], Any]

_NUMERIC = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?\s*")
_MAX_DIGITS = 400
_WIDEST = 20
"""Digits of the largest 64-bit integer."""
_BOOLEANS = {0: False, 1: True, "false": False, "true": True}


def same(value: Any) -> Any:
    return value


def filled(value: Any) -> Any:
    """For types of which "" is no value."""
    return None if value == "" else value


def number(value: Any) -> Any:
    return Number(value) if type(value) is str and _is_numeric(value) else filled(value)


def integer(value: Any) -> Any:
    if type(value) not in (Number, str) or not _is_numeric(value):
        return filled(value)
    exact = Decimal(value)
    whole = exact.adjusted() < _WIDEST and exact == exact.to_integral_value()
    return int(exact) if whole else value


def boolean(value: Any) -> Any:
    if type(value) is bool:
        return value
    known = integer(value)
    if type(known) not in (int, str):
        return known
    return _BOOLEANS.get(known.lower() if isinstance(known, str) else known, value)


def mapping(value: Any) -> Any:
    """Keys that are the numbers from 0 on make a list of an object."""
    if type(value) is list:
        return {str(position): item for position, item in enumerate(value)}
    return filled(value)


def array(value: Any) -> Any:
    """An object whose keys are numbers is a list with gaps, in its order."""
    return _listed(value) if type(value) is dict else filled(value)


def page(value: Any) -> Any:
    """As array, but what holds nothing is not taken for an empty page."""
    return _listed(value) if type(value) is dict and value else value


def message(value: Any) -> Any:
    return {} if value == [] else filled(value)


def message_or_nothing(value: Any) -> Any:
    """For a message that is not valid when it is empty."""
    return None if value == [] else filled(value)


def whole(text: str) -> str:
    """Half a surrogate pair is what is left of a character that was cut in two."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _listed(value: dict[str, Any]) -> Any:
    return list(value.values()) if all(key.isascii() and key.isdecimal() for key in value) else value


def _is_numeric(value: str) -> bool:
    return len(value) <= _MAX_DIGITS and _NUMERIC.fullmatch(value) is not None
