"""evbridge.v1.HubClientService."""

from evbridge.v1.hub_client_pb2 import ListHubClientsRequest

from service.domain.caller import Caller
from service.domain.pages import key_before, list_response, page_size
from service.storage.hub_client import hub_client_page
from service.storage.pool import Database


class HubClientService:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def ListHubClients(self, request: ListHubClientsRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await hub_client_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)
