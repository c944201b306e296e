"""A kind of objects and how it is changed in its own way (`Noun`), and a change that is asked for (`Upsert`)."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from evbridge.v1.delivery_pb2 import ObjectKind
from evbridge.v1.types_pb2 import Origin
from google.protobuf.message import Message

from service.domain.content import etag_of
from service.domain.fields import clear_output_only, lower_codes, secrets_set
from service.domain.masks import merged
from service.domain.origin import keep_origin, keep_overrides, set_origin
from service.domain.personal_data import is_erased
from service.domain.validation import validate
from service.domain.versions import check_etag
from service.errors import (
    EvbridgeError,
    FieldViolation,
    InvalidArgument,
    ReferenceNotFound,
    ResourceExists,
    ResourceNotFound,
)
from service.storage.connection import Connection

M = TypeVar("M", bound=Message)


class Pending(NamedTuple, Generic[M]):
    """An object about to be stored, where it stands in the request, what was stored before, whether it is imported."""

    path: str
    wanted: M
    before: M | None
    imported: bool = False


class Noun(ABC, Generic[M]):
    """One kind of objects, and what it does in its own way. A key tells two of them apart; the feed has it as text."""

    noun: str
    kind: ObjectKind.ValueType
    time = "update_time"
    """The field that says when it last changed."""

    @abstractmethod
    def key_of(self, sent: M) -> Any:
        """Its key."""

    @abstractmethod
    async def lock(self, conn: Connection, tenant_id: str, keys: Collection[Any], /) -> Mapping[Any, M | None]:
        """The objects there are, kept from other writers until the transaction ends; None where a tombstone is."""

    @abstractmethod
    async def write(
        self, conn: Connection, tenant_id: str, objects: Sequence[M], locked: Mapping[Any, M | None], /
    ) -> None:
        """Stores objects over what `lock` found. Raises an error when another writer was first with a new one."""

    @abstractmethod
    async def remove(self, conn: Connection, tenant_id: str, key: Any, /) -> None:
        """Deletes one that is locked. Raises what keeps it from being deleted."""

    def shown(self, key: Any) -> str:
        """The key for people."""
        return str(key)

    def check_key(self, sent: M, path: str) -> None:
        """Raises InvalidArgument when nothing can have the key."""

    def check_ours(self, key: Any) -> None:
        """Raises ReceivedIsReadOnly for a partner's."""

    def check_version(self, sent: M, before: M | None) -> None:
        """Raises an error when another object was changed than the caller meant."""
        check_etag(etag_in(sent), etag_in(before) if before else "", self.noun, self.shown(self.key_of(sent)))

    def keep(self, wanted: M, before: M | None) -> None:
        """Puts back what an update cannot change. Raises ImmutableField."""

    def clean(self, wanted: M) -> None:
        """Writes names as we do. Raises InvalidArgument."""

    async def refused(
        self, conn: Connection, tenant_id: str, pending: Mapping[Any, Pending[M]]
    ) -> Mapping[Any, EvbridgeError]:
        """The errors of those that cannot be stored, for what they name is not there."""
        return {}

    def stamp(self, wanted: M, before: M | None, now: datetime) -> None:
        """Sets what only we set, but for the object's own times."""

    def etag(self, wanted: M) -> str:
        return etag_of(wanted)

    def unchanged(self, wanted: M, before: M) -> bool:
        """Whether nothing has to be written."""
        return etag_in(wanted) == etag_in(before)


class Upsert(Generic[M]):
    """An object as it was sent, where it stands in the request, and what may be done with it. No mask: all of it.

    `origin`: it is imported from there.
    """

    def __init__(
        self,
        noun: Noun[M],
        sent: M,
        path: str,
        *,
        may_exist: bool = True,
        may_be_missing: bool = True,
        mask: Sequence[str] = ("*",),
        origin: Origin | None = None,
    ) -> None:
        self.noun = noun
        self.key = noun.key_of(sent)
        self.path = path
        self.violation: InvalidArgument | None = None
        self.origin = origin
        self._sent = sent
        self._may_exist = may_exist
        self._may_be_missing = may_be_missing
        self._mask = mask
        try:
            noun.check_key(sent, path)
        except InvalidArgument as violation:
            self.violation = violation

    def secrets(self) -> Iterator[str]:
        """The paths of the secrets that were sent."""
        return secrets_set(self._sent)

    def resolved(self, before: Any) -> M:
        """The object as it is wanted, valid and without what only we set. Raises what is wrong with it."""
        noun, sent, id = self.noun, self._sent, self.noun.shown(self.key)
        if self.violation:
            raise self.violation
        noun.check_ours(self.key)
        taken = self.origin and before and before.origin.integration_id != self.origin.integration_id
        if before and (taken or not self._may_exist):
            raise ResourceExists(f"{noun.noun} {id} already exists", resource=noun.noun, id=id)
        if not before and self._may_exist and not self._may_be_missing:
            raise ResourceNotFound.of(noun.noun, id)
        if self.origin and is_erased(before):
            erased: M = before
            return erased
        noun.check_version(sent, before)
        wanted: Any = merged(before, sent, self._mask) if before else merged(sent, sent, ("*",))
        noun.keep(wanted, before)
        if self.origin and before:
            keep_overrides(wanted, before)
        validate(wanted, prefix=f"{self.path}.")
        wanted.DiscardUnknownFields()
        if not self.origin:
            clear_output_only(wanted)
        lower_codes(wanted)
        noun.clean(wanted)
        if self.origin:
            set_origin(wanted, before, self.origin)
        elif before and "origin" in before.DESCRIPTOR.fields_by_name:
            keep_origin(wanted, before)
        result: M = wanted
        return result


def dangling(resource: str, id: str, violations: tuple[FieldViolation, ...]) -> ReferenceNotFound:
    """The error for fields that name a resource there is not."""
    return ReferenceNotFound(f"there is no {resource} {id}", violations=violations, resource=resource, id=id)


def etag_in(object: Any) -> str:
    """The etag that it carries."""
    etag: str = object.etag
    return etag
