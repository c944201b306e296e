"""evbridge.v1.PartyService."""

from evbridge.v1.party_pb2 import (
    CreatePartyRequest,
    DeletePartyRequest,
    GetPartyRequest,
    ListPartiesRequest,
    UpdatePartyRequest,
)

from service.domain.caller import Caller
from service.domain.keys import PartyKey
from service.domain.pages import key_before, list_response, page_size
from service.resources.mutation import mutate_delete, mutate_one
from service.resources.noun import Upsert
from service.resources.party import PARTIES
from service.storage.keyring import Keyring
from service.storage.party import party_get, party_page
from service.storage.pool import Database


class PartyService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def CreateParty(self, request: CreatePartyRequest, caller: Caller) -> bytes:
        upsert = Upsert(PARTIES, request.party, "party", may_exist=False)
        return await mutate_one(self._database, self._keyring, request, caller, upsert)

    async def GetParty(self, request: GetPartyRequest, caller: Caller) -> bytes:
        return await party_get(self._database, caller.tenant_id, PartyKey.of(request.country_code, request.party_id))

    async def ListParties(self, request: ListPartiesRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await party_page(self._database, caller.tenant_id, after, size + 1)
        return list_response(request, rows, size)

    async def UpdateParty(self, request: UpdatePartyRequest, caller: Caller) -> bytes:
        mask = request.update_mask.paths
        upsert = Upsert(PARTIES, request.party, "party", may_be_missing=False, mask=mask)
        return await mutate_one(self._database, self._keyring, request, caller, upsert)

    async def DeleteParty(self, request: DeletePartyRequest, caller: Caller) -> bytes:
        key = PartyKey.of(request.country_code, request.party_id)
        return await mutate_delete(self._database, self._keyring, request, caller, PARTIES, key)
