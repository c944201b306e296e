"""Requests that follow a contract's rules (protovalidate), made from their descriptors.

Every field that travels is set but the output-only ones; a rule that nothing here fits is an error of the test.
"""

from typing import Any

from buf.validate import validate_pb2
from evbridge.options.v1 import options_pb2 as options
from google.api import field_behavior_pb2 as behavior
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from service.domain.validation import violations

_TEXTS = ("DE", "08:30:00", "42")
_NUMBERS = (7, 1, 0)
_WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.type.Decimal": {"value": "12.50"},
    "google.protobuf.Struct": {"fields": {"en": {"string_value": "DE"}}},
}


def valid(descriptor: Descriptor, choice: int = 0) -> Message:
    """One valid message; of a oneof the member `choice`, or the last there is."""
    if descriptor.full_name in _WELL_KNOWN:
        return GetMessageClass(descriptor)(**_WELL_KNOWN[descriptor.full_name])
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        around = field.containing_oneof
        if not travels(field) or (around and field is not around.fields[min(choice, len(around.fields) - 1)]):
            continue
        target = getattr(message, field.name)
        if field.is_repeated and field.message_type and field.message_type.GetOptions().map_entry:
            target["en"] = _value(field.message_type.fields_by_name["value"], choice)
        elif field.is_repeated:
            target.append(_value(field, choice))
        elif field.message_type:
            target.CopyFrom(_value(field, choice))
        else:
            setattr(message, field.name, _value(field, choice))
    return message


def travels(field: FieldDescriptor) -> bool:
    """Whether a caller writes the field for the partner."""
    marks = field.GetOptions().Extensions
    return not (
        marks[options.sink]
        or marks[options.integration_id]
        or behavior.OUTPUT_ONLY in marks[behavior.field_behavior]
        or (field.message_type and field.message_type.full_name == "google.protobuf.FieldMask")
    )


def _value(field: FieldDescriptor, choice: int) -> Any:
    if field.message_type:
        return valid(field.message_type, choice)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return True
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return 1.5
    rules = field.GetOptions().Extensions[validate_pb2.field]
    rules = rules.repeated.items if field.is_repeated else rules
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        known = [rules.string.const] if rules.string.const else getattr(rules.string, "in")
        return next(text for text in (*known, *_TEXTS) if _fits(field, text))
    known = getattr(rules.int64, "in")
    least, most = rules.int64.gte, rules.int64.lte if rules.int64.HasField("lte") else 2**63
    return next(number for number in (*known, *_NUMBERS) if least <= number <= most)


def _fits(field: FieldDescriptor, text: str) -> bool:
    message = GetMessageClass(field.containing_type)(**{field.name: [text] if field.is_repeated else text})
    return not any(each.path.startswith(field.name) for each in violations(message))
