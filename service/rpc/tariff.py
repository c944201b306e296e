"""evbridge.v1.TariffService."""

from datetime import datetime

from evbridge.v1.tariff_pb2 import (
    BatchGetTariffsRequest,
    BatchUpsertTariffsRequest,
    BatchUpsertTariffsResponse,
    CreateTariffRequest,
    DeleteTariffRequest,
    GetTariffRequest,
    ListTariffsRequest,
    Tariff,
    UpdateTariffRequest,
)

from service.domain.caller import Caller
from service.domain.keys import key_of
from service.domain.pages import batch_response, key_before, list_response, page_size
from service.resources.mutation import mutate, mutate_delete, mutate_many, mutate_one, put_one
from service.resources.noun import Upsert
from service.resources.publication import publish
from service.resources.tariff import TARIFFS
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.tariff import tariff_get, tariff_get_many, tariff_page


class TariffService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def CreateTariff(self, request: CreateTariffRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Tariff:
            upsert = Upsert(TARIFFS, request.tariff, "tariff", may_exist=False)
            tariff = await put_one(conn, caller, now, upsert)
            await publish(conn, caller, now, request.publish_to, tariff)
            return tariff

        return await mutate(self._database, self._keyring, request, caller, work)

    async def GetTariff(self, request: GetTariffRequest, caller: Caller) -> bytes:
        return await tariff_get(self._database, caller.tenant_id, key_of(request.key))

    async def BatchGetTariffs(self, request: BatchGetTariffsRequest, caller: Caller) -> bytes:
        return batch_response(
            await tariff_get_many(self._database, caller.tenant_id, [key_of(key) for key in request.keys])
        )

    async def ListTariffs(self, request: ListTariffsRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await tariff_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def UpdateTariff(self, request: UpdateTariffRequest, caller: Caller) -> bytes:
        mask = request.update_mask.paths
        upsert = Upsert(TARIFFS, request.tariff, "tariff", may_be_missing=request.allow_missing, mask=mask)
        return await mutate_one(self._database, self._keyring, request, caller, upsert)

    async def BatchUpsertTariffs(self, request: BatchUpsertTariffsRequest, caller: Caller) -> bytes:
        upserts = [
            Upsert(TARIFFS, tariff, f"tariffs[{number}]", may_be_missing=request.allow_missing)
            for number, tariff in enumerate(request.tariffs)
        ]
        return await mutate_many(self._database, self._keyring, request, caller, upserts, BatchUpsertTariffsResponse)

    async def DeleteTariff(self, request: DeleteTariffRequest, caller: Caller) -> bytes:
        key = key_of(request.key)
        return await mutate_delete(self._database, self._keyring, request, caller, TARIFFS, key)
