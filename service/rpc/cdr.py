"""evbridge.v1.CdrService."""

from evbridge.v1.cdr_pb2 import (
    BatchCreateCdrsRequest,
    BatchCreateCdrsResponse,
    BatchGetCdrsRequest,
    CreateCdrRequest,
    GetCdrRequest,
    ListCdrsRequest,
)

from service.domain.caller import Caller
from service.domain.keys import key_of
from service.domain.pages import batch_response, key_before, list_response, page_size
from service.resources.cdr import CDRS
from service.resources.mutation import mutate_many, mutate_one
from service.resources.noun import Upsert
from service.storage.cdr import cdr_get, cdr_get_many, cdr_page
from service.storage.keyring import Keyring
from service.storage.peer import peer_cdr_at
from service.storage.pool import Database


class CdrService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def CreateCdr(self, request: CreateCdrRequest, caller: Caller) -> bytes:
        return await mutate_one(self._database, self._keyring, request, caller, Upsert(CDRS, request.cdr, "cdr"))

    async def GetCdr(self, request: GetCdrRequest, caller: Caller) -> bytes:
        at = (self._database, caller.tenant_id)
        return await cdr_get(*at, await peer_cdr_at(*at, request.url) if request.url else key_of(request.key))

    async def BatchGetCdrs(self, request: BatchGetCdrsRequest, caller: Caller) -> bytes:
        return batch_response(
            await cdr_get_many(self._database, caller.tenant_id, [key_of(key) for key in request.keys])
        )

    async def ListCdrs(self, request: ListCdrsRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await cdr_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def BatchCreateCdrs(self, request: BatchCreateCdrsRequest, caller: Caller) -> bytes:
        upserts = [Upsert(CDRS, cdr, f"cdrs[{number}]") for number, cdr in enumerate(request.cdrs)]
        return await mutate_many(self._database, self._keyring, request, caller, upserts, BatchCreateCdrsResponse)
