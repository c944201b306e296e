"""Any message of a type, for Hypothesis; and what is set in it."""

from collections.abc import Container, Iterator, Mapping
from decimal import Decimal
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from service.domain.mapping import Loss

TEXT = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), min_size=1, max_size=8)
DECIMAL = st.decimals(0, 999, places=2, allow_nan=False).map(str)
DEGREES = st.decimals(-89, 89, places=7).map(lambda number: f"{number:f}")
WELL_KNOWN: dict[str, st.SearchStrategy[Any]] = {
    "google.type.Decimal": st.fixed_dictionaries({"value": DECIMAL}),
    "google.protobuf.Timestamp": st.fixed_dictionaries({"seconds": st.integers(0, 2**31)}),
    "google.protobuf.Struct": st.fixed_dictionaries({"fields": st.just({"new": {"bool_value": True}})}),
    "google.protobuf.Value": st.just({"number_value": 1.5}),
}


def filled(
    type: type[Message], special: Mapping[str, st.SearchStrategy[Any]] = {}, always: Container[str] = ()
) -> st.SearchStrategy[Any]:
    """Messages of the type with any of their fields set; `special` gives the values of fields by name.

    With `always`, fields of those names and REQUIRED ones are set.
    """
    return _values(type.DESCRIPTOR, special, always).map(lambda values: type(**values))


def _values(
    descriptor: Any, special: Mapping[str, st.SearchStrategy[Any]], always: Container[str]
) -> st.SearchStrategy[dict[str, Any]]:
    if descriptor.full_name in WELL_KNOWN:
        return WELL_KNOWN[descriptor.full_name]
    values = {field.name: _value(field, special, always) for field in descriptor.fields}
    there = {field.name for field in descriptor.fields if always and (field.name in always or is_required(field))}
    return st.fixed_dictionaries(
        {name: value for name, value in values.items() if name in there},
        optional={name: value for name, value in values.items() if name not in there},
    )


def is_required(field: FieldDescriptor) -> bool:
    behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviors


def _value(
    field: FieldDescriptor, special: Mapping[str, st.SearchStrategy[Any]], always: Container[str]
) -> st.SearchStrategy[Any]:
    for name in (field.full_name, field.name):
        if name in special:
            return special[name]
    if field.message_type and field.message_type.GetOptions().map_entry:
        return st.dictionaries(st.sampled_from(["en", "de", "no"]), TEXT, min_size=1)
    if field.message_type:
        one = _values(field.message_type, special, always)
    elif field.enum_type:
        one = st.sampled_from([value.number for value in field.enum_type.values if value.number])
    else:
        one = {
            FieldDescriptor.CPPTYPE_STRING: TEXT,
            FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
            FieldDescriptor.CPPTYPE_DOUBLE: st.floats(-80, 80).map(lambda number: number + 0.0),  # no -0
        }.get(field.cpp_type, st.integers(1, 9999))
    return st.lists(one, min_size=1, max_size=3) if field.is_repeated else one


def leaves(message: Message, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of all that is set; a message without a field says nothing."""
    for field, value in message.ListFields():
        items = [(f"{path}{field.name}", value)]
        if field.message_type and field.message_type.GetOptions().map_entry:
            items = [(f"{path}{field.name}.{key}", value[key]) for key in value]
        elif field.is_repeated:
            items = [(f"{path}{field.name}[{number}]", item) for number, item in enumerate(value)]
        for at, item in items:
            if isinstance(item, Message) and item.DESCRIPTOR.full_name not in WELL_KNOWN:
                yield from leaves(item, at + ".")
            elif field.name in ("latitude", "longitude") or getattr(field.message_type, "name", "") == "Decimal":
                yield at, Decimal(str(getattr(item, "value", item)))
            else:
                yield at, str(item)


def silently_lost(given: Message, back: Message, losses: tuple[Loss, ...]) -> list[str]:
    """What of `given` is neither in `back`, at any place of a list, nor named."""
    named = tuple(loss.path for loss in losses)
    held = {(plain(path), value) for path, value in leaves(back)}
    return [
        path
        for path, value in leaves(given)
        if (plain(path), value) not in held
        and not any(path == loss or path.startswith((loss + ".", loss + "[")) for loss in named)
    ]


def plain(path: str) -> str:
    """The path without indices."""
    return ".".join(name.partition("[")[0] for name in path.split("."))
