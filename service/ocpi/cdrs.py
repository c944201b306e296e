"""OCPI's CDRs module: what a partner sees of ours, and what operators record here. Source: OCPI 2.2.1, cdrs."""

from dataclasses import replace
from urllib.parse import quote

from evbridge.partner.ocpi.v2 import cdrs_pb2 as ocpi
from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CDR
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO

from service.bridge.edge import Reply
from service.ocpi.listener import Visit
from service.ocpi.modules import (
    caller_of,
    document_in,
    done,
    key_in,
    key_in_body,
    refusing,
    sender_of,
    shown,
    stored_of,
    unknown,
)
from service.ocpi.pages import Documents, page
from service.partners.ocpi.received import owners
from service.resources.received_cdr import cdr_received, received_cdr
from service.runs.worker import Tools


class CdrsSender:
    """evbridge.partner.ocpi.v2.CdrsSenderService, served: the partner's view."""

    def __init__(self, tools: Tools, documents: Documents) -> None:
        self._tools = tools
        self._documents = documents

    async def ListCdrs(self, request: ocpi.ListCdrsRequest, visit: Visit) -> Reply:
        return await page(self._tools, self._documents, OBJECT_KIND_CDR, Cdr, visit)


class CdrsReceiver:
    """evbridge.partner.ocpi.v2.CdrsReceiverService, served."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def GetReceivedCdr(self, request: ocpi.GetReceivedCdrRequest, visit: Visit) -> Reply:
        key = key_in(request, request.cdr_id, visit)
        with refusing():
            return await shown(await received_cdr(self._tools.database, visit.tenant_id, key))

    async def GetCdrAt(self, request: ocpi.GetCdrAtRequest, visit: Visit) -> Reply:
        """Of ours each has a URL below this one, which the answer to its POST names."""
        raise unknown()

    async def PostCdr(self, request: ocpi.PostCdrRequest, visit: Visit) -> Reply:
        """The same CDR once more is answered as the first time."""
        document = await document_in(visit)
        issuers = owners(await stored_of(self._tools, visit), PARTY_ROLE_CPO)
        key = key_in_body(document, visit, *issuers[:1])
        sender = await sender_of(self._tools, visit, key, PARTY_ROLE_CPO)
        with refusing(visit.version, "Cdr"):
            receipt = await cdr_received(self._tools.database, caller_of(visit), sender, key, document)
        place = "/".join(quote(text, safe="") for text in (*key.party, document["id"]))
        url = f"{self._tools.door.url}{visit.call.path.rstrip('/')}/{place}"
        return replace(done(receipt, key), headers={"Location": url})
