"""What a partner holds of an object, beside what would be sent now and what was sent last."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from evbridge.v1.delivery_pb2 import FieldDifference
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from service.storage.delivery import Claim, PeerKey


@dataclass(frozen=True, slots=True)
class Compared:
    """Messages of one type, without what only the partner sets; None where there is nothing."""

    ours: Message | None
    sent: Message | None
    remote: Message | None


class Comparer(Protocol):
    """Reads what partners of one type hold."""

    async def compare(self, key: PeerKey) -> Compared:
        """Raises what the channel raises."""
        ...


def reading(key: PeerKey) -> Claim:
    """For what takes a claim and is only to read: it holds no delivery, so nothing can be written with it."""
    return Claim(
        **key._asdict(),
        delivery_id=UUID(int=0),
        generation=0,
        lease_token=0,
        failed_attempts=0,
        verify=False,
        overwrite=False,
        healthy=True,
        lease_s=0.0,
    )


def differences(compared: Compared) -> Iterator[FieldDifference]:
    """The fields in which they are not all the same, by their paths. A list whose items have no ids is one value."""
    ours, sent, remote = (_values(each) for each in (compared.ours, compared.sent, compared.remote))
    for path in sorted({*ours, *sent, *remote}):
        values = (ours.get(path, ""), sent.get(path, ""), remote.get(path, ""))
        if len({*values}) > 1:
            yield FieldDifference(path=path, ours=values[0], sent=values[1], remote=values[2])


def _values(message: Message | None) -> dict[str, str]:
    return dict(_leaves(MessageToDict(message, preserving_proto_field_name=True))) if message else {}


def _leaves(members: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in members.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        elif items := _by_id(value):
            for id, item in items.items():
                yield from _leaves(item, f"{prefix}{name}[{id}].")
        else:
            yield prefix + name, json.dumps(value, ensure_ascii=False)


def _by_id(value: Any) -> dict[str, dict[str, Any]]:
    """The items of a list that have ids, such as EVSEs; none where one has no id, or the same as another one."""
    items = [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
    named = {str(each.get("uid") or each.get("id") or ""): each for each in items}
    return named if "" not in named and len(named) == len(items) and items == value else {}
