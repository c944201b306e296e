"""Parties: how they are stored and deleted."""

from collections.abc import Collection, Mapping, Sequence

from evbridge.v1.delivery_pb2 import OBJECT_KIND_HUB_CLIENT, OBJECT_KIND_PARTY
from evbridge.v1.party_pb2 import Party

from service.domain.hub_client import hubs_of
from service.domain.keys import PartyKey
from service.errors import PartyInUse
from service.resources.noun import Noun
from service.storage.connection import Connection
from service.storage.marking import mark_sharing
from service.storage.party import party_delete, party_insert, party_lock, party_objects, party_replace


class Parties(Noun[Party]):
    noun = "party"
    kind = OBJECT_KIND_PARTY

    def key_of(self, sent: Party) -> PartyKey:
        return PartyKey.of(sent.country_code, sent.party_id)

    async def lock(
        self, conn: Connection, tenant_id: str, keys: Collection[PartyKey]
    ) -> Mapping[PartyKey, Party | None]:
        return {key: party for key in keys if (party := await party_lock(conn, tenant_id, key))}

    async def write(
        self, conn: Connection, tenant_id: str, objects: Sequence[Party], locked: Mapping[PartyKey, Party | None]
    ) -> None:
        for party in objects:
            store = party_replace if self.key_of(party) in locked else party_insert
            await store(conn, tenant_id, party)
            before = locked.get(self.key_of(party))
            if before and hubs_of([party]) != hubs_of([before]):
                await mark_sharing(conn, tenant_id, OBJECT_KIND_HUB_CLIENT, ["".join(self.key_of(party))])

    async def remove(self, conn: Connection, tenant_id: str, key: PartyKey) -> None:
        tariffs, locations, tokens, integrations = await party_objects(conn, tenant_id, key)
        if tariffs or locations or tokens or integrations:
            raise PartyInUse(
                f"the party has {tariffs} tariffs, {locations} locations, {tokens} tokens "
                f"and {integrations} integrations",
                tariffs=str(tariffs),
                locations=str(locations),
                tokens=str(tokens),
                integrations=str(integrations),
            )
        await party_delete(conn, tenant_id, key)

    def keep(self, wanted: Party, before: Party | None) -> None:
        wanted.country_code, wanted.party_id = self.key_of(before or wanted)


PARTIES = Parties()
