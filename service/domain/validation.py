"""The contract's rules (protovalidate), applied to requests and to merged resources by the same function."""

from typing import Any

import protovalidate
from google.protobuf.message import Message

from service.errors import FieldViolation, InvalidArgument

_validator = protovalidate.Validator()


def validate(message: Message, *, prefix: str = "", patch: str = "") -> None:
    """Raises InvalidArgument with every violation and the path of each, `prefix` before it.

    `patch` names the resource of an Update request: what is inside it is not judged here, because fields that an update
    leaves out are no mistake; the merged resource is validated instead (AIP-134).
    """
    if found := violations(message, prefix=prefix, patch=patch):
        raise InvalidArgument(f"{found[0].path or 'request'}: {found[0].description}", violations=found)


def violations(message: Message, *, prefix: str = "", patch: str = "") -> tuple[FieldViolation, ...]:
    """What `validate` raises."""
    return tuple(
        FieldViolation((prefix + _path(violation.proto.field)).rstrip("."), violation.proto.message)
        for violation in _validator.collect_violations(message)
        if not (patch and _inside(violation.proto.field, patch))
    )


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
