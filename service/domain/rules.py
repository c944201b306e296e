"""The rules of the contract that are compiled from its descriptors: codes, decimals, times that are none, control
characters, what a body needs. The others are protovalidate's."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain, pairwise
from operator import attrgetter
from typing import Any, Final, NamedTuple

from buf.validate import validate_pb2
from evbridge.options.v1 import options_pb2 as options
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from service.domain.country import ALPHA_2
from service.domain.currency import CURRENCIES
from service.domain.time_zones import time_zones
from service.errors import FieldViolation

NO_TIME: Final = "must be a time from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z"
CONTROL_CHARACTERS: Final = "must not hold control characters but tab and line feed"
_CONTROL_CHARACTERS_BUT_RETURN: Final = "must not hold control characters but tab, line feed and carriage return"
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_CONTROL_BUT_RETURN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TIME: Final = "google.protobuf.Timestamp"
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799

_DAY_MINUTES: Final = 24 * 60

_Problem = Callable[[Any], str]
"""What is wrong with a value; "" when nothing is."""


class _Checks(NamedTuple):
    """What is judged of a field: the value itself, or each item of it; whether the fields inside are, and are there.

    With `presence` it may be absent.
    """

    problem: _Problem | None
    inside: bool
    items: bool
    presence: bool = False
    needs: Collection[str] = ()


def broken(message: Message, prefix: str = "") -> Iterator[FieldViolation]:
    """Every value that breaks a rule, and its path with `prefix` before it."""
    return iter(()) if are_sound([message]) else _broken(message, prefix)


def are_sound(messages: Sequence[Message]) -> bool:
    """Whether nothing is broken in messages of one type. Of most that is all there is to say.

    A field is judged in all of them at once, and so what stands in a list, which takes a tenth of the time.
    """
    texts, checks = _sound_parts(messages[0].DESCRIPTOR)
    if texts is not None and texts[1].search("".join(chain.from_iterable(map(texts[0], messages)))):
        return False
    for name, found in checks:
        present = [each for each in messages if each.HasField(name)] if found.presence else messages
        items = [getattr(each, name) for each in present]
        if found.items:
            items = [item for values in items for item in _flat(values)]
        if found.problem and any(map(found.problem, items)):
            return False
        if found.needs and not all(_is_set(item, each) for item in items for each in found.needs):
            return False
        if found.inside and items and not are_sound(items):
            return False
    return True


def _broken(message: Message, prefix: str) -> Iterator[FieldViolation]:
    checks = _checks(message.DESCRIPTOR)
    for field, value in message.ListFields():
        if (found := checks.get(field.number)) is None:
            continue
        path = prefix + field.name
        for place, item in _items(value) if found.items else (("", value),):
            if found.problem and (problem := found.problem(item)):
                yield FieldViolation(path + place, problem, no_time=found.problem is _time_problem)
            for name in found.needs:
                if not _is_set(item, name):
                    yield FieldViolation(f"{path}{place}.{name}", "is required")
            if found.inside:
                yield from _broken(item, f"{path}{place}.")


def _is_set(message: Message, name: str) -> bool:
    has_presence = message.DESCRIPTOR.fields_by_name[name].has_presence
    return message.HasField(name) if has_presence else bool(getattr(message, name))


def clamp_times(message: Message) -> bool:
    """Makes every time that is none the nearest that is. Says whether there was one."""
    if message.DESCRIPTOR.full_name == _TIME:
        return _clamp(message)
    clamped = False
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for item in value if field.is_repeated else (value,):
                clamped |= clamp_times(item)
    return clamped


def _clamp(time: Any) -> bool:
    if not _time_problem(time):
        return False
    if _FIRST_S <= time.seconds <= _LAST_S:
        time.nanos = min(max(time.nanos, 0), 999_999_999)
    else:
        time.seconds, time.nanos = (_FIRST_S, 0) if time.seconds < _FIRST_S else (_LAST_S, 999_999_999)
    return True


def _flat(values: Any) -> Iterable[Any]:
    """What is in a list, or in a map with its keys."""
    return chain(values, values.values()) if hasattr(values, "values") else values


def _items(values: Any) -> Iterator[tuple[str, Any]]:
    """(place, value) of a list or a map; the keys of a map are values too."""
    if not hasattr(values, "items"):
        yield from ((f"[{number}]", item) for number, item in enumerate(values))
        return
    for key, item in values.items():
        yield f"[{key!r}]", key
        yield f"[{key!r}]", item


@cache
def _sound_parts(
    descriptor: Descriptor,
) -> tuple[tuple[Callable[[Message], Iterable[str]], re.Pattern[str]] | None, list[tuple[str, _Checks]]]:
    """How all texts without a list of codes are read at once, and what none of them holds; the checks of the others."""
    checks = _checks(descriptor)
    texts = [field.name for field in descriptor.fields if _is_plain_text(field)]
    others = [(field.name, checks[field.number]) for field in descriptor.fields if field.number in checks]
    control = _control_characters(descriptor)[0]
    # That of a single attribute gives no tuple.
    read = attrgetter(*texts) if len(texts) > 1 else lambda message: [getattr(message, *texts)]
    return (read, control) if texts else None, [each for each in others if each[0] not in texts]


def _is_plain_text(field: FieldDescriptor) -> bool:
    has_codes = field.GetOptions().Extensions[options.code] in _CODES
    return field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated and not has_codes


@cache
def _checks(descriptor: Descriptor) -> dict[int, _Checks]:
    checks = ((field.number, _checks_of(field)) for field in descriptor.fields)
    return {number: found for number, found in checks if found.problem or found.inside or found.needs}


def _checks_of(field: FieldDescriptor) -> _Checks:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    type = field.message_type
    if type is not None and type.GetOptions().map_entry:
        key, value = type.fields
        texts = _text_problem(field) if FieldDescriptor.TYPE_STRING in (key.type, value.type) else None
        return _Checks(texts, False, True)
    problem: _Problem | None = None
    if type is not None and type.full_name == "evbridge.v1.Hours":
        return _Checks(_hours_problem, True, field.is_repeated, not field.is_repeated)
    if field.type == FieldDescriptor.TYPE_STRING:
        problem = _text_problem(field)
    elif type is not None and type.full_name == _TIME:
        problem = _time_problem
    elif type is not None and field.GetOptions().HasExtension(options.decimal):
        problem = _decimal_problem(field.GetOptions().Extensions[options.decimal])
    # Items whose rules are left to the handler are judged one by one there, so that a wrong one does not refuse all.
    left = rules.repeated.items.ignore == validate_pb2.IGNORE_ALWAYS
    inside = type is not None and problem is None and not left and _has_rules(type, frozenset())
    needs = field.GetOptions().Extensions[options.needs]
    return _Checks(problem, inside, field.is_repeated, field.has_presence, needs)


def _has_rules(descriptor: Descriptor, around: frozenset[str]) -> bool:
    """Whether something in it can break a rule, however deep."""
    around |= {descriptor.full_name}
    fields = descriptor.fields
    return any(each.type == each.TYPE_STRING or _may_break(each.message_type, around) for each in fields)


def _may_break(type: Descriptor | None, around: frozenset[str]) -> bool:
    if type is None or type.full_name in around:
        return False
    return type.full_name == _TIME or _has_rules(type, around)


def _text_problem(field: FieldDescriptor) -> _Problem:
    judge_code = _CODES.get(field.GetOptions().Extensions[options.code])
    control, words = _control_characters(field)

    def problem(text: Any) -> str:
        if not isinstance(text, str):
            return ""
        if control.search(text):
            return words
        return judge_code(text) if judge_code and text else ""

    return problem


def _control_characters(of: Descriptor | FieldDescriptor) -> tuple[re.Pattern[str], str]:
    """Those that a text must not hold, and the words for it."""
    if of.full_name.startswith("evbridge.v1."):
        return _CONTROL, CONTROL_CHARACTERS
    return _CONTROL_BUT_RETURN, _CONTROL_CHARACTERS_BUT_RETURN  # a partner's lines may end as it likes


def _time_problem(time: Any) -> str:
    return "" if _FIRST_S <= time.seconds <= _LAST_S and 0 <= time.nanos < 1_000_000_000 else NO_TIME


def _hours_problem(hours: Any) -> str:
    """Not in CEL, which compares each period with each."""
    periods: list[tuple[int, int]] = []
    for each in hours.regular_hours:
        begin, end = _minute(each.period_begin), _minute(each.period_end) or _DAY_MINUTES
        if begin < 0 or end < 0:
            return ""  # that is another problem
        if begin == end:
            return "regular_hours must not end when they begin: a whole day is 00:00 to 24:00"
        start = (each.weekday - 1) * _DAY_MINUTES
        stop = start + end + (_DAY_MINUTES if end < begin else 0)
        periods.append((start + begin, stop))
        if stop > 7 * _DAY_MINUTES:  # from Sunday into Monday
            periods.append((0, stop - 7 * _DAY_MINUTES))
    periods.sort()
    overlap = any(after[0] < before[1] for before, after in pairwise(periods))
    return "regular_hours must not overlap" if overlap else ""


def _minute(text: str) -> int:
    """Of the day; below 0 for what is no time."""
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute) if len(text) == 5 and (hour + minute).isdecimal() else -1


def _decimal_problem(rule: options.DecimalRule) -> _Problem:
    sign = "-?" if rule.sign == options.DECIMAL_SIGN_UNSPECIFIED else ""
    form = re.compile(f"{sign}[0-9]{{1,{rule.whole_digits}}}([.][0-9]{{1,12}})?")
    words = decimal_words(rule)
    positive = rule.sign == options.DECIMAL_SIGN_POSITIVE

    def problem(decimal: Any) -> str:
        text = decimal.value
        if len(text) > rule.whole_digits + 14 or not form.fullmatch(text):
            return words
        whole, _, part = text.partition(".")
        if rule.highest and (int(whole), int(part or "0") > 0) > (rule.highest, False):
            return words
        return words if positive and not text.strip("0.") else ""

    return problem


def decimal_words(rule: options.DecimalRule) -> str:
    """What a decimal must be, with its limits."""
    if rule.highest:
        beginning = "above 0 and up to" if rule.sign == options.DECIMAL_SIGN_POSITIVE else "from 0 to"
        return f"must be a decimal number {beginning} {rule.highest} with up to 12 digits after the point, such as 19.5"
    sign = {
        options.DECIMAL_SIGN_UNSPECIFIED: "",
        options.DECIMAL_SIGN_NOT_NEGATIVE: ", 0 or above,",
        options.DECIMAL_SIGN_POSITIVE: " above 0",
    }[rule.sign]
    return (
        f"must be a decimal number{sign} with up to {rule.whole_digits} digits before the point and up to 12 after it, "
        "such as 0.25"
    )


def _one_of(codes: Callable[[], Any], words: str) -> Callable[[str], str]:
    return lambda text: "" if text in codes() else words


_CODES: Final = {
    options.CODE_LIST_TIME_ZONE: _one_of(
        time_zones, "must be the name of a time zone of the IANA database, such as Europe/Oslo"
    ),
    options.CODE_LIST_COUNTRY: _one_of(
        lambda: ALPHA_2, "must be a country code of three upper-case letters (ISO 3166-1 alpha-3), such as DEU"
    ),
    options.CODE_LIST_CURRENCY: _one_of(
        lambda: CURRENCIES, "must be a currency code of three upper-case letters (ISO 4217), such as EUR"
    ),
}
