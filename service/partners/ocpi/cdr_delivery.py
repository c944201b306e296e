"""Sends a CDR to the eMSP, once. Source: OCPI 2.2.1, cdrs, Receiver interface."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urljoin

from evbridge.partner.ocpi.v2.cdrs_pb2 import GetCdrAtRequest, PostCdrRequest
from evbridge.partner.ocpi.v2.cdrs_pb2_grpc import CdrsReceiverServiceStub
from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CDR
from google.protobuf.struct_pb2 import Struct

from service.bridge.channel import PartnerChannel
from service.delivery.once import recorded
from service.delivery.worker import Delivered
from service.domain.partner_error import PartnerNotFound, PartnerOutcomeUnknown
from service.errors import EgressDenied
from service.partners.ocpi.mapping import answered, object_to, struct_of
from service.storage.delivery import Claim, delivery_resume
from service.storage.peer import Peer, peer_acknowledged, peer_example
from service.storage.pool import Database

_POST: Final = "/evbridge.partner.ocpi.v2.CdrsReceiverService/PostCdr"
_MAX_URL: Final = 2000


class CdrDelivery:
    """One attempt, at the receiver at `url`. It is how `recorded` asks the partner.

    Where a CDR's URL is not known, since the answer that held it was lost, it is made after that of another CDR: one
    whose URL holds its id says what this one's is.
    """

    partner = "ocpi"

    def __init__(
        self, database: Database, channel: PartnerChannel, claim: Claim, cdr: Cdr, *, version: str, url: str
    ) -> None:
        self._database = database
        self._channel = channel
        self._claim = claim
        self._cdr = cdr
        self._version = version
        self._url = url
        self._cdrs = channel.stub(CdrsReceiverServiceStub, claim.tenant_id)

    async def deliver(self, peer: Peer) -> Delivered:
        delivered = await recorded(self._database, self._claim, peer, self._cdr, self)
        linked = delivered.peer
        tells = delivered.answered and linked and _tells(linked.external_id, self._cdr)
        if linked and tells and not await self._url_by_example():
            # The first URL of that kind tells where those are whose outcome is unknown.
            async with self._database.transaction() as conn:
                await peer_acknowledged(conn, self._claim, linked)
            await delivery_resume(self._database, self._claim, OBJECT_KIND_CDR, PartnerOutcomeUnknown.reason)
        return delivered

    async def create(self) -> str:
        request = PostCdrRequest(integration_id=self._claim.integration_id, url=self._url)
        request.object.CopyFrom(await asyncio.to_thread(_body, self._cdr, self._version))
        operation = self._channel.registry.operations[_POST]
        answer = await self._channel.call(operation, request, tenant_id=self._claim.tenant_id)
        return _location(answer.headers, self._url)

    async def found(self, external_id: str) -> str | None:
        certain = external_id or await self._url_by_example()
        url = certain or f"{self._url.rstrip('/')}/{_quoted(self._cdr)}"
        try:
            answer = await self._cdrs.GetCdrAt(GetCdrAtRequest(integration_id=self._claim.integration_id, url=url))
        except PartnerNotFound as error:
            # An outage may answer 404, too; and where nobody said that it would be, nothing is no proof.
            return "" if certain and error.partner_code.startswith("2") else None
        except EgressDenied:
            return None
        id = answered(answer.data).get("id")
        return url if isinstance(id, str) and id.casefold() == self._cdr.id.casefold() else None

    async def _url_by_example(self) -> str:
        """ "" when no CDR is known at a URL that holds its id once."""
        example = await peer_example(self._database, self._claim)
        if example is None:
            return ""
        cdr = Cdr.FromString(example.sent_document or b"")
        if not _tells(example.external_id, cdr):
            return ""
        base, _, last = example.external_id.rpartition("/")
        return f"{base}/{last.replace(_quoted(cdr), _quoted(self._cdr))}"


def _tells(url: str, cdr: Cdr) -> bool:
    """Whether the URL of a CDR says what those of others are: it holds the id once, and in the same case."""
    return bool(cdr.id) and url.rpartition("/")[2].count(_quoted(cdr)) == 1


def _quoted(cdr: Cdr) -> str:
    return quote(cdr.id, safe="")


def _body(cdr: Cdr, version: str) -> Struct:
    return struct_of(object_to(cdr, version).object)


def _location(headers: Mapping[str, str], url: str) -> str:
    """Where the CDR is at the partner; "" when it does not say, or says it in no usable way."""
    location: Any = headers.get("Location", "").strip()
    found = urljoin(f"{url.rstrip('/')}/", location) if location else ""
    return found if found.isascii() and found.isprintable() and len(found) <= _MAX_URL else ""
