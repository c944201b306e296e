"""Messages with every field set, made from their descriptors: what is stored must come back, field by field."""

from collections.abc import Iterator, Mapping
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass


def filled(descriptor: Descriptor, values: Mapping[str, Any]) -> Message:
    """Every field set but the output-only ones; two items in a list.

    `values` gives what a rule demands, by full name of the field (`evbridge.v1.Tariff.currency`) or of the message type
    (`google.type.Decimal`).
    """
    if descriptor.full_name in values:
        return values[descriptor.full_name]
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if _is_output_only(field) or values.get(field.full_name, ...) is None:
            continue
        items = [_value(field, values, number) for number in range(2 if field.is_repeated else 1)]
        if field.full_name in values:
            given = values[field.full_name]
            items = given if isinstance(given, list) else [given]
        if field.is_repeated:
            getattr(message, field.name).extend(items)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(items[0])
        else:
            setattr(message, field.name, items[0])
    return message


def _value(field: FieldDescriptor, values: Mapping[str, Any], number: int) -> Any:
    if field.message_type is not None:
        return filled(field.message_type, values)
    if field.enum_type is not None:
        return field.enum_type.values[1 + number].number
    if field.type == FieldDescriptor.TYPE_BOOL:
        return True
    if field.type == FieldDescriptor.TYPE_STRING:
        return f"{field.name[:30]}{number}"
    return 1 + number


def _is_output_only(field: FieldDescriptor) -> bool:
    behaviours = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.OUTPUT_ONLY in behaviours or field.name == "etag"


def unset(message: Message, path: str = "") -> Iterator[str]:
    """The paths of fields that are not set, below every message of ours that is."""
    present = {field.name for field, _ in message.ListFields()}
    for field in message.DESCRIPTOR.fields:
        here = f"{path}.{field.name}" if path else field.name
        if field.name not in present:
            yield here
        elif field.message_type is not None and field.message_type.file.package == "evbridge.v1":
            value = getattr(message, field.name)
            for item in value if field.is_repeated else [value]:
                yield from unset(item, here)
