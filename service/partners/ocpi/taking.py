"""What becomes of objects that an OCPI operator's list shows: each is stored, repaired, or quarantined."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from evbridge.v1.delivery_pb2 import OBJECT_KIND_HUB_CLIENT, OBJECT_KIND_TOKEN, ObjectKind
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import TokenType
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PartyRole
from evbridge.v1.run_pb2 import RunStep

from service.bridge.json_text import Unreadable, text_as_read
from service.domain.caller import Caller
from service.domain.keys import ObjectKey, PartyKey
from service.domain.received import ID_RULE, Document, is_id, is_text
from service.domain.token import token_id, token_type
from service.errors import EvbridgeError, FieldViolation, InvalidArgument
from service.partners.ocpi.files import notices_of
from service.partners.ocpi.received import owners, sender_of
from service.resources.documents import Sender, by_size
from service.resources.received import Outcome, Receipt
from service.runs.worker import Progress
from service.storage.pool import Database
from service.storage.quarantine import Quarantined

Store = Callable[[], Awaitable[list[Receipt | EvbridgeError]]]
Receive = Callable[[Database, Caller, Sender, Sequence[tuple[ObjectKey, Document]]], Awaitable[Store]]
"""Reads a page of ours, and returns what stores it."""


class Listed(NamedTuple):
    """A list that is pulled: its module, and what becomes of it here. Its objects belong to parties of `role`,
    or of any where that is unspecified.

    `lasts`: what is not listed any more is not gone, so the list is read whole only when somebody asks for it.
    `gone`: what becomes of objects that are not listed any more, where OCPI deletes none.
    """

    module: str
    model: str
    kind: ObjectKind.ValueType
    method: str
    request: Callable[..., Any]
    receive: Receive
    role: PartyRole.ValueType = PARTY_ROLE_CPO
    id: str = "id"
    lasts: bool = False
    gone: Callable[[Database, Caller, Sequence[ObjectKey]], Awaitable[int]] | None = None


PER_PAGE = 100
_DEEPEST = 100
"""Objects and lists within each other."""
_encoded = json.JSONEncoder(check_circular=False).encode
_COUNTED = {Outcome.CREATED: "created_count", Outcome.UPDATED: "updated_count"}


class Page(NamedTuple):
    """Objects that were read: by their ids with their pointers, those without one, and what stores the rest of them."""

    read_count: int
    documents: Mapping[ObjectKey, tuple[str, Document]]
    again: int
    nameless: Sequence[tuple[str, Any, FieldViolation]]
    broken: Mapping[ObjectKey, EvbridgeError]
    batches: Sequence[tuple[Sequence[ObjectKey], Store]]


class Taken(NamedTuple):
    """What became of objects: the ids that those which have one are stored by, what was refused, the newest time."""

    keys: list[str]
    refused: list[Quarantined]
    highest: datetime | None


class Taking:
    """Of one kind of objects, for the step that `progress` is at."""

    def __init__(
        self,
        database: Database,
        caller: Caller,
        progress: Progress,
        stored: Integration,
        version: str,
        of: Listed,
    ) -> None:
        self._database = database
        self._caller = caller
        self._progress = progress
        self._step: RunStep = progress.report.steps[-1]
        self._stored = stored
        self._version = version
        self._of = of
        # What a hub lists are other parties.
        self._owner = next(iter(owners(stored, of.role)), None) if of.kind != OBJECT_KIND_HUB_CLIENT else None

    async def read(self, values: Sequence[tuple[str, Any]]) -> Page:
        """Objects, each with its pointer in the partner's answer. Nothing is stored or counted yet."""
        documents: dict[ObjectKey, tuple[str, Document]] = {}
        nameless: list[tuple[str, Any, FieldViolation]] = []
        for pointer, value in values:
            try:
                key = self._key(value)
            except _Nameless as error:
                nameless.append((pointer, value, FieldViolation(error.pointer, error.problem)))
                continue
            if key not in documents or not _is_older(value, documents[key][1]):
                documents[key] = pointer, value
        again = len(values) - len(nameless) - len(documents)
        return Page(len(values), documents, again, nameless, *await self._batches(documents))

    async def taken(self, page: Page) -> Taken:
        """Stores what can be stored of the objects, and counts them."""
        refused: list[Quarantined] = []
        for pointer, value, found in page.nameless:
            await self._refuse(refused, None, "", value, pointer, [found])
        self._step.unchanged_count += page.again
        receipts: dict[ObjectKey, Receipt | EvbridgeError] = {**page.broken}
        for keys, store in page.batches:
            receipts |= zip(keys, await store(), strict=True)
        highest: datetime | None = None
        for key, (pointer, document) in page.documents.items():
            receipt = receipts[key]
            if isinstance(receipt, EvbridgeError):
                broken = receipt.violations or [FieldViolation("", receipt.message)]
                await self._refuse(refused, key, document[self._of.id], document, pointer, [*_findings("", broken)])
                continue
            if receipt.notices:
                self._progress.repaired(document[self._of.id], _findings(pointer, receipt.notices))
            counted = _COUNTED.get(receipt.outcome, "unchanged_count")
            setattr(self._step, counted, getattr(self._step, counted) + 1)
            highest = max(filter(None, (highest, _time(document))), default=None)
        self._step.read_count += page.read_count
        return Taken([*map(str, page.documents)], refused, highest)

    async def _refuse(
        self,
        refused: list[Quarantined],
        key: ObjectKey | None,
        id: str,
        value: Any,
        pointer: str,
        found: Sequence[FieldViolation],
    ) -> None:
        self._progress.refused(id, [FieldViolation(pointer + each.path, each.description) for each in found])
        text = await by_size(partial(text_as_read, value), value)
        refused.append(Quarantined(str(key or ""), key.shown if key else "", found, text))

    async def _batches(
        self, documents: Mapping[ObjectKey, tuple[str, Document]]
    ) -> tuple[dict[ObjectKey, EvbridgeError], list[tuple[Sequence[ObjectKey], Store]]]:
        """What cannot be kept, and pages of ours: a partner may send more than it was asked for.

        Only the first one is read now, so that no more than that is held beside the documents.
        """
        broken: dict[ObjectKey, EvbridgeError] = {}
        sound: list[tuple[ObjectKey, Document]] = []
        for key, (_, document) in documents.items():
            await asyncio.sleep(0)
            if (where := await by_size(partial(_unkept, document), document)) is not None:
                broken[key] = InvalidArgument.field(where, "is no value of JSON that can be kept")
            else:
                sound.append((key, document))
        sender = sender_of(self._stored, self._version, self._of.role, (key.party for key in documents), self._owner)
        batches: list[tuple[Sequence[ObjectKey], Store]] = []
        for start in range(0, len(sound), PER_PAGE):
            batch = sound[start : start + PER_PAGE]
            read = partial(self._of.receive, self._database, self._caller, sender, batch)
            batches.append(([key for key, _ in batch], partial(_read_and_store, read) if start else await read()))
        return broken, batches

    def _key(self, value: Any) -> ObjectKey:
        """Of an object in the list. Raises _Nameless."""
        if not isinstance(value, dict):
            raise _Nameless("", "must be an object")
        id, owner = value.get(self._of.id), self._owner or PartyKey("", "")
        if not is_id(id):
            raise _Nameless(f"/{self._of.id}", f"is required: {ID_RULE}")
        if self._of.kind == OBJECT_KIND_TOKEN:
            id = token_id(_token_type(value.get("type")), id)
        named = value.get("country_code", owner.country_code), value.get("party_id", owner.party_id)
        for name, text, length in zip(("country_code", "party_id"), named, (2, 3), strict=True):
            if not (isinstance(text, str) and len(text) == length and is_text(text)):
                raise _Nameless(f"/{name}", f"is required: {length} characters")
        return ObjectKey.of(*named, id, self._stored.id)


def at_once(
    receive: Callable[
        [Database, Caller, Sender, Sequence[tuple[ObjectKey, Document]]], Awaitable[list[Receipt | EvbridgeError]]
    ],
) -> Receive:
    """Of objects that are read when they are stored: what they become depends on what is held."""

    async def read(
        database: Database, caller: Caller, sender: Sender, documents: Sequence[tuple[ObjectKey, Document]]
    ) -> Store:
        return partial(receive, database, caller, sender, documents)

    return read


async def _read_and_store(read: Callable[[], Awaitable[Store]]) -> list[Receipt | EvbridgeError]:
    store = await read()
    return await store()


class _Nameless(Exception):
    """An object that nobody can tell from others: where, and what is wrong."""

    def __init__(self, pointer: str, problem: str) -> None:
        super().__init__(pointer, problem)
        self.pointer = pointer
        self.problem = problem


def _findings(pointer: str, violations: Any) -> Iterator[FieldViolation]:
    """At pointers into the partner's answer."""
    return (FieldViolation(each.pointer, each.problem) for each in notices_of(pointer, violations))


def _unkept(document: Document) -> str | None:
    """The path of something that cannot be kept: Python has no value for it, or it is nested too deeply."""
    try:
        text = _encoded(document)  # in C, and so much faster than looking
    except (TypeError, RecursionError):
        return "" if _is_deep(document) else next(_unreadable(document), None)
    return "" if text.count("[") + text.count("{") > _DEEPEST and _is_deep(document) else None


def _is_deep(document: Document) -> bool:
    level: list[Any] = [document]
    for _ in range(_DEEPEST):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for values in inner for each in values if isinstance(each, dict | list)]
    return bool(level)


def _unreadable(value: Any, path: str = "") -> Iterator[str]:
    """Paths of what Python has no value for."""
    if isinstance(value, Unreadable):
        yield path
    elif isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, dict | list | Unreadable):
                yield from _unreadable(item, f"{path}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            if isinstance(item, dict | list | Unreadable):
                yield from _unreadable(item, f"{path}[{number}]")


def _time(document: Document) -> datetime | None:
    """When the partner last changed it."""
    try:
        time = datetime.fromisoformat(document.get("last_updated", ""))
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _is_older(document: Document, than: Document) -> bool:
    """Whether the partner says so of two that have one id."""
    time, other = _time(document), _time(than)
    return time is not None and other is not None and time < other


def _token_type(text: Any) -> TokenType.ValueType:
    """Raises _Nameless."""
    try:
        return token_type(text)
    except ValueError:
        raise _Nameless("/type", "is required, for example RFID") from None
