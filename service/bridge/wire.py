"""What a contract's options say about a field: its names on the wire, whether it travels, what it stands for. Pure."""

from collections.abc import Container, Iterator, Sequence
from typing import Any

from evbridge.options.v1 import options_pb2 as options
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor


def wire_name(field: FieldDescriptor, field_names: bool) -> str:
    """What a field is called on the wire. A json_name that is not the implied one wins over the partner's switch."""
    first, *rest = field.name.split("_")
    implied = first + "".join(part[:1].upper() + part[1:] for part in rest)
    return field.name if field_names and field.json_name == implied else field.json_name


def marked(field: FieldDescriptor, option: Any) -> bool:
    """Whether a bool option of options.proto is true for the field."""
    return bool(field.GetOptions().Extensions[option])


def also_named(field: FieldDescriptor) -> Sequence[str]:
    """The other names of the field on the wire, which are read and not written."""
    names: Sequence[str] = field.GetOptions().Extensions[options.also_named]
    return names


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def is_mask(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.FieldMask"


def inlined(oneof: OneofDescriptor | None) -> bool:
    """Whether the fields of the oneof's messages stand in the object around them."""
    return oneof is not None and bool(oneof.GetOptions().Extensions[options.inlined])


def travels(field: FieldDescriptor, without: Container[str] = ()) -> bool:
    """Whether the field is a member of the body."""
    apart = any(marked(field, option) for option in (options.sink, options.integration_id, options.address))
    return not (apart or is_mask(field) or field.name in without)


def personal_names(descriptor: Descriptor, field_names: bool) -> frozenset[str]:
    """What personal data is called on the wire, in the message and in messages of ours below it."""
    names, seen, waiting = set(), {descriptor.full_name}, [descriptor]
    while waiting:
        for field in waiting.pop().fields:
            if marked(field, options.personal_data):
                names |= {wire_name(field, field_names), *also_named(field)}
            below = field.message_type
            if below and not below.full_name.startswith("google.") and below.full_name not in seen:
                seen.add(below.full_name)
                waiting.append(below)
    return frozenset(names)


def fields_on_the_wire(descriptor: Descriptor, field_names: bool) -> Iterator[tuple[str, tuple[FieldDescriptor, ...]]]:
    """(wire name, the way to the field): one step, or two through a member of an inlined oneof."""
    for field in descriptor.fields:
        if inlined(field.containing_oneof) and field.message_type:
            for name, below in fields_on_the_wire(field.message_type, field_names):
                yield name, (field, *below)
        elif travels(field):
            yield wire_name(field, field_names), (field,)
