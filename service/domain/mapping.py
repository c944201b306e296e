"""What a partner's form of an object cannot carry, found by reading back what was written.

A mapping is two functions, there and back. What does not come back is lost, so a field that a mapping forgets is named
like one that the partner has no place for: there is no list of losses to keep.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Generic, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.type.decimal_pb2 import Decimal as DecimalText

from service.domain.fields import clear_output_only

M = TypeVar("M", bound=Message)

# Strings that are numbers: "50.500000" and "50.50000" are the same place.
_NUMBERS = ("latitude", "longitude")


@dataclass(frozen=True, slots=True)
class Loss:
    """A field that does not arrive. `path` is one of the object that was mapped: `evses[0].connectors[1].id`."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Mapped(Generic[M]):
    """An object in its other form, and what of it is missing there."""

    message: M
    losses: tuple[Loss, ...] = ()


def mapped(
    given: Message, message: M, found: Message, reasons: Mapping[str, str], apart: Collection[str] = ()
) -> Mapped[M]:
    """`message` with what of `given` is not in `found`, which is `message` read back.

    Output-only fields are no loss, nor are the fields named in `apart`: they travel another way. `reasons` are by path
    without indices, or by the beginning of one.
    """
    meant = type(given)()
    meant.CopyFrom(given)
    clear_output_only(meant)
    for name in apart:
        meant.ClearField(name)
    return Mapped(message, tuple(Loss(path, _reason(path, reasons)) for path in missing(meant, found)))


def _reason(path: str, reasons: Mapping[str, str]) -> str:
    names = [name.partition("[")[0] for name in path.split(".")]
    for length in range(len(names), 0, -1):
        if reason := reasons.get(".".join(names[:length])):
            return reason
    return "The partner has no place for it."


def missing(given: Message, found: Message) -> Iterator[str]:
    """The paths of what is set in `given` and is not, or is another value, in `found`.

    An item of a list is missing when the other list holds no equal one; it is compared with the one in its place. A
    list with more items is another value.
    """
    for field, value in given.ListFields():
        held = getattr(found, field.name)
        if field.is_repeated and len(held) > len(value):
            yield field.name
        elif field.message_type and field.message_type.GetOptions().map_entry:
            yield from (f"{field.name}.{key}" for key in value if value[key] != held.get(key))
        elif not field.is_repeated:
            if field.has_presence and not found.HasField(field.name):
                yield field.name
            else:
                yield from _missing(field, field.name, value, held)
        else:
            kept = {_content(item) for item in held}
            for number, item in enumerate(value):
                if _content(item) not in kept:
                    path = f"{field.name}[{number}]"
                    yield from _missing(field, path, item, held[number]) if number < len(held) else (path,)


def _content(item: Any) -> Any:
    """Equal for equal items of a list."""
    return item.SerializeToString(deterministic=True) if isinstance(item, Message) else item


def _missing(field: FieldDescriptor, path: str, value: object, held: object) -> Iterator[str]:
    if (
        isinstance(value, Message)
        and isinstance(held, Message)
        and value.DESCRIPTOR.file.package.startswith("evbridge.")
    ):
        yield from (f"{path}.{inner}" for inner in missing(value, held))
        return
    if isinstance(value, DecimalText) and isinstance(held, DecimalText):
        same = _same_number(value.value, held.value)
    elif field.name in _NUMBERS and isinstance(value, str) and isinstance(held, str):
        same = _same_number(value, held)
    else:
        same = value == held
    if not same:
        yield path


def _same_number(text: str, other: str) -> bool:
    """Compares texts that are no numbers as they are."""
    try:
        return Decimal(text) == Decimal(other)
    except InvalidOperation:
        return text == other
