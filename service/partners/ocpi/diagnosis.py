"""Whether an OCPI party can be reached: it is asked for its versions."""

from evbridge.partner.ocpi.v2.versions_pb2 import ListVersionsRequest
from evbridge.partner.ocpi.v2.versions_pb2_grpc import VersionsServiceStub

from service.runs.diagnosis import Diagnosis
from service.storage.run import RunClaim


class OcpiDiagnosis(Diagnosis):
    question = "asks for the versions"

    async def ask(self, run: RunClaim) -> None:
        request = ListVersionsRequest(integration_id=run.integration_id)
        stub = self._tools.channel.stub(VersionsServiceStub, run.tenant_id)
        await stub.ListVersions(request)
