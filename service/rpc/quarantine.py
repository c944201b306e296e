"""evbridge.v1.QuarantineService."""

from datetime import datetime

from evbridge.v1.quarantine_pb2 import (
    DeleteQuarantinedObjectRequest,
    GetQuarantinedObjectRequest,
    ListQuarantinedObjectsRequest,
    QuarantinedObject,
)
from google.protobuf.empty_pb2 import Empty

from service.domain.caller import Caller
from service.domain.pages import list_response, page_size, position_before
from service.resources.mutation import mutate
from service.storage.connection import Connection
from service.storage.integration import integration_get
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.quarantine import quarantine_delete, quarantine_get, quarantine_page


class QuarantineService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def GetQuarantinedObject(self, request: GetQuarantinedObjectRequest, caller: Caller) -> QuarantinedObject:
        return await quarantine_get(self._database, caller.tenant_id, request.id)

    async def ListQuarantinedObjects(self, request: ListQuarantinedObjectsRequest, caller: Caller) -> bytes:
        before, size = position_before(request), page_size(request.page_size)
        key = (caller.tenant_id, request.integration_id)
        await integration_get(self._database, *key)
        rows = await quarantine_page(self._database, *key, request.object_kind, before, size + 1)
        return list_response(request, rows, size)

    async def DeleteQuarantinedObject(self, request: DeleteQuarantinedObjectRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Empty:
            await quarantine_delete(conn, caller.tenant_id, request.id)
            return Empty()

        return await mutate(self._database, self._keyring, request, caller, work)
