"""The contract's rules, protovalidate's and ours, applied to requests and to merged resources by the same function."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import protovalidate
from google.protobuf.message import Message

from service.domain import simple_rules
from service.domain.rules import are_sound, broken
from service.errors import FieldViolation, InvalidArgument

_validator = protovalidate.Validator()
MAX_VIOLATIONS = 20


def validate(message: Message, *, prefix: str = "", patch: str = "") -> None:
    """Raises InvalidArgument with the violations, at most MAX_VIOLATIONS, and the path of each, `prefix` before it.

    `patch` names the resource of an Update request: inside it only our rules are judged here, because fields that an
    update leaves out are no mistake; the merged resource is validated instead (AIP-134).
    """
    found = ours = tuple(islice(broken(message, prefix), MAX_VIOLATIONS))
    if len(ours) < MAX_VIOLATIONS:
        if not patch and not ours and simple_rules.are_all(message.DESCRIPTOR) and simple_rules.hold([message]):
            return
        if not patch and not (found := _and_theirs(ours, message, prefix, fail_fast=True)):
            return
        # A violation costs ten times as much as a rule that holds, and a list may have several for each of its items.
        found = tuple(dict.fromkeys(found + _and_theirs(ours, _beginning(message), prefix, patch=patch)))
    if found:
        raise InvalidArgument.of(found[:MAX_VIOLATIONS])


def are_valid(messages: Sequence[Message]) -> bool:
    """Whether messages of one type, some at least, break no rule: False says nothing.

    Several are judged in a third of the time that each by itself takes.
    """
    return simple_rules.hold(messages) and are_sound(messages)


def violations(message: Message, *, prefix: str = "", patch: str = "") -> tuple[FieldViolation, ...]:
    """Every violation, however many."""
    return _and_theirs(tuple(broken(message, prefix)), message, prefix, patch=patch)


def _and_theirs(
    ours: tuple[FieldViolation, ...], message: Message, prefix: str, *, patch: str = "", fail_fast: bool = False
) -> tuple[FieldViolation, ...]:
    """Violations of our rules, and those of protovalidate's where ours have nothing to say."""
    if any(each.no_time for each in ours):
        return ours  # protovalidate cannot compare such times
    found = [*ours]
    judged = {each.path for each in ours}
    for violation in _validator.collect_violations(message, fail_fast=fail_fast):
        path = (prefix + _path(violation.proto.field)).rstrip(".")
        if path not in judged and not (patch and _inside(violation.proto.field, patch)):
            found.append(FieldViolation(path, _words(violation)))
    return tuple(found)


def _beginning(message: Message) -> Message:
    """A copy with the first items of each list."""
    copied = type(message)()
    copied.CopyFrom(message)
    _shorten(copied)
    return copied


def _shorten(message: Message) -> None:
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if field.is_repeated:
            del value[MAX_VIOLATIONS:]
        if field.message_type is not None:
            for each in value if field.is_repeated else (value,):
                _shorten(each)


def _words(violation: protovalidate.Violation) -> str:
    """What is wrong, for people: a field that is missing is required, whatever rule noticed it."""
    rule, words = violation.proto.rule_id, violation.proto.message
    if rule == "required" or (rule == "enum.not_in" and violation.field_value == 0):
        return "is required"
    if rule == "enum.not_in":
        return "must be another value of the enum: this one cannot be set"
    if rule == "enum.defined_only":
        return "must be one of the values of the enum"
    if rule in ("string.min_len", "repeated.min_items") and not violation.field_value:
        return "is required"
    if violation.proto.field is not None and violation.field_value == "":
        return f"is required: it {words}"
    return words


def _inside(path: Any, field: str) -> bool:
    return path is not None and len(path.elements) > 1 and path.elements[0].field_name == field


def _path(field: Any) -> str:
    """As it is written in the request: `company.supported_emp_ids[3]`. Empty for a rule of the whole message."""
    path = ""
    for element in field.elements if field is not None else ():
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript is not None:
            path += f"[{element.subscript.value!r}]"
    return path
