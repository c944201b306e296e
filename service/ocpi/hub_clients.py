"""OCPI's hubclientinfo module: hubs tell who is connected to them, as we do when we are one.

Source: OCPI 2.2.1, hub client info.
"""

from typing import Any

from evbridge.partner.ocpi.v2 import hub_client_info_pb2 as ocpi
from evbridge.v1.delivery_pb2 import OBJECT_KIND_HUB_CLIENT
from evbridge.v1.hub_client_pb2 import HubClient
from evbridge.v1.party_pb2 import PARTY_ROLE_HUB

from service.bridge.edge import Reply
from service.domain.keys import ObjectKey
from service.ocpi.listener import OcpiRefused, Visit
from service.ocpi.modules import caller_of, check_owner, document_in, done, refusing, sender_of, shown
from service.ocpi.pages import Documents, page
from service.resources.received_hub_client import hub_client_received, received_hub_client
from service.runs.worker import Tools

_ROLES = ("CPO", "EMSP", "HUB", "NAP", "NSP", "OTHER", "SCSP")


class HubClientInfoSender:
    """evbridge.partner.ocpi.v2.HubClientInfoSenderService, served: who else is connected to the hub that we are."""

    def __init__(self, tools: Tools, documents: Documents) -> None:
        self._tools = tools
        self._documents = documents

    async def ListClientInfo(self, request: ocpi.ListClientInfoRequest, visit: Visit) -> Reply:
        return await page(self._tools, self._documents, OBJECT_KIND_HUB_CLIENT, HubClient, visit)


class HubClientInfoReceiver:
    """evbridge.partner.ocpi.v2.HubClientInfoReceiverService, served."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def GetClientInfo(self, request: ocpi.GetClientInfoRequest, visit: Visit) -> Reply:
        """The URL has no role: of a party in several, the first."""
        for role in _ROLES:
            key = _key(request, role, visit)
            try:
                with refusing():
                    return await shown(await received_hub_client(self._tools.database, visit.tenant_id, key))
            except OcpiRefused:
                continue
        raise OcpiRefused(2003, "unknown here", status=404)

    async def PutClientInfo(self, request: ocpi.PutClientInfoRequest, visit: Visit) -> Reply:
        document = await document_in(visit)
        role = document.get("role")
        if role not in _ROLES:
            raise OcpiRefused(2001, "role must be that of a party, such as CPO")
        key = _key(request, str(role), visit)
        check_owner(document, key)
        sender = await sender_of(self._tools, visit, key, PARTY_ROLE_HUB)
        with refusing():
            receipt = await hub_client_received(self._tools.database, caller_of(visit), sender, key, document)
        return done(receipt, key)


def _key(request: Any, role: str, visit: Visit) -> ObjectKey:
    return ObjectKey.of(request.country_code, request.party_id, role, visit.integration_id)
