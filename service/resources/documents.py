"""Documents of partners as messages of ours: what breaks the contract is repaired or left out, and said.

A document may be a whole location, an EVSE or a connector of one, or a patch of these.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from itertools import chain, compress, islice
from typing import Any, NamedTuple, Protocol, TypeVar

from evbridge.v1.cdr_pb2 import CDR_AUDIT_STATE_PENDING, Cdr
from evbridge.v1.hub_client_pb2 import HubClient
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.location_pb2 import EVSE_STATUS_UNKNOWN, Evse, Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token

from service.bridge.json_text import CodecError, parse_json, size_of, text_of
from service.domain.charged import token_party
from service.domain.keys import ObjectKey, PartyKey
from service.domain.received import Document, cleared, is_older, item, item_id, merged, with_item
from service.domain.repair import repaired, repaired_each
from service.domain.token import token_id
from service.errors import FieldViolation, InvalidArgument, ResourceNotFound
from service.storage.received import Stored

M = TypeVar("M", Location, Evse, Tariff, Token, Session, Cdr, HubClient, InvoiceReconciliationRecord)
C = TypeVar("C", Session, Cdr)

K = TypeVar("K")
R = TypeVar("R")

MAX_EVSES = 1000
_MANY = 1000
"""Values that are read in a few milliseconds."""
_LARGE = 1 << 16
"""Bytes that are."""

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


class Place(NamedTuple):
    """Where in a location a document belongs: the location itself, an EVSE, or a connector of it."""

    evse_uid: str = ""
    connector_id: str = ""

    def shown(self, key: ObjectKey) -> str:
        return "/".join(filter(None, (key.shown, *self)))


WHOLE = Place()


class Held(NamedTuple):
    """A location as it is stored, and the documents of its parts: "" is its own, the others are its EVSEs'."""

    location: Location | None
    documents: Mapping[str, Stored]

    def evses(self) -> dict[str, Evse]:
        """By folded uid."""
        return {evse.uid.casefold(): evse for evse in self.location.evses} if self.location else {}

    def document(self, sender: Sender, part: str, noun: str, id: str) -> Document:
        """What a patch is merged into. Raises ResourceNotFound, also for a document of another version of OCPI."""
        stored = self.documents.get(part)
        if stored is None or stored.version != sender.version:
            raise ResourceNotFound.of(noun, id)
        document: Document = parse_json(stored.document)
        return document

    def texts(self, *parts: str) -> list[str]:
        """The documents of those of the parts that there are."""
        return [self.documents[part].document for part in parts if part in self.documents]

    def equals(self, sender: Sender, parts: Mapping[str, Document]) -> bool:
        """Whether these are the very documents."""
        return parts.keys() == self.documents.keys() and all(
            (stored.version, stored.document) == (sender.version, text_of(parts[part]))
            for part, stored in self.documents.items()
        )


class Sent(NamedTuple):
    """A location as it was read: each part with its document. `named`: its EVSEs, when the document lists them all."""

    key: ObjectKey
    own: tuple[Document, Location] | None
    evses: Mapping[str, tuple[Document, Evse]]
    named: Sequence[str] | None
    notices: Notices

    @property
    def documents(self) -> list[Document]:
        own = [self.own[0]] if self.own else []
        return [*own, *(document for document, _ in self.evses.values())]


class Older(Exception):
    """What was sent is older than what is held."""


async def by_size(work: Callable[[], R], *documents: Any) -> R:
    """What `work` makes of documents, parsed or as texts: in a thread when they hold so much that it takes long."""
    return await asyncio.to_thread(work) if _are_large(documents) else work()


async def by_groups(
    work: Callable[[Sequence[tuple[K, Document]]], Sequence[R]], documents: Iterable[tuple[K, Document]]
) -> list[R]:
    """What `work` makes of documents, a few at a time: in a thread where one alone takes long."""
    made: list[R] = []
    for group, large in _groups(documents):
        await asyncio.sleep(0)
        made += await asyncio.to_thread(work, group) if large else work(group)
    return made


def _groups(documents: Iterable[tuple[K, Document]]) -> Iterator[tuple[list[tuple[K, Document]], bool]]:
    """Those that are not large together, and each that is so alone."""
    group: list[tuple[K, Document]] = []
    total = 0.0
    for each in documents:
        share = _share(each[1])
        if group and total + share >= 1:
            yield group, total >= 1
            group, total = [], 0.0
        group.append(each)
        total += share
    if group:
        yield group, total >= 1


def _are_large(documents: Any) -> bool:
    return _share(documents) >= 1


def _share(documents: Any) -> float:
    """How much of what is read in a few milliseconds."""
    try:
        size, values = size_of(documents)
    except (ValueError, RecursionError):
        return 1
    return max(values / _MANY, size / _LARGE)


def parts_of(document: Document) -> dict[str, Document]:
    """A location's documents: its own, with the order of its EVSEs in their place, and those of the EVSEs."""
    listed = document.get("evses")
    if not isinstance(listed, list):
        return {"": document}
    evses = {item_id(each, "evses"): each for each in listed}
    return {"": document | {"evses": [*evses]}} | {uid: each for uid, each in evses.items() if uid}


def whole_of(parts: Mapping[str, Document]) -> Document:
    """The document that `parts_of` took apart, with the EVSEs that came since after the others."""
    own = parts[""]
    listed = own.get("evses")
    order = {uid: number for number, uid in enumerate(listed if isinstance(listed, list) else ())}
    evses = sorted((uid for uid in parts if uid), key=lambda uid: (order.get(uid, len(order)), uid))
    return own | {"evses": [parts[uid] for uid in evses]} if evses or "evses" in own else own


def wholes_sent(sender: Sender, documents: Sequence[tuple[ObjectKey, Document]]) -> list[Sent | InvalidArgument]:
    """Locations that were sent whole, or why one cannot be taken.

    An EVSE that cannot be repaired is left out, which does not remove it.
    """
    locations = _each_repaired(partial(_location_read, sender, key, document) for key, document in documents)
    taken = [not isinstance(location, InvalidArgument) for location in locations]
    listed = [_evses(document) for _, document in compress(documents, taken)]
    evses = iter(_each_repaired(partial(_evse_read, sender, each) for each in chain(*listed)))
    return [
        location
        if isinstance(location, InvalidArgument)
        else _whole(key, document, *location, [*islice(evses, len(_evses(document)))])
        for (key, document), location in zip(documents, locations, strict=True)
    ]


def _whole(
    key: ObjectKey,
    document: Document,
    message: Location,
    notices: Notices,
    read: Sequence[tuple[Evse, Notices] | InvalidArgument],
) -> Sent:
    own = parts_of(document)[""]
    evses: dict[str, tuple[Document, Evse]] = {}
    for number, (each, made) in enumerate(zip(_evses(document), read, strict=True)):
        if isinstance(made, InvalidArgument):
            left_out = "the EVSE is left out"
            found = tuple(FieldViolation(why.path, f"{why.description}: {left_out}") for why in made.violations)
        else:
            evse, found = made
            evses[evse.uid.casefold()] = each, evse
        notices += tuple(FieldViolation(f"evses[{number}].{why.path}", why.description) for why in found)
    return Sent(key, (own, message), evses, own["evses"] if isinstance(document.get("evses"), list) else None, notices)


def _each_repaired(reads: Iterable[Callable[[], tuple[M, Notices]]]) -> list[tuple[M, Notices] | InvalidArgument]:
    """What can be read, repaired; or why it cannot be."""
    read = [_attempt(each) for each in reads]
    fit = iter(repaired_each([each[0] for each in read if not isinstance(each, InvalidArgument)]))
    return [each if isinstance(each, InvalidArgument) else _with_repairs(each[1], next(fit)) for each in read]


def _attempt(read: Callable[[], R]) -> R | InvalidArgument:
    try:
        return read()
    except InvalidArgument as error:
        return error


def _with_repairs(unread: Notices, fit: tuple[M, Notices] | InvalidArgument) -> tuple[M, Notices] | InvalidArgument:
    return fit if isinstance(fit, InvalidArgument) else (fit[0], unread + fit[1])


def part_sent(sender: Sender, key: ObjectKey, held: Held, document: Document, place: Place, *, patch: bool) -> Sent:
    """What a patch, an EVSE or a connector makes of the location that is held.

    Raises ResourceNotFound for what is not held, InvalidArgument, and Older.
    """
    if held.location is None:
        raise ResourceNotFound.of("location", key.shown)
    _check_count(document)
    if place.evse_uid:
        name, id = ("id", place.connector_id) if place.connector_id else ("uid", place.evse_uid)
        document = {name: id} | document
        if not isinstance(document[name], str) or document[name].casefold() != id.casefold():
            raise InvalidArgument.field(name, f"is not {id}, to which it was sent")
        read = _connector_sent if place.connector_id else _evse_sent
        return read(sender, key, held, document, place, patch)
    own = merged(held.document(sender, "", "location", key.shown), _without_evses(document))
    message, notices = location_of(sender, key, own)
    evses: dict[str, tuple[Document, Evse]] = {}
    for uid, each in parts_of(document).items():
        if uid:
            known = held.document(sender, uid, "evse", f"{key.shown}/{uid}") if uid in held.documents else {}
            whole = merged(known, each)
            evse, more = evse_of(sender, whole)
            evses[uid], notices = (whole, evse), notices + more
    return Sent(key, (own, message), evses, None, notices)


def _evse_sent(sender: Sender, key: ObjectKey, held: Held, document: Document, place: Place, patch: bool) -> Sent:
    uid, whole = place.evse_uid.casefold(), document
    if patch:
        whole = merged(held.document(sender, uid, "evse", place.shown(key)), document)
    evse, notices = evse_of(sender, whole)
    if patch and evse.last_updated.ToDatetime(tzinfo=UTC) < held.documents[uid].last_updated:
        raise Older
    return Sent(key, None, {uid: (whole, evse)}, None, notices)


def _connector_sent(sender: Sender, key: ObjectKey, held: Held, document: Document, place: Place, patch: bool) -> Sent:
    uid, id = place.evse_uid.casefold(), place.connector_id.casefold()
    kept = held.document(sender, uid, "evse", Place(place.evse_uid).shown(key))
    connectors = kept.get("connectors")
    connectors = connectors if isinstance(connectors, list) else []
    if patch and item(connectors, "connectors", id) is None:
        raise ResourceNotFound.of("connector", place.shown(key))
    whole = kept | {"connectors": with_item(connectors, document, "connectors", patch=patch)}
    evse, notices = evse_of(sender, whole)
    times = {each.id.casefold(): each.last_updated for each in evse.connectors if each.HasField("last_updated")}
    stored = {each.id.casefold(): each.last_updated for each in held.evses().get(uid, Evse()).connectors}
    if id in times and document.get("last_updated"):
        if id in stored and is_older(times[id], stored[id]):
            raise Older
        if is_older(evse.last_updated, times[id]):
            whole["last_updated"] = document["last_updated"]
    return Sent(key, None, {uid: (whole, evse)}, None, notices)


def _check_count(document: Document) -> None:
    """Raises InvalidArgument for more EVSEs than a location may have, before any is read."""
    if len(_evses(document)) > MAX_EVSES:
        raise too_many_evses()


def too_many_evses() -> InvalidArgument:
    return InvalidArgument.field("evses", f"are more than {MAX_EVSES}, those that are REMOVED counted")


def _evses(document: Document) -> Sequence[Any]:
    listed = document.get("evses")
    return listed if isinstance(listed, list) else ()


def _without_evses(document: Document) -> Document:
    return {name: value for name, value in document.items() if name != "evses"}


def location_of(sender: Sender, key: ObjectKey, document: Document) -> tuple[Location, Notices]:
    """A location without its EVSEs. Raises InvalidArgument when it cannot be repaired."""
    location, unread = _location_read(sender, key, document)
    fit, repairs = repaired(location)
    return fit, unread + repairs


def _location_read(sender: Sender, key: ObjectKey, document: Document) -> tuple[Location, Notices]:
    _check_count(document)
    location, unread = _read(sender, Location, _without_evses(document))
    location.ClearField("etag")
    return _named(sender, key, location), unread


def evse_of(sender: Sender, document: Any) -> tuple[Evse, Notices]:
    """An EVSE; a status that we do not know is UNKNOWN. Raises InvalidArgument when it cannot be repaired."""
    evse, unread = _evse_read(sender, document)
    fit, repairs = repaired(evse)
    return fit, unread + repairs


def _evse_read(sender: Sender, document: Any) -> tuple[Evse, Notices]:
    if not isinstance(document, dict):
        raise InvalidArgument.field("uid", "is required")
    evse, unread = _read(sender, Evse, document)
    if not evse.status and document.get("status"):
        evse.status = EVSE_STATUS_UNKNOWN
    return evse, unread


def tariff_of(sender: Sender, key: ObjectKey, document: Document) -> tuple[Tariff, Notices]:
    """A tariff. Raises InvalidArgument when it cannot be repaired: what is left out could change a price."""
    tariff, unread = _read(sender, Tariff, document)
    tariff.ClearField("etag")
    fit, repairs = repaired(_named(sender, key, tariff))
    return fit, unread + repairs


def hub_client_of(sender: Sender, key: ObjectKey, document: Document) -> tuple[HubClient, Notices]:
    """Raises InvalidArgument when it cannot be repaired."""
    client, unread = _read(sender, HubClient, document)
    client.ClearField("etag")
    client.country_code, client.party_id = key.party
    client.integration_id = sender.integration_id
    fit, repairs = repaired(client)
    return fit, unread + repairs


def token_of(sender: Sender, key: ObjectKey, document: Document) -> tuple[Token, Notices]:
    """A token. Raises InvalidArgument when it cannot be repaired."""
    token, unread = _read(sender, Token, document)
    token.ClearField("etag")
    token.country_code, token.party_id = key.party
    token.integration_id = sender.integration_id
    if token.type and token_id(token.type, token.uid).casefold() != key.key:
        raise InvalidArgument.field("uid", "must be that of the URL, and so must `type`")
    fit, repairs = repaired(token)
    return fit, unread + repairs


def invoice_reconciliation_of(
    sender: Sender, key: ObjectKey, document: Document
) -> tuple[InvoiceReconciliationRecord, Notices]:
    """Raises InvalidArgument when it cannot be repaired: what is left out would be missing from the invoice."""
    record, unread = _read(sender, InvoiceReconciliationRecord, document)
    record.ClearField("etag")
    record.ClearField("recipient_integration_id")
    sent = document.get("cdrs")
    if isinstance(sent, list) and len(record.cdrs) < len(sent):
        raise InvalidArgument.field("cdrs", "must hold nothing but ids of CDRs")
    fit, repairs = repaired(_named(sender, key, record))
    return fit, unread + repairs


def session_of(sender: Sender, key: ObjectKey, document: Document) -> tuple[Session, Notices]:
    """A session. Raises InvalidArgument when it cannot be repaired."""
    return _charged_of(sender, Session, key, document)


def cdr_of(sender: Sender, key: ObjectKey, document: Document) -> tuple[Cdr, Notices]:
    """A CDR. Raises InvalidArgument when it cannot be repaired: what is left out could change the bill."""
    cdr, notices = _charged_of(sender, Cdr, key, document)
    cdr.audit.state = CDR_AUDIT_STATE_PENDING
    return cdr, notices


def _charged_of(sender: Sender, type: type[C], key: ObjectKey, document: Document) -> tuple[C, Notices]:
    message, unread = _read(sender, type, document)
    message.ClearField("etag")
    message.ClearField("recipient_integration_id")
    fit, repairs = repaired(_named(sender, key, message))
    fit.cdr_token.country_code, fit.cdr_token.party_id = token_party(fit)
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


L = TypeVar("L", Location, Tariff, Session, Cdr, InvoiceReconciliationRecord)


def _named(sender: Sender, key: ObjectKey, message: L) -> L:
    message.country_code, message.party_id = key.party
    message.id = message.id or getattr(key.key, "written", key.key)
    if message.id.casefold() != key.key:
        raise InvalidArgument.field("id", f"is not that of {key.shown}, to which it was sent")
    message.integration_id = sender.integration_id
    return message
