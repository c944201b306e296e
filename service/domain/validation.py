"""The contract's rules, protovalidate's and ours, applied to requests and to merged resources by the same function."""

from typing import Any

import protovalidate
from google.protobuf.message import Message

from service.domain.rules import NO_TIME, broken
from service.errors import FieldViolation, InvalidArgument

_validator = protovalidate.Validator()


def validate(message: Message, *, prefix: str = "", patch: str = "") -> None:
    """Raises InvalidArgument with every violation and the path of each, `prefix` before it.

    `patch` names the resource of an Update request: inside it only our rules are judged here, because fields that an
    update leaves out are no mistake; the merged resource is validated instead (AIP-134).
    """
    if found := violations(message, prefix=prefix, patch=patch):
        raise InvalidArgument(f"{found[0].path or 'request'}: {found[0].description}", violations=found)


def violations(message: Message, *, prefix: str = "", patch: str = "") -> tuple[FieldViolation, ...]:
    """What `validate` raises."""
    ours = tuple(broken(message, prefix))
    if any(each.description == NO_TIME for each in ours):
        return ours  # protovalidate cannot compare such times
    found = [*ours]
    judged = {each.path for each in ours}
    for violation in _validator.collect_violations(message):
        path = (prefix + _path(violation.proto.field)).rstrip(".")
        if path not in judged and not (patch and _inside(violation.proto.field, patch)):
            found.append(FieldViolation(path, _words(violation)))
    return tuple(found)


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
