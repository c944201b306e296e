"""evbridge.v1.PartyService."""

from datetime import datetime

from evbridge.v1.delivery_pb2 import OBJECT_KIND_PARTY
from evbridge.v1.party_pb2 import (
    CreatePartyRequest,
    DeletePartyRequest,
    GetPartyRequest,
    ListPartiesRequest,
    Party,
    UpdatePartyRequest,
)
from google.protobuf.empty_pb2 import Empty

from service.domain.caller import Caller
from service.domain.content import etag_of
from service.domain.fields import clear_output_only
from service.domain.keys import PartyKey
from service.domain.masks import merged
from service.domain.pages import key_before, list_response, page_size
from service.domain.validation import validate
from service.domain.versions import check_etag
from service.errors import PartyInUse, ResourceNotFound
from service.resources.mutation import mutate
from service.storage.changes import CREATE, DELETE, UPDATE, change_record
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.party import (
    party_delete,
    party_get,
    party_insert,
    party_lock,
    party_objects,
    party_page,
    party_replace,
)
from service.storage.pool import Database


class PartyService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def CreateParty(self, request: CreatePartyRequest, caller: Caller) -> bytes:
        party = _normalised(request.party)
        key = PartyKey(party.country_code, party.party_id)

        async def work(conn: Connection, now: datetime) -> Party:
            party.create_time.FromDatetime(now)
            party.update_time.FromDatetime(now)
            party.etag = etag_of(party)
            await party_insert(conn, caller.tenant_id, party)
            await change_record(conn, caller, OBJECT_KIND_PARTY, str(key), CREATE, party.etag)
            return party

        return await mutate(self._database, self._keyring, request, caller, work)

    async def GetParty(self, request: GetPartyRequest, caller: Caller) -> bytes:
        return await party_get(self._database, caller.tenant_id, PartyKey.of(request.country_code, request.party_id))

    async def ListParties(self, request: ListPartiesRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await party_page(self._database, caller.tenant_id, after, size + 1)
        return list_response(request, rows, size)

    async def UpdateParty(self, request: UpdatePartyRequest, caller: Caller) -> bytes:
        key = PartyKey.of(request.party.country_code, request.party.party_id)

        async def work(conn: Connection, now: datetime) -> Party:
            stored = await party_lock(conn, caller.tenant_id, key)
            check_etag(request.party.etag, stored.etag, "party", str(key))
            wanted = merged(stored, request.party, request.update_mask.paths)
            wanted.country_code, wanted.party_id = key
            validate(wanted, prefix="party.")
            party = _normalised(wanted)
            party.create_time.CopyFrom(stored.create_time)
            party.update_time.FromDatetime(now)
            party.etag = etag_of(party)
            if party.etag == stored.etag:
                return stored
            await party_replace(conn, caller.tenant_id, party)
            await change_record(conn, caller, OBJECT_KIND_PARTY, str(key), UPDATE, party.etag)
            return party

        return await mutate(self._database, self._keyring, request, caller, work)

    async def DeleteParty(self, request: DeletePartyRequest, caller: Caller) -> bytes:
        key = PartyKey.of(request.country_code, request.party_id)

        async def work(conn: Connection, now: datetime) -> Empty:
            try:
                stored = await party_lock(conn, caller.tenant_id, key)
            except ResourceNotFound:
                if request.allow_missing:
                    return Empty()
                raise
            check_etag(request.etag, stored.etag, "party", str(key))
            tariffs, locations, integrations = await party_objects(conn, caller.tenant_id, key)
            if tariffs or locations or integrations:
                raise PartyInUse(
                    f"the party has {tariffs} tariffs, {locations} locations and {integrations} integrations",
                    tariffs=str(tariffs),
                    locations=str(locations),
                    integrations=str(integrations),
                )
            await party_delete(conn, caller.tenant_id, key)
            await change_record(conn, caller, OBJECT_KIND_PARTY, str(key), DELETE, stored.etag)
            return Empty()

        return await mutate(self._database, self._keyring, request, caller, work)


def _normalised(sent: Party) -> Party:
    """Our copy: the key in upper case, nothing that only we may set, no field that we do not know."""
    party = Party()
    party.CopyFrom(sent)
    party.DiscardUnknownFields()
    clear_output_only(party)
    party.country_code, party.party_id = PartyKey.of(party.country_code, party.party_id)
    return party
