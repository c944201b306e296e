"""evbridge.v1.DisclosureService."""

from evbridge.v1.disclosure_pb2 import Disclosure, GetDisclosureRequest, ListDisclosuresRequest

from service.domain.caller import Caller
from service.domain.pages import list_response, page_size, position_before
from service.storage.disclosure import disclosure_get, disclosure_page
from service.storage.integration import integration_get
from service.storage.pool import Database


class DisclosureService:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetDisclosure(self, request: GetDisclosureRequest, caller: Caller) -> Disclosure:
        return await disclosure_get(self._database, caller.tenant_id, request.id)

    async def ListDisclosures(self, request: ListDisclosuresRequest, caller: Caller) -> bytes:
        before, size = position_before(request), page_size(request.page_size)
        key = (caller.tenant_id, request.integration_id)
        await integration_get(self._database, *key)
        rows = await disclosure_page(self._database, *key, request.object_id, before, size + 1)
        return list_response(request, rows, size)
