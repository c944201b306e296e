"""evbridge.v1.CompanyService."""

from datetime import datetime

from evbridge.v1.company_pb2 import (
    Company,
    DeleteCompanyRequest,
    GetCompanyRequest,
    ListCompaniesRequest,
    UpsertCompanyRequest,
)
from evbridge.v1.delivery_pb2 import OBJECT_KIND_COMPANY
from google.protobuf.empty_pb2 import Empty

from service.domain.caller import Caller
from service.domain.content import etag_of
from service.domain.fields import clear_output_only
from service.domain.pages import list_response, page_size, uuid_before
from service.domain.versions import check_etag, check_version
from service.errors import ResourceNotFound
from service.resources.mutation import mutate
from service.storage.changes import CREATE, DELETE, UPDATE, change_record
from service.storage.company import company_get, company_lock, company_page, company_put, company_tombstone
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.pool import Database


class CompanyService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def UpsertCompany(self, request: UpsertCompanyRequest, caller: Caller) -> bytes:
        company = _normalised(request.company)

        async def work(conn: Connection, now: datetime) -> Company:
            stored = await company_lock(conn, caller.tenant_id, company.id)
            check_version(company.version, stored.version if stored else 0)
            exists = stored is not None and not stored.deleted
            company.update_time.FromDatetime(now)
            company.create_time.CopyFrom(
                Company.FromString(stored.payload).create_time if stored and exists else company.update_time
            )
            company.etag = etag_of(company)
            await company_put(conn, caller.tenant_id, company, stored)
            operation = UPDATE if exists else CREATE
            await change_record(conn, caller, OBJECT_KIND_COMPANY, company.id, operation, company.etag)
            return company

        return await mutate(self._database, self._keyring, request, caller, work)

    async def GetCompany(self, request: GetCompanyRequest, caller: Caller) -> bytes:
        return await company_get(self._database, caller.tenant_id, request.id)

    async def ListCompanies(self, request: ListCompaniesRequest, caller: Caller) -> bytes:
        after, size = uuid_before(request), page_size(request.page_size)
        rows = await company_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def DeleteCompany(self, request: DeleteCompanyRequest, caller: Caller) -> bytes:
        company_id = request.id.lower()

        async def work(conn: Connection, now: datetime) -> Empty:
            stored = await company_lock(conn, caller.tenant_id, company_id)
            if stored is None or stored.deleted:
                if request.allow_missing:
                    return Empty()
                raise ResourceNotFound.of("company", company_id)
            check_etag(request.etag, stored.etag, "company", company_id)
            await company_tombstone(conn, caller.tenant_id, company_id)
            await change_record(conn, caller, OBJECT_KIND_COMPANY, company_id, DELETE, stored.etag)
            return Empty()

        return await mutate(self._database, self._keyring, request, caller, work)


def _normalised(sent: Company) -> Company:
    """Our copy: ids in lower case, nothing that only we may set, no field that we do not know."""
    company = Company()
    company.CopyFrom(sent)
    company.DiscardUnknownFields()
    clear_output_only(company)
    company.id = company.id.lower()
    company.supported_emp_ids[:] = [id.lower() for id in company.supported_emp_ids]
    if company.cpo_group_id:
        company.cpo_group_id = company.cpo_group_id.lower()
    if company.emp_group_id:
        company.emp_group_id = company.emp_group_id.lower()
    return company
