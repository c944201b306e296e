"""evbridge.v1.TokenService."""

from evbridge.v1.token_pb2 import (
    BatchGetTokensRequest,
    BatchUpsertTokensRequest,
    BatchUpsertTokensResponse,
    CreateTokenRequest,
    DeleteTokenRequest,
    GetTokenRequest,
    ListTokensRequest,
    UpdateTokenRequest,
)

from service.domain.caller import Caller
from service.domain.pages import batch_response, key_before, list_response, page_size
from service.domain.token import token_key
from service.resources.mutation import mutate_delete, mutate_many, mutate_one
from service.resources.noun import Upsert
from service.resources.token import TOKENS
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.token import token_get, token_get_many, token_page


class TokenService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def CreateToken(self, request: CreateTokenRequest, caller: Caller) -> bytes:
        upsert = Upsert(TOKENS, request.token, "token", may_exist=False)
        return await mutate_one(self._database, self._keyring, request, caller, upsert)

    async def GetToken(self, request: GetTokenRequest, caller: Caller) -> bytes:
        return await token_get(self._database, caller.tenant_id, token_key(request.key))

    async def BatchGetTokens(self, request: BatchGetTokensRequest, caller: Caller) -> bytes:
        return batch_response(
            await token_get_many(self._database, caller.tenant_id, [token_key(key) for key in request.keys])
        )

    async def ListTokens(self, request: ListTokensRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = await token_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def UpdateToken(self, request: UpdateTokenRequest, caller: Caller) -> bytes:
        mask = request.update_mask.paths
        upsert = Upsert(TOKENS, request.token, "token", may_be_missing=request.allow_missing, mask=mask)
        return await mutate_one(self._database, self._keyring, request, caller, upsert)

    async def BatchUpsertTokens(self, request: BatchUpsertTokensRequest, caller: Caller) -> bytes:
        upserts = [
            Upsert(TOKENS, token, f"tokens[{number}]", may_be_missing=request.allow_missing)
            for number, token in enumerate(request.tokens)
        ]
        return await mutate_many(self._database, self._keyring, request, caller, upserts, BatchUpsertTokensResponse)

    async def DeleteToken(self, request: DeleteTokenRequest, caller: Caller) -> bytes:
        key = token_key(request.key)
        return await mutate_delete(self._database, self._keyring, request, caller, TOKENS, key)
