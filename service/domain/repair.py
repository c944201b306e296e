"""Received objects: what a partner sent untidily is repaired, and each repair is named.

An object that is created here has to keep the contract's rules. One that a partner sent should not be lost, nor stay as
it was at the last import, because its postal code is too long. What breaks a rule is written properly where that is
certain, else shortened if it is prose, else left out. A field that the contract requires takes with it what it stands
in; at last that is the whole object, and it is refused. So is a tariff that would lose what can change a price, and a
CDR what it bills, and an invoice reconciliation record one of its CDRs.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeVar
from urllib.parse import quote

from buf.validate import validate_pb2
from evbridge.options.v1.rules_pb2 import web_address
from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.location_pb2 import Hours, Location
from evbridge.v1.tariff_pb2 import Tariff
from google.api import field_behavior_pb2 as behavior
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from service.domain.country import alpha_3
from service.domain.geography import decimal_degrees
from service.domain.validation import are_valid, violations
from service.errors import FieldViolation, InvalidArgument

M = TypeVar("M", bound=Message)

_MAX_ROUNDS: Final = 10
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_TIME_OF_DAY: Final = re.compile("([0-9]{1,2}):([0-9]{2})(:[0-9]{2})?")
_LANGUAGE: Final = re.compile("([A-Za-z]{2})([-_][A-Za-z0-9]+)*")
_IN_A_URL: Final = "%/:?#[]@!$&'()*+,;="
# These name an object: written another way it would be another one.
_KEYS: Final = frozenset({"country_code", "party_id", "id", "uid"})
# Texts for people: the beginning of one still says something. Half a code, an id or a URL does not.
_PROSE: Final = frozenset(
    {
        "name",
        "address",
        "city",
        "state",
        "text",
        "physical_reference",
        "group_name",
        "supplier_name",
        "energy_product_name",
    }
)
# What a tariff can do without. All its other fields, also those that are added one day, can change a price.
_WITHOUT_PRICE: Final = frozenset({"tariff_alt_text", "tariff_alt_url", "energy_mix", "name", "external_id", "common"})
# The items of which say something together: a day without hours is a day that is closed.
_TOGETHER: Final = frozenset({"regular_hours"})
# Lists of which each item has an id of its own.
_IDS: Final = {"evses": "uid", "connectors": "id", "parking_places": "id", "sockets": "id"}

_Path = tuple[tuple[str, int], ...]
"""The fields from the object down, each with a position in its list, or -1 for the field itself."""


def repaired_each(given: Sequence[M]) -> list[tuple[M, tuple[FieldViolation, ...]] | InvalidArgument]:
    """Several objects of one type as `repaired` has them, or why one cannot be."""
    if len(given) > 1 and are_valid(given):
        return [(each, ()) for each in given]
    found: list[tuple[M, tuple[FieldViolation, ...]] | InvalidArgument] = []
    for each in given:
        try:
            found.append(repaired(each))
        except InvalidArgument as error:
            found.append(error)
    return found


def repaired(given: M) -> tuple[M, tuple[FieldViolation, ...]]:
    """The object as the contract takes it, and what was repaired; `given` itself when nothing had to be.

    A notice has the path of the field in the object as it was received, the rule that it broke and what was done. An
    EVSE that is left out is not one that is gone. Raises InvalidArgument, with all that was wrong, when the object
    cannot be repaired.
    """
    if isinstance(given, Location) and not given.id:  # one of ours would be given an id
        raise InvalidArgument.field("id", "is required")
    found = _found(given)
    if not found:
        return given, ()
    repair = _Repair(given)
    for _ in range(_MAX_ROUNDS):
        repair.once(found)
        found = _found(repair.object)
        if not found:
            return repair.object, tuple(repair.notices)
    raise repair.refusal(found)


def _found(message: Message) -> Sequence[FieldViolation]:
    """Lists that are too long come first and alone: what it costs to judge the rest grows with them."""
    return [*_too_long(message)] or violations(message)


def _too_long(message: Message, above: str = "") -> Iterator[FieldViolation]:
    for name, most, inside in _lists(message.DESCRIPTOR):
        items = getattr(message, name)
        if isinstance(items, Message):
            if message.HasField(name):
                yield from _too_long(items, f"{above}{name}.")
        elif most and len(items) > most:
            yield FieldViolation(above + name, f"must contain no more than {most} items")
        elif inside:
            for at, each in enumerate(items):
                yield from _too_long(each, f"{above}{name}[{at}].")


@cache
def _lists(descriptor: Descriptor) -> Sequence[tuple[str, int, bool]]:
    """Its fields that can be too long, or hold what can: their names, how long they may be, whether they hold such."""
    found = []
    for field in descriptor.fields:
        most = _rules(field).repeated.max_items if field.is_repeated else 0
        message = field.message_type
        inside = message is not None and message.full_name.startswith("evbridge.") and bool(_lists(message))
        if most or inside:
            found.append((field.name, most, inside))
    return found


class _Repair:
    """An object on its way to being one that the contract takes."""

    def __init__(self, given: Message) -> None:
        self.object: Any = type(given)()
        self.object.CopyFrom(given)
        self.notices: list[FieldViolation] = []
        # Which items of a list are left, by their positions in the list as it was received.
        self._left: dict[tuple[_Path, str], list[int]] = {}

    def once(self, found: Iterable[FieldViolation]) -> None:
        """Repairs what was found. Raises InvalidArgument for what cannot be repaired."""
        done: set[_Path] = set()
        around: set[_Path] = set()
        failed: list[FieldViolation] = []
        # From the end, so that the positions of what is still to come stay.
        for path, rule in sorted(((_parsed(each.path), each.description) for each in found), reverse=True):
            # What was changed inside, or around, is judged again before anything else is done to it.
            if path in around or any(path[:length] in done for length in range(len(path) + 1)):
                continue
            changed = self._repair(path, rule)
            if changed is None:
                failed.append(FieldViolation(self._shown(path), rule))
                continue
            done.add(changed)
            for length, (name, _) in enumerate(changed):
                around |= {changed[:length], (*changed[:length], (name, -1))}
        if failed:
            raise self.refusal(failed[::-1])

    def refusal(self, failed: Iterable[FieldViolation]) -> InvalidArgument:
        """Names what was left out before too: it may be why something that is required is not there."""
        return InvalidArgument.of((*failed, *self.notices), "object")

    def _repair(self, path: _Path, rule: str) -> _Path | None:
        """The path of what was changed; None when that is impossible."""
        inside = [self.object]
        for name, position in path:
            value = getattr(inside[-1], name)
            inside.append(value if position < 0 else value[position])
        value = inside[-1]
        if isinstance(value, str):
            text = _tidied(_field(inside[-2], path), value)
            if text != value:
                self._notice(path, rule, "shortened" if value.startswith(text) else "corrected")
                _set(inside[-2], path, text)
                return path
        elif isinstance(value, Message):
            if self._settled(value, path, rule):
                return path
        elif path and path[-1][1] < 0 and _field(inside[-2], path).is_repeated and self._thinned(path, rule, inside):
            return path
        return self._left_out(path, rule, inside)

    def _settled(self, message: Any, path: _Path, rule: str) -> bool:
        """Whether something was left out of a message that contradicts itself."""
        superfluous: list[_Path] = []
        if isinstance(message, Hours) and message.twentyfourseven and message.regular_hours:
            superfluous.append((*path, ("regular_hours", -1)))
        if isinstance(message, Location) and message.publish and message.publish_allowed_to:
            superfluous.append((*path, ("publish_allowed_to", -1)))
        for name in _IDS.keys() & message.DESCRIPTOR.fields_by_name.keys():
            items = getattr(message, name)
            superfluous += [(*path, (name, at)) for at in _others(items, _last_of_each(name, items))]
        for each in superfluous:
            self._notice(each, rule, "left out")
            self._remove(message, each)
        return bool(superfluous)

    def _thinned(self, path: _Path, rule: str, inside: list[Any]) -> bool:
        """Whether something was left out of a list that is too long or holds an item twice."""
        name, items = path[-1][0], inside[-1]
        rules = _rules(_field(inside[-2], path)).repeated
        kept = [*range(len(items))]
        if rules.unique:
            first: dict[Any, int] = {}
            for at, item in enumerate(items):
                first.setdefault(item, at)
            kept = [*first.values()]
        elif name in _IDS:
            kept = _last_of_each(name, items)
        if rules.HasField("max_items") and len(kept) > rules.max_items:
            if self._sets_a_price(path):
                return False
            del kept[rules.max_items :]
        if len(kept) == len(items):
            return False
        self._notice(path, rule, f"{len(items) - len(kept)} items are left out")
        left = self._left_of(path, len(items))
        left[:] = [left[at] for at in kept]
        stay = [items[at] for at in kept]
        del items[:]
        items.extend(stay)
        return True

    def _left_out(self, path: _Path, rule: str, inside: list[Any]) -> _Path | None:
        """Leaves the value out, or what it is required in. The path of that; None when it is the object itself."""
        if self._sets_a_price(path):
            return None
        for length in range(len(path), 0, -1):
            part, (name, position) = path[:length], path[length - 1]
            if name in _TOGETHER if position >= 0 else _required(_field(inside[length - 1], part)):
                continue
            self._notice(path, rule, "left out" if part == path else f"{self._shown(part)} is left out")
            self._remove(inside[length - 1], part)
            return part
        return None

    def _sets_a_price(self, path: _Path) -> bool:
        if isinstance(self.object, Cdr):
            return not path or path[0][0] == "charging_periods" or path[0][0].startswith("total_")
        if isinstance(self.object, InvoiceReconciliationRecord):
            return not path or path[0][0] == "cdrs"
        return isinstance(self.object, Tariff) and (not path or path[0][0] not in _WITHOUT_PRICE)

    def _remove(self, inside: Any, path: _Path) -> None:
        """Clears a field, or deletes an item, of the message `inside`."""
        name, position = path[-1]
        if position < 0:
            inside.ClearField(name)
            return
        items = getattr(inside, name)
        del self._left_of(path, len(items))[position], items[position]

    def _left_of(self, path: _Path, length: int) -> list[int]:
        """Which items are left of the list at the path, or of the list that the path leads into."""
        of = (self._received(path[:-1]), path[-1][0])
        if of not in self._left:
            self._left[of] = [*range(length)]
        return self._left[of]

    def _notice(self, path: _Path, rule: str, done: str) -> None:
        self.notices.append(FieldViolation(self._shown(path), f"{rule}: {done}"))

    def _received(self, path: _Path) -> _Path:
        """The path that the same place has in the object as it was received."""
        received: _Path = ()
        for name, position in path:
            left = self._left.get((received, name))
            received = (*received, (name, left[position] if left and position >= 0 else position))
        return received

    def _shown(self, path: _Path) -> str:
        return ".".join(name if position < 0 else f"{name}[{position}]" for name, position in self._received(path))


def _parsed(path: str) -> _Path:
    """The path of a violation: `evses[3].physical_reference`; "" for the whole object."""
    parts = (name.rstrip("]").partition("[") for name in path.split(".") if name)
    return tuple((name, int(position) if position else -1) for name, _, position in parts)


def _last_of_each(name: str, items: Any) -> list[int]:
    """The positions that stay when each id stands in the list once."""
    return sorted({getattr(item, _IDS[name]).casefold(): at for at, item in enumerate(items)}.values())


def _others(items: Any, kept: list[int]) -> list[int]:
    """The positions that are not kept, from the end."""
    return sorted({*range(len(items))} - {*kept}, reverse=True)


def _field(inside: Any, path: _Path) -> FieldDescriptor:
    field: FieldDescriptor = inside.DESCRIPTOR.fields_by_name[path[-1][0]]
    return field


def _set(inside: Any, path: _Path, text: str) -> None:
    name, position = path[-1]
    if position < 0:
        setattr(inside, name, text)
    else:
        getattr(inside, name)[position] = text


def _rules(field: FieldDescriptor) -> Any:
    return field.GetOptions().Extensions[validate_pb2.field]


def _required(field: FieldDescriptor) -> bool:
    return field.name in _KEYS or behavior.REQUIRED in field.GetOptions().Extensions[behavior.field_behavior]


def _tidied(field: FieldDescriptor, text: str) -> str:
    """The text as it was meant; itself when that is not certain."""
    if field.name in _KEYS:
        return text
    text = _CONTROL.sub("", text)
    if meant := _MEANT.get(field.name):
        return meant(text)
    rules = _rules(field).string
    if rules.uri or rules.Extensions[web_address]:
        return _url(text)
    return text[: rules.max_len].rstrip() if field.name in _PROSE and len(text) > rules.max_len > 0 else text


def _url(text: str) -> str:
    """With the characters that a URL cannot hold percent-encoded, but for those of the host."""
    scheme, separator, rest = text.strip().partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host}{slash}{quote(path, safe=_IN_A_URL)}"


def _opening_time(text: str) -> str:
    found = _TIME_OF_DAY.fullmatch(text.strip())
    return f"{found[1]:0>2}:{found[2]}" if found else text


def _time_of_price(text: str) -> str:
    """The same, but with seconds it is another time."""
    found = _TIME_OF_DAY.fullmatch(text.strip())
    return _opening_time(text) if found and found[3] in (None, ":00") else text


def _language(text: str) -> str:
    found = _LANGUAGE.fullmatch(text.strip())
    return found[1].lower() if found else text


_MEANT: Final[Mapping[str, Callable[[str], str]]] = {
    "latitude": decimal_degrees,
    "longitude": decimal_degrees,
    "country": lambda text: alpha_3(text) or text,
    "currency": lambda text: upper if len(upper := text.strip().upper()) == 3 else text,
    "language": _language,
    "period_begin": _opening_time,
    "period_end": _opening_time,
    "start_time": _time_of_price,
    "end_time": _time_of_price,
}
