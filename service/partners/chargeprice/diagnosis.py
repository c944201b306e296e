"""Whether Chargeprice can be reached: it is asked for one company."""

from evbridge.partner.chargeprice.v1.company_pb2 import ListCompaniesRequest
from evbridge.partner.chargeprice.v1.company_pb2_grpc import CompanyServiceStub

from service.runs.diagnosis import Diagnosis
from service.storage.run import RunClaim


class ChargepriceDiagnosis(Diagnosis):
    question = "asks for one company"

    async def ask(self, run: RunClaim) -> None:
        request = ListCompaniesRequest(integration_id=run.integration_id, page_size=1)
        stub = self._tools.channel.stub(CompanyServiceStub, run.tenant_id)
        await stub.ListCompanies(request)
