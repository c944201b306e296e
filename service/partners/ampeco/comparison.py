"""What AMPECO holds of a tariff or a location: each of its parts, read by the id that AMPECO gave it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from evbridge.partner.ampeco.v3.evse_pb2 import Evse
from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CHARGER,
    OBJECT_KIND_CONNECTOR,
    OBJECT_KIND_EVSE,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_TARIFF,
)
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from service.bridge.channel import PartnerChannel
from service.delivery.comparison import Compared, reading
from service.delivery.parts import Rehearsal
from service.delivery.views import view_now
from service.domain.partner_error import PartnerNotFound
from service.partners.ampeco.calls import Ampeco, PartCalls
from service.partners.ampeco.delivery import GROUP, AmpecoDeliverer
from service.storage.clock import Clock
from service.storage.delivery import PeerKey
from service.storage.peer import PartKey
from service.storage.pool import Database

_NAMES: Final = {OBJECT_KIND_CHARGER: "charge_points", OBJECT_KIND_EVSE: "evses", OBJECT_KIND_CONNECTOR: "connectors"}


class AmpecoComparer:
    """All parts of an object in one Struct: a location's EVSEs stand in it as `evses`, by our uids.

    Of AMPECO's copy only what we set, or once set, is compared.
    """

    def __init__(self, database: Database, channel: PartnerChannel) -> None:
        self._database = database
        self._channel = channel

    async def compare(self, key: PeerKey) -> Compared:
        """Raises what a mapping and the channel raise."""
        claim = reading(key)
        parts = await Rehearsal.of(self._database, claim)
        look = await view_now(self._database, claim, Clock())
        await AmpecoDeliverer(self._database, self._channel).attempt(claim, parts, look.shown if look.seen else None)
        calls = dict(_calls(Ampeco(self._channel, claim), parts))
        sent = {
            part: each.form.FromString(document)
            for part, each in calls.items()
            if (document := parts.held[part].sent_document)
        }
        reads = {part: each for part, each in calls.items() if parts.held[part].external_id}
        read = await asyncio.gather(*(_read(each, parts.held[part].external_id) for part, each in reads.items()))
        held = {part: found for part, found in zip(reads, read, strict=True) if found is not None}
        for part, found in held.items():
            _keep(found, [each[part] for each in (parts.wanted, sent) if part in each])
        return Compared(_whole(parts.wanted), _whole(sent), _whole(held))


def _calls(ampeco: Ampeco, parts: Rehearsal) -> Iterator[tuple[PartKey, PartCalls[Any]]]:
    """How each part is read that AMPECO may hold."""
    plain: dict[PartKey, Callable[[], PartCalls[Any]]] = {
        PartKey(OBJECT_KIND_TARIFF): ampeco.tariffs,
        GROUP: ampeco.tariff_groups,
        PartKey(OBJECT_KIND_LOCATION): ampeco.locations,
    }
    by_kind: dict[int, Callable[[], PartCalls[Any]]] = {
        OBJECT_KIND_CHARGER: ampeco.charge_points,
        OBJECT_KIND_EVSE: ampeco.evses,
    }
    for part in parts.held:
        if part in plain:
            yield part, plain[part]()
        elif part.kind in by_kind:
            yield part, by_kind[part.kind]()
        elif part.kind == OBJECT_KIND_CONNECTOR:
            evse = parts.held[PartKey(OBJECT_KIND_EVSE, part.ids[:1])]
            charge_point_id = Evse.FromString(evse.sent_document or b"").charge_point_id
            yield part, ampeco.connectors(charge_point_id, int(evse.external_id or 0), ())


async def _read(calls: PartCalls[Any], external_id: str) -> Message | None:
    try:
        found: Message = await calls.read(external_id)
        return found
    except PartnerNotFound:
        return None


def _keep(found: Any, set_by_us: list[Any]) -> None:
    """Clears what none of these sets."""
    for field, value in found.ListFields():
        ours = [each for each in set_by_us if field.name in {listed.name for listed, _ in each.ListFields()}]
        if not ours:
            found.ClearField(field.name)
        elif field.message_type and not field.is_repeated and field.message_type.file.package.startswith("evbridge."):
            _keep(value, [getattr(each, field.name) for each in ours])


def _whole(parts: Mapping[PartKey, Message]) -> Struct | None:
    """None without a part."""
    whole: dict[str, Any] = {}
    for part, message in parts.items():
        written = MessageToDict(message, preserving_proto_field_name=True)
        if part == GROUP:
            whole["tariff_group"] = written
        elif name := _NAMES.get(part.kind):
            whole.setdefault(name, {})["/".join(part.ids)] = written
        else:
            whole |= written
    if not whole:
        return None
    made = Struct()
    made.update(whole)
    return made
