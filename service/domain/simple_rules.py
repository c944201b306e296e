"""The simple rules of the contract, compiled from its descriptors: lengths, ranges, patterns, presence, how many items.

protovalidate takes 17 us for each report on an EVSE, and this one: it judges a field in all messages of a list at once.
It says only that all rules hold. What is wrong, and whether rules hold that are not simple, is protovalidate's to say.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final, NamedTuple

from buf.validate import validate_pb2 as rules
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

_Test = Callable[[Sequence[Any]], bool]
"""Whether a rule holds for all of some values, of which there is one at least."""

_PATTERN: Final = re.compile(
    r"(?:!rule \|\| this\.matches\('(?P<alone>[^'\\]*)\$'\)"
    r"|this\.matches\('(?P<short>[^'\\]*)\$'\) && size\(this\) <= rule \? ''.*)",
    re.DOTALL,
)
"""The expressions of predefined rules that are a pattern, alone or with the most characters."""

_NO_LIMIT: Final = 1 << 62
_IN_A_URL: Final = r"([\w.~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*"
_WEB_ADDRESS: Final = re.compile(
    rf"(?i:https?)://[A-Za-z0-9.-]+(:[0-9]{{1,5}})?([/?]{_IN_A_URL})?(#{_IN_A_URL})?\Z", re.ASCII
)
"""Most of those that there are."""


class _NotSimple(Exception):
    """A rule that is left to protovalidate."""


class _Field(NamedTuple):
    """The rules of a field: of its value, or of each of its items."""

    name: str
    presence: bool
    required: bool
    ignores_zero: bool
    items: tuple[int, int] | None
    """The fewest and the most, of a list."""
    unique: bool
    tests: tuple[_Test, ...]
    inside: Descriptor | None

    def values(self, messages: Sequence[Message]) -> list[Any] | None:
        """What is there to judge; None when too little or too much is."""
        if self.items is not None:
            lists = [getattr(each, self.name) for each in messages]
            fewest, most = self.items
            if not all(fewest <= len(each) <= most or (self.ignores_zero and not each) for each in lists):
                return None
            if self.unique and any(len({*each}) < len(each) for each in lists):
                return None
            return [*chain.from_iterable(lists)]
        there = [each for each in messages if each.HasField(self.name)] if self.presence else messages
        values = [getattr(each, self.name) for each in there]
        if self.required and (len(there) < len(messages) or not (self.presence or all(values))):
            return None
        return [*filter(None, values)] if self.ignores_zero else values


class _Simple(NamedTuple):
    """The rules of a message: of its fields, and of itself."""

    fields: tuple[_Field, ...]
    tests: tuple[_Test, ...]


@cache
def are_all(descriptor: Descriptor) -> bool:
    """Whether a message has no other rules, however deep. Then even one message is judged faster here."""
    return all(
        (simple := _simple(each)) and not any(_never in field.tests for field in simple.fields)
        for each in _within(descriptor, {})
    )


def hold(messages: Sequence[Message]) -> bool:
    """Whether all rules of what is there are simple ones, and hold in messages of one type."""
    descriptor: Any = messages[0].DESCRIPTOR
    return _hold(descriptor, messages)


def _hold(descriptor: Descriptor, messages: Sequence[Message]) -> bool:
    simple = _simple(descriptor)
    if simple is None:
        return False
    for field in simple.fields:
        values = field.values(messages)
        if values is None:
            return False
        if values:
            for test in field.tests:
                if not test(values):
                    return False
            if field.inside is not None and not _hold(field.inside, values):
                return False
    return all(test(messages) for test in simple.tests)


def _within(descriptor: Descriptor, seen: dict[Descriptor, None]) -> dict[Descriptor, None]:
    """The message and all inside it that have rules."""
    if descriptor not in seen:
        seen[descriptor] = None
        simple = _simple(descriptor)
        for field in simple.fields if simple else ():
            if field.inside is not None:
                _within(field.inside, seen)
    return seen


def _never(_: Sequence[Any]) -> bool:
    """A rule that is not simple."""
    return False


@cache
def _simple(descriptor: Descriptor) -> _Simple | None:
    """None when one that is always judged is not simple."""
    if any(each.GetOptions().HasExtension(rules.oneof) for each in descriptor.oneofs):
        return None
    of_all = descriptor.GetOptions().Extensions[rules.message]
    try:
        if {each.name for each, _ in of_all.ListFields()} - {"cel"}:
            raise _NotSimple
        tests = tuple(_of_message(each.expression) for each in of_all.cel)
        fields = [_field(each) for each in descriptor.fields]
    except _NotSimple:
        return None
    return _Simple(tuple(each for each in fields if each.required or each.items or each.tests or each.inside), tests)


def _field(field: FieldDescriptor) -> _Field:
    """Of a field that may be absent, and has a rule that is not simple, none holds unless it is. Raises _NotSimple."""
    try:
        return _simple_field(field)
    except _NotSimple:
        rule = field.GetOptions().Extensions[rules.field]
        zero = rule.ignore == rules.IGNORE_IF_ZERO_VALUE
        if not zero and (rule.required or not field.has_presence):
            raise
        items = (0, _NO_LIMIT) if field.is_repeated else None
        return _Field(field.name, field.has_presence, False, zero, items, False, (_never,), None)


def _simple_field(field: FieldDescriptor) -> _Field:
    rule = field.GetOptions().Extensions[rules.field]
    always = rule.ignore == rules.IGNORE_ALWAYS
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        if not always and (rule.ListFields() or message.fields_by_name["value"].message_type is not None):
            raise _NotSimple
        return _Field(field.name, False, False, False, None, False, (), None)
    if always:
        return _Field(field.name, False, False, False, None, False, (), None)
    inside = message if message is not None and not message.full_name.startswith("google.") else None
    items, unique, value = None, False, rule
    if field.is_repeated:
        of_list = {each.name for each, _ in rule.ListFields()} - {"required", "ignore", "repeated"}
        of_items = {each.name for each, _ in rule.repeated.ListFields()}
        if of_list or of_items - {"min_items", "max_items", "unique", "items"}:
            raise _NotSimple
        least = max(rule.repeated.min_items, int(rule.required))
        items, unique = (least, rule.repeated.max_items or _NO_LIMIT), rule.repeated.unique
        value = rule.repeated.items
        if value.required or value.ignore not in (rules.IGNORE_UNSPECIFIED, rules.IGNORE_ALWAYS):
            raise _NotSimple
        if value.ignore == rules.IGNORE_ALWAYS:
            value, inside = rules.FieldRules(), None
    tests = tuple(_tests(value, field.enum_type, repeated=field.is_repeated))
    zero = rule.ignore == rules.IGNORE_IF_ZERO_VALUE
    return _Field(field.name, field.has_presence, rule.required and not items, zero, items, unique, tests, inside)


def _tests(rule: rules.FieldRules, enum: EnumDescriptor | None, *, repeated: bool) -> Iterator[_Test]:
    for field, value in rule.ListFields():
        match field.name:
            case "required" | "ignore":
                continue
            case "repeated" if repeated and rule.HasField("repeated"):
                raise _NotSimple  # a list in a list
            case "repeated":
                continue
            case "string":
                yield from _text_tests(value)
            case "enum":
                yield from _enum_tests(value, enum)
            case "int32" | "int64" | "uint32" | "uint64":
                yield from _number_tests(value)
            case _:
                raise _NotSimple


def _text_tests(rule: rules.StringRules) -> Iterator[_Test]:
    for field, value in rule.ListFields():
        if field.is_extension:
            yield from _pattern_tests(field, value)
        elif field.name == "min_len":
            yield _long(value)
        elif field.name == "max_len":
            yield _short(value)
        else:
            raise _NotSimple


def _pattern_tests(rule: FieldDescriptor, value: Any) -> Iterator[_Test]:
    for each in rule.GetOptions().Extensions[rules.predefined].cel:
        if value and (known := _OF_TEXTS.get(each.expression)):
            yield known
            continue
        found = _PATTERN.fullmatch(each.expression)
        pattern = found and (found["alone"] or found["short"])
        if not found or not pattern or "$" in pattern:
            raise _NotSimple
        if found["short"]:
            yield _short(value)
        if found["short"] or value:
            yield _matching(re.compile(pattern + r"\Z"))


def _enum_tests(rule: rules.EnumRules, enum: EnumDescriptor | None) -> Iterator[_Test]:
    for field, value in rule.ListFields():
        if field.name == "defined_only" and enum is not None:
            yield frozenset(enum.values_by_number).issuperset
        elif field.name == "not_in":
            yield frozenset(value).isdisjoint
        else:
            raise _NotSimple


def _number_tests(rule: Any) -> Iterator[_Test]:
    for field, value in rule.ListFields():
        if field.name == "gte":
            yield _at_least(value)
        elif field.name == "lte":
            yield _at_most(value)
        else:
            raise _NotSimple


def _at_least(least: int) -> _Test:
    return lambda numbers: min(numbers) >= least


def _at_most(most: int) -> _Test:
    return lambda numbers: max(numbers) <= most


def _long(least: int) -> _Test:
    return lambda texts: min(map(len, texts)) >= least


def _short(most: int) -> _Test:
    return lambda texts: max(map(len, texts)) <= most


def _matching(pattern: re.Pattern[str]) -> _Test:
    return lambda texts: all(map(pattern.search, texts))


def _without(pattern: re.Pattern[str]) -> _Test:
    return lambda texts: not any(map(pattern.search, texts))


def _of_message(expression: str) -> _Test:
    if found := _UNIQUE_IDS.fullmatch(expression):
        return _with_unique_ids(found["list"], found["id"])
    if expression not in _OF_MESSAGES:
        raise _NotSimple
    return _OF_MESSAGES[expression]


def _with_unique_ids(name: str, id: str) -> _Test:
    def test(messages: Sequence[Any]) -> bool:
        lists = [getattr(each, name) for each in messages]
        return all(
            len({getattr(item, id).lower() for item in items}) == len(items) for items in lists if len(items) > 1
        )

    return test


_OF_TEXTS: Final[Mapping[str, _Test]] = {
    r"!rule || !this.matches(r'(^|[/\x5c])[.][.]?([/\x5c]|$)')": _without(re.compile(r"(^|[/\\])[.][.]?([/\\]|\Z)")),
    r"!rule || !this.matches('[\t\n]')": _without(re.compile(r"[\t\n]")),
    "!rule || (this.isUri() && this.matches('(?i)^https?://[^/?#]'))": _matching(_WEB_ADDRESS),
}
_OF_MESSAGES: Final[Mapping[str, _Test]] = {
    "!this.publish || size(this.publish_allowed_to) == 0": lambda locations: (
        not any(each.publish_allowed_to for each in locations if each.publish)
    ),
    "this.twentyfourseven == (size(this.regular_hours) == 0)": lambda hours: all(
        each.twentyfourseven != bool(each.regular_hours) for each in hours
    ),
}
_UNIQUE_IDS: Final = re.compile(
    r"this\.(?P<list>\w+)\.map\((?P<x>\w), (?P=x)\.(?P<id>\w+)\.lowerAscii\(\)\)\.unique\(\)"
)
