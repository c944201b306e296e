"""Objects that a party owns, tariffs and locations: how they are created, changed and upserted, one or many at once."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from evbridge.v1.delivery_pb2 import ObjectKind
from evbridge.v1.location_pb2 import Location, LocationKey
from evbridge.v1.tariff_pb2 import Tariff, TariffKey
from evbridge.v1.types_pb2 import Origin

from service.domain.caller import Caller
from service.domain.content import etag_of
from service.domain.fields import clear_output_only, lower_codes
from service.domain.keys import ObjectKey, PartyKey, key_of
from service.domain.masks import merged
from service.domain.origin import keep_origin, keep_overrides, set_origin
from service.domain.status import status_of
from service.domain.validation import validate
from service.domain.versions import check_etag, time_after
from service.errors import (
    EvbridgeError,
    FieldViolation,
    InvalidArgument,
    ReferenceNotFound,
    ResourceExists,
    ResourceNotFound,
)
from service.storage.changes import CREATE, UPDATE, Change, change_record_many
from service.storage.connection import Connection
from service.storage.party import parties_hold
from service.storage.tariff import tariffs_hold

M = TypeVar("M", Tariff, Location)


class Owned(ABC, Generic[M]):
    """One kind of such objects, and what it does in its own way."""

    noun: str
    kind: ObjectKind.ValueType
    key: type[TariffKey | LocationKey]

    @abstractmethod
    async def lock(self, conn: Connection, tenant_id: str, keys: Collection[ObjectKey]) -> Mapping[ObjectKey, M | None]:
        """The objects there are, kept from other writers until the transaction ends; None where a tombstone is."""

    @abstractmethod
    async def write(
        self, conn: Connection, tenant_id: str, objects: Sequence[M], locked: Mapping[ObjectKey, M | None]
    ) -> None:
        """Stores objects over what `lock` found. Raises EtagMismatch when another writer was first with a new one."""

    def keep(self, wanted: M, before: M) -> None:
        """Puts back what an update cannot take away."""

    def tariffs(self, wanted: M) -> Iterator[tuple[str, ObjectKey]]:
        """(path, key) of each tariff that must exist."""
        yield from ()

    def stamp(self, wanted: M, before: M | None, now: datetime) -> None:
        """Sets the times of its parts."""

    def etag(self, wanted: M) -> str:
        return etag_of(wanted)


class Upsert(Generic[M]):
    """An object as it was sent, where it stands in the request, and what may be done with it. No mask: all of it.

    `origin`: it is imported from there.
    """

    def __init__(
        self,
        owned: Owned[M],
        sent: M,
        path: str,
        *,
        may_exist: bool = True,
        may_be_missing: bool = True,
        mask: Sequence[str] = ("*",),
        origin: Origin | None = None,
    ) -> None:
        self.key = key_of(sent)
        self.path = path
        self.violation: InvalidArgument | None = None
        self.owned: Owned[M] = owned
        self.origin = origin
        self._sent: M = sent
        self._may_exist = may_exist
        self._may_be_missing = may_be_missing
        self._mask = mask
        try:
            validate(owned.key(country_code=sent.country_code, party_id=sent.party_id, id=sent.id), prefix=f"{path}.")
        except InvalidArgument as violation:
            self.violation = violation

    def resolved(self, before: M | None) -> M:
        """The object as it is wanted, valid and without what only we set. Raises what is wrong with it."""
        owned, sent, id = self.owned, self._sent, self.key.shown
        if self.violation:
            raise self.violation
        taken = self.origin and before and before.origin.integration_id != self.origin.integration_id
        if before and (taken or not self._may_exist):
            raise ResourceExists(f"{owned.noun} {id} exists already", resource=owned.noun, id=id)
        if not before and self._may_exist and not self._may_be_missing:
            raise ResourceNotFound.of(owned.noun, id)
        check_etag(sent.etag, before.etag if before else "", owned.noun, id)
        wanted = merged(before, sent, self._mask) if before else merged(sent, sent, ("*",))
        wanted.country_code, wanted.party_id, _ = self.key
        wanted.id = before.id if before else sent.id
        if before:
            owned.keep(wanted, before)
            if self.origin:
                keep_overrides(wanted, before)
        validate(wanted, prefix=f"{self.path}.")
        wanted.DiscardUnknownFields()
        clear_output_only(wanted)
        lower_codes(wanted)
        if self.origin:
            set_origin(wanted, before, self.origin)
        elif before:
            keep_origin(wanted, before)
        return wanted

    def check_references(self, wanted: M, parties: set[PartyKey], tariffs: set[ObjectKey]) -> None:
        """Raises ReferenceNotFound unless its party and the tariffs it names are among those."""
        if self.key.party not in parties:
            violation = FieldViolation(f"{self.path}.party_id", "is none of the tenant's parties")
            raise dangling("party", str(self.key.party), (violation,))
        if missing := [(path, key) for path, key in self.owned.tariffs(wanted) if key not in tariffs]:
            violations = tuple(
                FieldViolation(f"{self.path}.{path}", "is no tariff of the party") for path, _ in missing
            )
            raise dangling("tariff", missing[0][1].shown, violations)


async def put_one(conn: Connection, caller: Caller, now: datetime, upsert: Upsert[M]) -> M:
    """Stores what the upsert asks for. Raises what is wrong with it."""
    (result,) = await put(conn, caller, now, [upsert])
    if isinstance(result, EvbridgeError):
        raise result
    return result


async def put(conn: Connection, caller: Caller, now: datetime, upserts: Sequence[Upsert[M]]) -> list[M | EvbridgeError]:
    """Stores each object that is right, and returns the error of each that is not. What did not change is not written.

    The upserts are of one kind, and there is at least one.
    """
    owned = upserts[0].owned
    locked = await owned.lock(conn, caller.tenant_id, {upsert.key for upsert in upserts if not upsert.violation})
    results: list[M | EvbridgeError] = []
    seen: set[ObjectKey] = set()
    for upsert in upserts:
        try:
            if upsert.key in seen:
                raise InvalidArgument.field(f"{upsert.path}.id", "stands in the request twice")
            seen.add(upsert.key)
            results.append(upsert.resolved(locked.get(upsert.key)))
        except EvbridgeError as error:
            results.append(error)
    wanted = [result for result in results if not isinstance(result, EvbridgeError)]
    parties = await parties_hold(
        conn, caller.tenant_id, {upsert.key.party for upsert in upserts if not upsert.violation}
    )
    named = {key for each in wanted for _, key in owned.tariffs(each)}
    tariffs = await tariffs_hold(conn, caller.tenant_id, named) if named else set()
    changed: list[M] = []
    for number, (upsert, result) in enumerate(zip(upserts, results, strict=True)):
        if isinstance(result, EvbridgeError):
            continue
        try:
            upsert.check_references(result, parties, tariffs)
        except ReferenceNotFound as error:
            results[number] = error
            continue
        before = locked.get(upsert.key)
        results[number] = stored = _stamped(owned, result, before, now)
        if stored is not before:
            if upsert.origin:
                stored.origin.synced_time.CopyFrom(stored.last_updated)
            changed.append(stored)
    await owned.write(conn, caller.tenant_id, sorted(changed, key=key_of), locked)
    await change_record_many(
        conn,
        caller,
        owned.kind,
        [Change(str(key := key_of(each)), UPDATE if locked.get(key) else CREATE, each.etag) for each in changed],
    )
    return results


def add_results(response: Any, noun: str, results: Iterable[M | EvbridgeError]) -> None:
    """Adds to a batch's response what became of each object: its error, or itself in the field called `noun`."""
    for result in results:
        response.results.add(**({"error": status_of(result)} if isinstance(result, EvbridgeError) else {noun: result}))


def _stamped(owned: Owned[M], wanted: M, before: M | None, now: datetime) -> M:
    """With its times and its etag; `before` itself when nothing changed."""
    if before:
        now = time_after(before.last_updated, now)
    owned.stamp(wanted, before, now)
    wanted.etag = owned.etag(wanted)
    if before:
        wanted.create_time.CopyFrom(before.create_time)
        wanted.last_updated.CopyFrom(before.last_updated)
        if wanted == before:
            return before
    wanted.last_updated.FromDatetime(now)
    if not before:
        wanted.create_time.CopyFrom(wanted.last_updated)
    return wanted


def dangling(resource: str, id: str, violations: tuple[FieldViolation, ...]) -> ReferenceNotFound:
    """The error for fields that name a resource there is not."""
    return ReferenceNotFound(f"there is no {resource} {id}", violations=violations, resource=resource, id=id)
