"""evbridge.v1.AuditService."""

from evbridge.v1.audit_pb2 import ListAuditEventsRequest

from service.domain.caller import Caller
from service.domain.pages import key_before, page_response, page_size
from service.storage.audit import audit_page
from service.storage.pool import Database


class AuditService:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def ListAuditEvents(self, request: ListAuditEventsRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        return page_response(request, *await audit_page(self._database, caller.tenant_id, request, after, size))
