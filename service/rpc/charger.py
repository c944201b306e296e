"""evbridge.v1.ChargerService."""

from evbridge.v1.charger_pb2 import (
    CreateChargerRequest,
    DeleteChargerRequest,
    GetChargerRequest,
    ListChargersRequest,
    UpdateChargerRequest,
)

from service.domain.caller import Caller
from service.domain.keys import charger_key
from service.domain.pages import key_before, list_response, page_size
from service.resources.charger import CHARGERS
from service.resources.mutation import mutate_delete, mutate_one
from service.resources.noun import Upsert
from service.storage.charger import charger_get, charger_page
from service.storage.keyring import Keyring
from service.storage.pool import Database


class ChargerService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def CreateCharger(self, request: CreateChargerRequest, caller: Caller) -> bytes:
        upsert = Upsert(CHARGERS, request.charger, "charger", may_exist=False)
        return await mutate_one(self._database, self._keyring, request, caller, upsert)

    async def GetCharger(self, request: GetChargerRequest, caller: Caller) -> bytes:
        return await charger_get(self._database, caller.tenant_id, charger_key(request.id))

    async def ListChargers(self, request: ListChargersRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await charger_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def UpdateCharger(self, request: UpdateChargerRequest, caller: Caller) -> bytes:
        mask = request.update_mask.paths
        upsert = Upsert(CHARGERS, request.charger, "charger", may_be_missing=request.allow_missing, mask=mask)
        return await mutate_one(self._database, self._keyring, request, caller, upsert)

    async def DeleteCharger(self, request: DeleteChargerRequest, caller: Caller) -> bytes:
        key = charger_key(request.id)
        return await mutate_delete(self._database, self._keyring, request, caller, CHARGERS, key)
