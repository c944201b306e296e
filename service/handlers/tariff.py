"""evbridge.v1.TariffService."""

from collections.abc import Sequence
from datetime import datetime

from evbridge.v1.delivery_pb2 import OBJECT_KIND_TARIFF
from evbridge.v1.tariff_pb2 import (
    BatchGetTariffsRequest,
    BatchUpsertTariffsRequest,
    BatchUpsertTariffsResponse,
    CreateTariffRequest,
    DeleteTariffRequest,
    GetTariffRequest,
    ListTariffsRequest,
    Tariff,
    TariffKey,
    TariffResult,
    UpdateTariffRequest,
)
from google.protobuf.empty_pb2 import Empty

from service.domain.caller import Caller
from service.domain.content import etag_of
from service.domain.fields import clear_output_only
from service.domain.keys import ObjectKey, PartyKey
from service.domain.masks import merged
from service.domain.pages import framed, key_before, list_response, page_size
from service.domain.status import status_of
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
from service.handlers.mutation import mutate
from service.storage.changes import CREATE, DELETE, UPDATE, change_record
from service.storage.keyring import Keyring
from service.storage.party import parties_hold
from service.storage.pool import Connection, Database
from service.storage.tariff import (
    StoredTariff,
    key_of,
    tariff_bury,
    tariff_get,
    tariff_get_many,
    tariff_lock,
    tariff_page,
    tariff_put,
)


class TariffService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def CreateTariff(self, request: CreateTariffRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Tariff:
            (tariff,) = await _put(conn, caller, now, [_Wish(request.tariff, "tariff", may_exist=False)])
            return _raised(tariff)

        return await mutate(self._database, self._keyring, request, caller, work)

    async def GetTariff(self, request: GetTariffRequest, caller: Caller) -> bytes:
        return await tariff_get(self._database, caller.tenant_id, _key(request.key))

    async def BatchGetTariffs(self, request: BatchGetTariffsRequest, caller: Caller) -> bytes:
        return framed(await tariff_get_many(self._database, caller.tenant_id, [_key(key) for key in request.keys]))

    async def ListTariffs(self, request: ListTariffsRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await tariff_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def UpdateTariff(self, request: UpdateTariffRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Tariff:
            wish = _Wish(
                request.tariff, "tariff", may_be_missing=request.allow_missing, mask=[*request.update_mask.paths]
            )
            (tariff,) = await _put(conn, caller, now, [wish])
            return _raised(tariff)

        return await mutate(self._database, self._keyring, request, caller, work)

    async def BatchUpsertTariffs(self, request: BatchUpsertTariffsRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> BatchUpsertTariffsResponse:
            wishes = [
                _Wish(tariff, f"tariffs[{number}]", may_be_missing=request.allow_missing)
                for number, tariff in enumerate(request.tariffs)
            ]
            results = await _put(conn, caller, now, wishes)
            return BatchUpsertTariffsResponse(
                results=[
                    TariffResult(error=status_of(result))
                    if isinstance(result, EvbridgeError)
                    else TariffResult(tariff=result)
                    for result in results
                ]
            )

        return await mutate(self._database, self._keyring, request, caller, work)

    async def DeleteTariff(self, request: DeleteTariffRequest, caller: Caller) -> bytes:
        key = _key(request.key)

        async def work(conn: Connection, now: datetime) -> Empty:
            stored = (await tariff_lock(conn, caller.tenant_id, [key])).get(key)
            if stored is None or stored.tariff is None:
                if request.allow_missing:
                    return Empty()
                raise ResourceNotFound.of("tariff", str(key))
            check_etag(request.etag, stored.etag, "tariff", str(key))
            await tariff_bury(conn, caller.tenant_id, key)
            await change_record(conn, caller, OBJECT_KIND_TARIFF, str(key), DELETE, stored.etag)
            return Empty()

        return await mutate(self._database, self._keyring, request, caller, work)


class _Wish:
    """A tariff as it was sent, where it stands in the request, and what may be done with it. No mask: all of it."""

    def __init__(
        self,
        sent: Tariff,
        path: str,
        *,
        may_exist: bool = True,
        may_be_missing: bool = True,
        mask: Sequence[str] = ("*",),
    ) -> None:
        self.sent = sent
        self.path = path
        self.key = key_of(sent)
        self._may_exist = may_exist
        self._may_be_missing = may_be_missing
        self._mask = mask

    def granted(self, stored: StoredTariff | None, parties: set[PartyKey], now: datetime) -> Tariff:
        """The tariff as it is to be stored. Raises what is wrong with it."""
        before = stored.tariff if stored else None
        if before and not self._may_exist:
            raise ResourceExists(f"tariff {self.key} exists already", resource="tariff", id=str(self.key))
        if not before and self._may_exist and not self._may_be_missing:
            raise ResourceNotFound.of("tariff", str(self.key))
        check_etag(self.sent.etag, before.etag if before else "", "tariff", str(self.key))
        tariff = merged(before, self.sent, self._mask) if before else _copy(self.sent)
        tariff.country_code, tariff.party_id = self.sent.country_code, self.sent.party_id
        tariff.id = before.id if before else self.sent.id
        validate(tariff, prefix=f"{self.path}.")
        tariff.DiscardUnknownFields()
        clear_output_only(tariff)
        tariff.country_code, tariff.party_id, _ = self.key
        if self.key.party not in parties:
            violation = FieldViolation(f"{self.path}.party_id", "is none of the tenant's parties")
            raise ReferenceNotFound(
                f"there is no party {self.key.party}", violations=(violation,), resource="party", id=str(self.key.party)
            )
        tariff.etag = etag_of(tariff)
        if before and before.etag == tariff.etag:
            return before
        tariff.last_updated.FromDatetime(now)
        tariff.create_time.CopyFrom(before.create_time if before else tariff.last_updated)
        return tariff


async def _put(
    conn: Connection, caller: Caller, now: datetime, wishes: Sequence[_Wish]
) -> list[Tariff | EvbridgeError]:
    """Grants each wish or says why not, and stores what was granted. What did not change is not written."""
    stored = await tariff_lock(conn, caller.tenant_id, [wish.key for wish in wishes])
    parties = await parties_hold(conn, caller.tenant_id, [wish.key.party for wish in wishes])
    results: list[Tariff | EvbridgeError] = []
    new: list[Tariff] = []
    replaced: list[Tariff] = []
    seen: set[ObjectKey] = set()
    for wish in wishes:
        row = stored.get(wish.key)
        try:
            if wish.key in seen:
                raise InvalidArgument.field(f"{wish.path}.id", "stands in the request twice")
            seen.add(wish.key)
            tariff = wish.granted(row, parties, now)
        except EvbridgeError as error:
            results.append(error)
            continue
        results.append(tariff)
        if row is None or tariff is not row.tariff:
            (replaced if row else new).append(tariff)
    await tariff_put(conn, caller.tenant_id, new, replaced)
    for tariff in (*new, *replaced):
        row = stored.get(key_of(tariff))
        operation = UPDATE if row and row.tariff else CREATE
        await change_record(conn, caller, OBJECT_KIND_TARIFF, str(key_of(tariff)), operation, tariff.etag)
    return results


def _copy(tariff: Tariff) -> Tariff:
    copy = Tariff()
    copy.CopyFrom(tariff)
    return copy


def _key(key: TariffKey) -> ObjectKey:
    return ObjectKey.of(key.country_code, key.party_id, key.id)


def _raised(result: Tariff | EvbridgeError) -> Tariff:
    if isinstance(result, EvbridgeError):
        raise result
    return result
