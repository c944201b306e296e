"""The simple rules of the contract, compiled from its descriptors: lengths, patterns, presence, numbers of items.

protovalidate takes 17 us for each report on an EVSE, and this one: it judges a field in all messages of a list at once.
It says only that all rules hold. What is wrong, and whether rules hold that are not simple, is protovalidate's to say.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final, NamedTuple

from buf.validate import validate_pb2 as rules
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

_Test = Callable[[list[Any]], bool]
"""Whether a rule holds for all of some values, of which there is one at least."""

_PATTERN: Final = re.compile(
    r"(?:!rule \|\| this\.matches\('(?P<alone>[^'\\]*)\$'\)"
    r"|this\.matches\('(?P<short>[^'\\]*)\$'\) && size\(this\) <= rule \? ''.*)",
    re.DOTALL,
)
"""The expressions of predefined rules that are a pattern, alone or with the most characters."""


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
    tests: tuple[_Test, ...]
    inside: Descriptor | None

    def values(self, messages: Sequence[Message]) -> list[Any] | None:
        """What is there to judge; None when too little or too much is."""
        if self.items is not None:
            lists = [getattr(each, self.name) for each in messages]
            fewest, most = self.items
            if not all(fewest <= len(each) <= most or (self.ignores_zero and not each) for each in lists):
                return None
            return [*chain.from_iterable(lists)]
        there = [each for each in messages if each.HasField(self.name)] if self.presence else messages
        values = [getattr(each, self.name) for each in there]
        if self.required and (len(there) < len(messages) or not (self.presence or all(values))):
            return None
        return [*filter(None, values)] if self.ignores_zero else values


def hold(messages: Sequence[Message]) -> bool:
    """Whether all rules are simple ones, and hold in messages of one type."""
    fields = _fields(messages[0].DESCRIPTOR)
    return fields is not None and _hold(fields, messages)


def _hold(fields: tuple[_Field, ...], messages: Sequence[Message]) -> bool:
    for field in fields:
        values = field.values(messages)
        if values is None:
            return False
        if values:
            for test in field.tests:
                if not test(values):
                    return False
            if field.inside is not None and not _hold(_fields(field.inside) or (), values):
                return False
    return True


@cache
def _fields(descriptor: Descriptor) -> tuple[_Field, ...] | None:
    """Those with rules; None when a rule in it, however deep, is not simple."""
    return _own_fields(descriptor) if all(_own_fields(each) is not None for each in _within(descriptor, {})) else None


def _within(descriptor: Descriptor, seen: dict[Descriptor, None]) -> dict[Descriptor, None]:
    if descriptor not in seen:
        seen[descriptor] = None
        for field in _own_fields(descriptor) or ():
            if field.inside is not None:
                _within(field.inside, seen)
    return seen


@cache
def _own_fields(descriptor: Descriptor) -> tuple[_Field, ...] | None:
    judged_at_once = descriptor.GetOptions().HasExtension(rules.message)
    if judged_at_once or any(each.GetOptions().HasExtension(rules.oneof) for each in descriptor.oneofs):
        return None
    try:
        fields = [_field(each) for each in descriptor.fields]
    except _NotSimple:
        return None
    return tuple(each for each in fields if each.required or each.items or each.tests or each.inside)


def _field(field: FieldDescriptor) -> _Field:
    rule = field.GetOptions().Extensions[rules.field]
    always = rule.ignore == rules.IGNORE_ALWAYS
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        if not always and (rule.ListFields() or message.fields_by_name["value"].message_type is not None):
            raise _NotSimple
        return _Field(field.name, False, False, False, None, (), None)
    if always:
        return _Field(field.name, False, False, False, None, (), None)
    inside, items = message, None
    value = rule
    if field.is_repeated:
        of_list = {each.name for each, _ in rule.ListFields()} - {"required", "ignore", "repeated"}
        if of_list or {each.name for each, _ in rule.repeated.ListFields()} - {"min_items", "max_items", "items"}:
            raise _NotSimple
        least = max(rule.repeated.min_items, int(rule.required))
        items = (least, rule.repeated.max_items or 1 << 62)
        value = rule.repeated.items
        if value.required or value.ignore not in (rules.IGNORE_UNSPECIFIED, rules.IGNORE_ALWAYS):
            raise _NotSimple
        if value.ignore == rules.IGNORE_ALWAYS:
            value, inside = rules.FieldRules(), None
    tests = tuple(_tests(value, field.enum_type, repeated=field.is_repeated))
    zero = rule.ignore == rules.IGNORE_IF_ZERO_VALUE
    return _Field(field.name, field.has_presence, rule.required and not items, zero, items, tests, inside)


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
                if [each.name for each, _ in value.ListFields()] != ["gte"]:
                    raise _NotSimple
                yield _at_least(value.gte)
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


def _at_least(least: int) -> _Test:
    return lambda numbers: min(numbers) >= least


def _long(least: int) -> _Test:
    return lambda texts: min(map(len, texts)) >= least


def _short(most: int) -> _Test:
    return lambda texts: max(map(len, texts)) <= most


def _matching(pattern: re.Pattern[str]) -> _Test:
    return lambda texts: all(map(pattern.search, texts))
