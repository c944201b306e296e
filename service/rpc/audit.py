"""evbridge.v1.AuditService."""

from evbridge.v1.audit_pb2 import ListAuditEventsRequest

from service.domain.caller import Caller
from service.domain.pages import key_before, page_response, page_size
from service.resources.audit import audit_object_ids
from service.storage.audit import audit_page
from service.storage.keyring import Keyring
from service.storage.pool import Database


class AuditService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def ListAuditEvents(self, request: ListAuditEventsRequest, caller: Caller) -> bytes:
        ids = audit_object_ids(self._keyring, caller.tenant_id, request.object_id)
        after, size = key_before(request), page_size(request.page_size)
        page = await audit_page(self._database, caller.tenant_id, request, ids, after, size)
        return page_response(request, *page)
