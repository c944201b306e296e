"""Companies: how they are stored and deleted."""

from collections.abc import Mapping, Sequence

from evbridge.v1.company_pb2 import Company
from evbridge.v1.delivery_pb2 import OBJECT_KIND_COMPANY

from service.domain.versions import check_version
from service.resources.noun import Noun
from service.storage.company import company_lock, company_put, company_tombstone
from service.storage.connection import Connection


class Companies(Noun[Company]):
    noun = "company"
    kind = OBJECT_KIND_COMPANY
    lock = staticmethod(company_lock)
    remove = staticmethod(company_tombstone)

    def key_of(self, sent: Company) -> str:
        return sent.id.lower()

    async def write(
        self, conn: Connection, tenant_id: str, objects: Sequence[Company], locked: Mapping[str, Company | None]
    ) -> None:
        for company in objects:
            await company_put(conn, tenant_id, company, is_new=company.id not in locked)

    def check_version(self, sent: Company, before: Company | None) -> None:
        check_version(sent.version, before.version if before else 0)

    def clean(self, wanted: Company) -> None:
        wanted.id = wanted.id.lower()
        wanted.supported_emp_ids[:] = [id.lower() for id in wanted.supported_emp_ids]
        if wanted.cpo_group_id:
            wanted.cpo_group_id = wanted.cpo_group_id.lower()
        if wanted.emp_group_id:
            wanted.emp_group_id = wanted.emp_group_id.lower()


COMPANIES = Companies()
