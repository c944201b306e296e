"""evbridge.v1.CompanyService."""

from evbridge.v1.company_pb2 import (
    DeleteCompanyRequest,
    GetCompanyRequest,
    ListCompaniesRequest,
    UpsertCompanyRequest,
)

from service.domain.caller import Caller
from service.domain.pages import list_response, page_size, uuid_before
from service.resources.company import COMPANIES
from service.resources.mutation import mutate_delete, mutate_one
from service.resources.noun import Upsert
from service.storage.company import company_get, company_page
from service.storage.keyring import Keyring
from service.storage.pool import Database


class CompanyService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def UpsertCompany(self, request: UpsertCompanyRequest, caller: Caller) -> bytes:
        upsert = Upsert(COMPANIES, request.company, "company")
        return await mutate_one(self._database, self._keyring, request, caller, upsert)

    async def GetCompany(self, request: GetCompanyRequest, caller: Caller) -> bytes:
        return await company_get(self._database, caller.tenant_id, request.id)

    async def ListCompanies(self, request: ListCompaniesRequest, caller: Caller) -> bytes:
        after, size = uuid_before(request), page_size(request.page_size)
        rows = await company_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def DeleteCompany(self, request: DeleteCompanyRequest, caller: Caller) -> bytes:
        return await mutate_delete(self._database, self._keyring, request, caller, COMPANIES, request.id.lower())
