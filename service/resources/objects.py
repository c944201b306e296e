"""Objects that a party owns: tariffs, locations, tokens, sessions and CDRs."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.message import Message

from service.domain.keys import ObjectKey, PartyKey, key_of
from service.domain.validation import validate
from service.errors import EvbridgeError, FieldViolation, ReceivedIsReadOnly, ReferenceNotFound, TariffsActiveTogether
from service.resources.noun import Noun, Pending, dangling
from service.storage.connection import Connection
from service.storage.party import parties_hold
from service.storage.tariff import tariffs_hold

M = TypeVar("M", bound=Message)


class Owned(Noun[M]):
    """One kind of such objects."""

    key: type[Any]
    id = "id"
    time = "last_updated"

    def key_of(self, sent: Any) -> ObjectKey:
        return key_of(sent)

    def shown(self, key: ObjectKey) -> str:
        return key.shown

    def check_key(self, sent: Any, path: str) -> None:
        validate(self.key(country_code=sent.country_code, party_id=sent.party_id, id=sent.id), prefix=f"{path}.")

    def check_ours(self, key: ObjectKey) -> None:
        check_ours(self.noun, key)

    def keep(self, wanted: Any, before: Any) -> None:
        """The spelling of an id is the first one."""
        wanted.country_code, wanted.party_id = self.key_of(wanted).party
        if before:
            setattr(wanted, self.id, getattr(before, self.id))

    def tariffs(self, wanted: M) -> Iterator[tuple[str, ObjectKey]]:
        """(path, key) of each tariff that must exist."""
        yield from ()

    async def refused(
        self, conn: Connection, tenant_id: str, pending: Mapping[Any, Pending[M]]
    ) -> Mapping[Any, EvbridgeError]:
        """Those of which the party or a tariff does not exist; neither can be deleted until the transaction ends."""
        parties = await parties_hold(conn, tenant_id, {key.party for key in pending})
        named = {key for each in pending.values() for _, key in self.tariffs(each.wanted)}
        tariffs = await tariffs_hold(conn, tenant_id, named) if named else set()
        refused: dict[ObjectKey, EvbridgeError] = {}
        for key, each in pending.items():
            if error := self._dangling(key, each.path, each.wanted, parties, tariffs):
                refused[key] = error
        return refused

    def unchanged(self, wanted: M, before: M) -> bool:
        return wanted == before

    def _dangling(
        self, key: ObjectKey, path: str, wanted: M, parties: set[PartyKey], tariffs: set[ObjectKey]
    ) -> ReferenceNotFound | None:
        if key.party not in parties:
            return dangling(
                "party", str(key.party), (FieldViolation(f"{path}.party_id", "is not one of the tenant's parties"),)
            )
        if missing := [(place, key) for place, key in self.tariffs(wanted) if key not in tariffs]:
            violations = tuple(
                FieldViolation(f"{path}.{place}", "is not a tariff of the party") for place, _ in missing
            )
            return dangling("tariff", missing[0][1].shown, violations)
        return None


def active_together(path: str, one: Tariff, other: Tariff) -> TariffsActiveTogether:
    """The error for two tariffs of one type that would hold at the same time on a connector."""
    first, second = key_of(one).shown, key_of(other).shown
    text = f"{first} and {second} hold at the same time for the same type of session"
    return TariffsActiveTogether(
        f"the tariffs {text}", violations=(FieldViolation(path, text),), tariff_id=first, other_tariff_id=second
    )


def check_ours(noun: str, key: ObjectKey) -> None:
    """Raises ReceivedIsReadOnly for a partner's."""
    if key.integration_id:
        raise ReceivedIsReadOnly(
            f"{noun} {key.shown} was received through {key.integration_id}: only the partner changes it",
            resource=noun,
            id=key.shown,
            integration_id=key.integration_id,
        )
