"""Partial updates (AIP-134, AIP-161): a stored message, a patch and a mask give the merged message."""

from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from service.errors import InvalidArgument

M = TypeVar("M", bound=Message)


def merged(stored: M, patch: M, paths: Sequence[str]) -> M:
    """Returns a new message; both arguments stay as they are.

    No paths: the populated fields of `patch` win, sub-messages merge, lists are replaced whole. `*`: the patch as it
    is. Otherwise exactly the named fields: one that the patch does not set is cleared. Raises InvalidArgument for an
    unknown path, or one that goes through a list or a map.
    """
    result = type(stored)()
    if "*" in paths:
        if len(paths) > 1:
            raise InvalidArgument.field("update_mask", "'*' stands alone")
        result.CopyFrom(patch)
        return result
    result.CopyFrom(stored)
    if not paths:
        _overlay(result, patch)
    for path in paths:
        _replace(result, patch, path)
    return result


def _overlay(target: Message, patch: Message) -> None:
    for field, value in patch.ListFields():
        if _single_message(field):
            _overlay(getattr(target, field.name), value)
            getattr(target, field.name).SetInParent()
        else:
            copy_field(target, patch, field)


def _replace(target: Message, patch: Message, path: str) -> None:
    *parents, leaf = _resolve(patch, path)
    for parent in parents:
        if not patch.HasField(parent.name) and not target.HasField(parent.name):
            return
        target, patch = getattr(target, parent.name), getattr(patch, parent.name)
    copy_field(target, patch, leaf)


def _resolve(message: Message, path: str) -> list[FieldDescriptor]:
    fields: list[FieldDescriptor] = []
    inside = message.DESCRIPTOR.fields_by_name
    for name in path.split("."):
        if name not in inside:
            raise InvalidArgument.field("update_mask", f"{path!r} is not a field, or lies below a list or a value")
        fields.append(inside[name])  # type: ignore[arg-type]
        inside = fields[-1].message_type.fields_by_name if _single_message(fields[-1]) else {}  # type: ignore[union-attr]
    return fields


def _single_message(field: FieldDescriptor) -> bool:
    return field.message_type is not None and not field.is_repeated


def copy_field(target: Message, patch: Message, field: FieldDescriptor) -> None:
    """Makes the field of `target` what it is in `patch`, set or not."""
    target.ClearField(field.name)
    if field.is_repeated:
        getattr(target, field.name).MergeFrom(getattr(patch, field.name))
    elif field.has_presence and not patch.HasField(field.name):
        return
    elif field.message_type is not None:
        getattr(target, field.name).CopyFrom(getattr(patch, field.name))
    else:
        setattr(target, field.name, getattr(patch, field.name))
