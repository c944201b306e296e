"""evbridge.v1.KeyService."""

from collections.abc import Collection
from datetime import datetime
from uuid import uuid4

from evbridge.v1.api_key_pb2 import (
    CreateKeyRequest,
    CreateKeyResponse,
    GetKeyRequest,
    Key,
    ListKeysRequest,
    RevokeKeyRequest,
)

from service.domain.caller import Caller
from service.domain.pages import key_before, list_response, page_size
from service.resources.api_key import key_make
from service.resources.mutation import mutate
from service.storage.api_key import api_key_get, api_key_page, api_key_revoke, key_of
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.pool import Database


class KeyService:
    """`services`: the names of those that a key may be limited to."""

    def __init__(self, database: Database, keyring: Keyring, services: Collection[str]) -> None:
        self._database = database
        self._keyring = keyring
        self._services = services

    async def CreateKey(self, request: CreateKeyRequest, caller: Caller) -> CreateKeyResponse:
        # The same request id makes the same key, so that its secret need not be kept to answer the same.
        name = f"{caller.tenant_id}/{request.request_id.lower() or uuid4()}"
        secret = key_of(self._keyring.digest("new-api-key", name.encode()))

        async def work(conn: Connection, now: datetime) -> CreateKeyResponse:
            await key_make(conn, self._keyring, caller, now, request.key, secret, self._services)
            return CreateKeyResponse(key=request.key)

        made = CreateKeyResponse.FromString(await mutate(self._database, self._keyring, request, caller, work))
        if not request.validate_only:
            made.secret = secret.reveal()
        return made

    async def GetKey(self, request: GetKeyRequest, caller: Caller) -> Key:
        return await api_key_get(self._database, caller.tenant_id, request.id)

    async def ListKeys(self, request: ListKeysRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await api_key_page(self._database, caller.tenant_id, after, size + 1, ended=request.show_ended)
        return list_response(request, rows, size)

    async def RevokeKey(self, request: RevokeKeyRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Key:
            await api_key_revoke(conn, caller.tenant_id, request.id)
            return await api_key_get(conn, caller.tenant_id, request.id)

        return await mutate(self._database, self._keyring, request, caller, work)
