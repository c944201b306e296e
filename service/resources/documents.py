"""Documents of partners as messages of ours: what breaks the contract is repaired or left out, and said."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from evbridge.v1.location_pb2 import EVSE_STATUS_UNKNOWN, Evse, Location
from evbridge.v1.tariff_pb2 import Tariff

from service.bridge.json_text import CodecError
from service.domain.keys import ObjectKey, PartyKey
from service.domain.received import Document, cleared
from service.domain.repair import repaired
from service.errors import FieldViolation, InvalidArgument

M = TypeVar("M", Location, Evse, Tariff)

Notices = tuple[FieldViolation, ...]
"""What was repaired or left out: paths of ours, or of the document."""


class Notice(Protocol):
    """What could not be read of a document: a JSON pointer, and why."""

    @property
    def pointer(self) -> str: ...

    @property
    def problem(self) -> str: ...


class Read(Protocol):
    """A document as it was read."""

    @property
    def message(self) -> Any: ...

    @property
    def notices(self) -> Sequence[Notice]: ...


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: `parties` are registered, through the integration, with the role that owns such objects.

    Their documents are of OCPI `version`. `read` makes a Location, Evse or Tariff of one: what is not known in it costs
    itself alone, what can change a price stands in the tariff's `not_understood`. It may raise CodecError.
    """

    integration_id: str
    parties: frozenset[PartyKey]
    version: str
    read: Callable[[type[Any], Document], Read]


def location_of(sender: Sender, key: ObjectKey, document: Document) -> tuple[Location, Notices]:
    """A location without its EVSEs. Raises InvalidArgument when it cannot be repaired."""
    own = {name: value for name, value in document.items() if name != "evses"}
    location, unread = _read(sender, Location, own)
    location.ClearField("etag")
    fit, repairs = repaired(_named(sender, key, location))
    return fit, unread + repairs


def evse_of(sender: Sender, document: Any) -> tuple[Evse, Notices]:
    """An EVSE; a status that we do not know is UNKNOWN. Raises InvalidArgument when it cannot be repaired."""
    if not isinstance(document, dict):
        raise InvalidArgument.field("uid", "is required")
    evse, unread = _read(sender, Evse, document)
    if not evse.status and document.get("status"):
        evse.status = EVSE_STATUS_UNKNOWN
    fit, repairs = repaired(evse)
    return fit, unread + repairs


def tariff_of(sender: Sender, key: ObjectKey, document: Document) -> tuple[Tariff, Notices]:
    """A tariff. Raises InvalidArgument when it cannot be repaired: what is left out could change a price."""
    tariff, unread = _read(sender, Tariff, document)
    tariff.ClearField("etag")
    fit, repairs = repaired(_named(sender, key, tariff))
    return fit, unread + repairs


def _read(sender: Sender, type: type[M], document: Document) -> tuple[M, Notices]:
    """Without what only we set. Raises InvalidArgument for what cannot be read, and for a time that is none."""
    try:
        read = sender.read(type, document)
    except CodecError as error:
        raise InvalidArgument.field(_path(error.pointer), error.problem) from None
    message: M = read.message
    cleared(message)
    if document.get("last_updated") and not message.HasField("last_updated"):
        raise InvalidArgument.field("last_updated", "must be a time, such as 2030-06-03T19:30:00Z")
    return message, tuple(FieldViolation(_path(each.pointer), each.problem) for each in read.notices)


def _path(pointer: str) -> str:
    steps = pointer.split("/")[1:]
    return "".join(f"[{step}]" if step.isdecimal() else f".{step}" for step in steps).removeprefix(".")


L = TypeVar("L", Location, Tariff)


def _named(sender: Sender, key: ObjectKey, message: L) -> L:
    message.country_code, message.party_id = key.party
    message.id = message.id or getattr(key.key, "written", key.key)
    if message.id.casefold() != key.key:
        raise InvalidArgument.field("id", f"is not that of {key.shown}, to which it was sent")
    message.integration_id = sender.integration_id
    return message
