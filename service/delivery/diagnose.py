"""Whether a partner can be reached and understands us: one harmless question, told as steps."""

import time
from typing import cast

import grpc
from evbridge.partner.chargeprice.v1.company_pb2 import ListCompaniesRequest
from evbridge.partner.chargeprice.v1.company_pb2_grpc import CompanyServiceStub

from service.bridge.channel import TENANT_METADATA, PartnerChannel
from service.delivery.runs import Progress
from service.errors import PartnerCredentialRefused, PartnerError
from service.storage.run import RunClaim

_FAST_S, _SLOW_S = 1.0, 5.0


class ChargepriceDiagnosis:
    """Asks Chargeprice for one company."""

    def __init__(self, channel: PartnerChannel) -> None:
        # Grpc-shaped as far as a stub looks.
        self._stub = CompanyServiceStub(cast(grpc.aio.Channel, channel))

    async def execute(self, run: RunClaim, progress: Progress) -> None:
        """Raises what the channel raises."""
        started = time.monotonic()
        progress.count(0, 1, "asks for one company")
        progress.begin("address")
        try:
            request = ListCompaniesRequest(integration_id=run.integration_id, page_size=1)
            await self._stub.ListCompanies(request, metadata=((TENANT_METADATA, run.tenant_id),))
        except PartnerError as error:
            _tell(error, progress)
            raise
        progress.begin("credential")
        progress.begin("answer")
        progress.begin("duration", _duration_class(time.monotonic() - started))
        progress.count(1, 1)


def _tell(error: PartnerError, progress: Progress) -> None:
    """Leaves the step under way that failed with `error`."""
    if not error.http_status:
        return
    if isinstance(error, PartnerCredentialRefused):
        progress.begin("credential")
        return
    if error.http_status < 300:
        progress.begin("credential")
    else:
        progress.skip("credential", "not known: the partner answered with an error")
    progress.begin("answer")


def _duration_class(elapsed_s: float) -> str:
    """Of the whole exchange, with the wait for a request slot."""
    if elapsed_s < _FAST_S:
        return f"fast: less than {_FAST_S:g} s"
    return f"slow: less than {_SLOW_S:g} s" if elapsed_s < _SLOW_S else f"very slow: {_SLOW_S:g} s or more"
