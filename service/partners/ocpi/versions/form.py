"""What a release of OCPI has of our messages, read from the contract's options; and objects without the rest. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cache
from typing import Any, Final, NamedTuple

from evbridge.options.v1 import options_pb2 as options
from google.api import field_behavior_pb2 as behavior
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from service.bridge.json_text import CodecError, Number, Unreadable
from service.bridge.values import Trail, enum_names

Object = dict[str, Any]

_ELSE: Final = {"EvseStatus": "UNKNOWN"}
"""What the value of an enum is read as that is none of it."""
_WITHOUT_ZONE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?")
_SINGLE: Final = frozenset({str, int, bool, Number})
_SEVERAL: Final = (dict, list, Unreadable)
_DECIMALS: Final = 12
_ROUNDING: Final = Context(prec=100, rounding=ROUND_HALF_EVEN)


class Notice(NamedTuple):
    """What was not read, by its JSON pointer, and why."""

    pointer: str
    problem: str


class _Member(NamedTuple):
    """`plain`: its only value stays as it is. `values`: the names of an enum's; `otherwise` what others are read as."""

    field: FieldDescriptor
    inner: Descriptor | None
    required: bool
    plain: bool
    values: frozenset[str] | None = None
    otherwise: str | None = None


class Pruning:
    """Makes objects of what `release` has, and notes what it leaves out.

    A value of an enum that it does not have is another `instead`, or is left out. Null is nothing. What lacks something
    required is left out too, and so on up to the whole object.
    """

    def __init__(self, release: int, instead: Mapping[str, str] | None = None) -> None:
        self.notices: list[Notice] = []
        self._lacking: list[str] = []
        self._release = release
        self._instead = instead or {}
        self._trail = Trail()

    def whole(self, descriptor: Descriptor, value: Object) -> Object:
        """Raises CodecError when something required is not there, or where no list or no object stands."""
        kept = self._object(descriptor, value)
        if kept is None:
            pointer = f"/{self._lacking[0]}"
            raise CodecError(*next(each for each in self.notices if f"{each.pointer}/".startswith(f"{pointer}/")))
        return kept

    def _object(self, descriptor: Descriptor, value: Object) -> Object | None:
        members, required = _members(descriptor, self._release)
        found: Object = {}
        for name, item in value.items():
            member = members.get(name)
            if member is not None and member.plain and type(item) in _SINGLE:
                found[name] = item  # as most are, and so without a trail
                continue
            self._trail.append(name)
            if member is None:
                self._note("is not known")
            elif item is not None and (kept := self._kept(member, item)) is not None:
                found[name] = kept
            self._trail.pop()
        self._lacking = [name for name in required if name not in found]
        for name in self._lacking:
            if value.get(name) is None:
                self._trail.append(name)
                self._note("is missing")
                self._trail.pop()
        return None if self._lacking else found

    def _kept(self, member: _Member, value: Any) -> Any:
        if not member.field.is_repeated:
            return self._item(member, value)
        if not isinstance(value, list):
            raise self._trail.fault("must be a list")
        items = []
        for position, item in enumerate(value):
            self._trail.append(position)
            kept = self._item(member, item)
            self._trail.pop()
            if kept is not None:
                items.append(kept)
        return None if value and not items and member.required else items

    def _item(self, member: _Member, value: Any) -> Any:
        """A single value of another type than the contract's is left as it is: the codec says what is wrong with it."""
        if member.inner is not None:
            if not isinstance(value, dict):
                raise self._trail.fault("must be an object")
            return self._object(member.inner, value)
        if isinstance(value, _SEVERAL):
            raise self._trail.fault("must be a single value")
        if member.values is not None and isinstance(value, str):
            return self._known(member, self._instead.get(value, value))
        if member.field.message_type is None:
            return value
        if isinstance(value, Number):
            return _plain(value)
        return f"{value}Z" if isinstance(value, str) and _WITHOUT_ZONE.fullmatch(value) else value

    def _known(self, member: _Member, value: str) -> str | None:
        if member.values is None or value in member.values:
            return value
        otherwise = member.otherwise
        self._note(f"is no value that is known{f', and read as {otherwise}' if otherwise else ''}")
        return otherwise

    def _note(self, problem: str) -> None:
        self.notices.append(Notice(self._trail.fault("").pointer, problem))


def pruned(descriptor: Descriptor, ours: Object, release: int, instead: Mapping[str, str] | None = None) -> Object:
    """What the release has of an object of ours. Raises CodecError when it has not what is required."""
    return Pruning(release, instead).whole(descriptor, ours)


def renamed(value: Object, names: Mapping[str, str]) -> Object:
    """With other names for some members; one that has the new name already stays."""
    return {new: value[old] for old, new in names.items() if old in value} | {
        name: item for name, item in value.items() if name not in names
    }


def replaced(value: Object, name: str, change: Callable[[Object], Object]) -> Object:
    """With `change` made to each object in a list that is a member."""
    items = value.get(name)
    if not isinstance(items, list):
        return value
    return value | {name: [change(item) if isinstance(item, dict) else item for item in items]}


@cache
def _members(descriptor: Descriptor, release: int) -> tuple[Mapping[str, _Member], Sequence[str]]:
    """By their names, and which are required."""
    members = {
        field.name: _member(field, release)
        for field in descriptor.fields
        if field.GetOptions().Extensions[options.ocpi_since] <= release
    }
    return members, [name for name, member in members.items() if member.required]


def _member(field: FieldDescriptor, release: int) -> _Member:
    message, enum = field.message_type, field.enum_type
    inner = message if message is not None and message.full_name.startswith("evbridge.") else None
    required = behavior.REQUIRED in field.GetOptions().Extensions[behavior.field_behavior]
    if enum is None:
        return _Member(field, inner, required, message is None and not field.is_repeated)
    values = frozenset(
        name
        for number, name in enum_names(enum).items()
        if enum.values_by_number[number].GetOptions().Extensions[options.value_ocpi_since] <= release
    )
    return _Member(field, inner, required, False, values, _ELSE.get(enum.name))


def _plain(digits: Number) -> Number:
    """Without an exponent and with 12 decimals at most; a number that ours cannot hold stays as it is."""
    if len(digits) > 60 or not digits.isascii():
        return digits
    number = Decimal(digits)
    if number.adjusted() > 30:
        return digits if number else Number("0")
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -_DECIMALS:
        number = number.quantize(Decimal(1).scaleb(-_DECIMALS), context=_ROUNDING).normalize(_ROUNDING)
    return Number(f"{number:f}")
